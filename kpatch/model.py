# SPDX-License-Identifier: GPL-2.0-only
"""The data that stages pass to the next stage: frozen dataclasses without logic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from kpatch.tables.outcomes import CheckOutcome


@dataclass(frozen=True)
class Tree:
    """A kernel tree in the cache. No stage writes to its folder ``path``.

    ``version`` is the full version ("7.3.4"), ``base`` its release line ("7.3"), ``provider`` one
    of debian, git, folder, tarball; ``origin`` records the exact source (package and version;
    repository, ref and commit; sha256). ``tree_id`` is an id of the content. ``cached`` is true if
    the tree was in the cache before this run.
    """

    path: Path
    version: str
    base: str
    provider: str
    origin: dict[str, str]
    tree_id: str
    cached: bool


class Origin(Enum):
    """Where a series comes from."""

    CONTROL = "control"
    """The negative control: no patch."""
    CARRIED = "carried"
    """A series of this project, in kpatch/series/carried."""
    MBOX = "mbox"
    """Mail that the user named: a file, a folder, or standard input."""

    @property
    def trusted(self) -> bool:
        """Return whether the series is part of this project: CONTROL and CARRIED.

        Then the guest does not detect its mechanism, which is declared, and its build shares the
        worktree and ccache's objects with the build of the unpatched kernel.
        """
        return self is not Origin.MBOX


@dataclass(frozen=True)
class Series:
    """Ordered patches for one base. The negative control is the series without patches.

    ``mailboxes`` are the files or folders of its mail, in order. ``mechanism`` is netlink,
    eventfd, …, "none" for the control, "undetected" if the guest has to detect it.

    The other fields are set when the series is applied: ``base_commit`` and ``prerequisites`` (git
    patch-ids) are the statements of the mail about the base; ``subject`` and ``message_id`` are
    those of the cover letter, or else of the first patch; ``version`` is 2 for [PATCH v2 …].
    """

    name: str
    title: str
    mechanism: str
    mailboxes: tuple[Path, ...]
    origin: Origin
    base_commit: str = ""
    prerequisites: tuple[str, ...] = ()
    subject: str = ""
    message_id: str = ""
    version: int = 1


@dataclass(frozen=True)
class MechanismFolder:
    """A mechanism that is not the project's: the content of the folder in MECHANISM=.

    ``path`` is the folder as the user named it. ``requirements`` are the ids of those that the
    mechanism claims to meet; ``limits`` has, for some of them, the reason why it is known not to.
    ``modules`` has the text of mechanism.py and of the modules beside it, by file name. ``digest``
    is a digest of all of it.
    """

    path: Path
    name: str
    description: str
    requirements: tuple[str, ...]
    limits: Mapping[str, str]
    modules: Mapping[str, str]
    digest: str


@dataclass(frozen=True)
class Patch:
    """One patch of a series, decoded from its mail.

    ``number`` counts from 1 to ``total``. ``subject`` is the title without tags, ``tagged`` the
    mail's whole subject ("[PATCH v2 1/3] vfio: …"), ``message`` the commit message below the title,
    ``author`` a name and an address, ``message_id`` the Message-ID of the mail without angle
    brackets, "" if it has none, ``sender`` the address in its From header: a From line in its text
    may name another author. ``paths`` are all paths in the ``diff``, old and new. ``strip`` is the
    -p of git apply. ``flowed`` is true if the mail came as format=flowed, which may damage it.
    """

    number: int
    total: int
    subject: str
    message: str
    author: tuple[str, str]
    diff: bytes
    paths: tuple[str, ...]
    strip: int = 1
    flowed: bool = False
    tagged: str = ""
    message_id: str = ""
    sender: str = ""

    def __str__(self) -> str:
        return f"patch {self.number}/{self.total} ({self.subject})"


@dataclass(frozen=True)
class Change:
    """One file that a series changes: its path in the tree, its new content, and its mode.

    ``content`` is None if the series deletes the file. ``executable`` means mode 100755.
    """

    path: str
    content: bytes | None
    executable: bool = False


@dataclass(frozen=True)
class Applied:
    """A series applied to a tree. The tree is not changed; the changed files are in ``changes``.

    ``changes`` are sorted by path; ``delta_id`` is a digest of them. ``steps`` has an entry for
    each patch of ``patches``: the changes that this patch and all patches before it make together.
    `kpatch.series.apply.after` makes an Applied from such an entry.
    """

    tree: Tree
    series: Series
    patches: tuple[Patch, ...]
    changes: tuple[Change, ...]
    delta_id: str
    steps: tuple[tuple[Change, ...], ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """Return the titles of the patches, in order."""
        return tuple(patch.subject for patch in self.patches)


@dataclass(frozen=True)
class Config:
    """A complete .config: its text, and ``config_id``, a digest of the text.

    ``flavor`` is the name of its flavor or variant. ``cached`` is true if it was in the cache.
    """

    flavor: str
    text: str
    config_id: str
    cached: bool


@dataclass(frozen=True)
class Kernel:
    """A built kernel: the folder ``path`` contains bzImage, config, System.map and build.log.

    ``compiler`` is the identity of compiler and linker. ``kernel_id`` is a digest of all input of
    the build. ``cached`` is true if the kernel was in the cache.
    """

    applied: Applied
    config: Config
    compiler: str
    path: Path
    kernel_id: str
    cached: bool

    @property
    def image(self) -> Path:
        """Return the path of the bzImage."""
        return self.path / "bzImage"

    @property
    def log(self) -> Path:
        """Return the path of the file with make's output."""
        return self.path / "build.log"


@dataclass(frozen=True)
class Finding:
    """One fault, or a reason to warn, that a check has found in a series.

    ``text`` is one line that names the cause. ``outcome`` is WARN or FAIL. ``patch`` is the number
    of the patch that causes it, 0 if it belongs to the series as a whole. ``file`` (relative to the
    tree, "" if none) and ``line`` (None if unknown) are its place in the tree after that patch.
    ``details`` are lines of a tool's output. ``removed_by`` is the number of a later patch that
    corrects it, 0 if none does. ``command`` is a shell line that shows the finding again; "" if
    only the ``commands`` of the Check show it.
    """

    text: str
    outcome: CheckOutcome = CheckOutcome.FAIL
    patch: int = 0
    file: str = ""
    line: int | None = None
    details: tuple[str, ...] = ()
    removed_by: int = 0
    command: str = ""

    @property
    def place(self) -> str:
        """Return file and line as compilers print them, "drivers/vfio/vfio.h:12".

        Returns the file alone if the line is not known, "" if there is no file.
        """
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Check:
    """The result of one check of a series.

    ``title`` is the sentence that the check tests. ``scope`` is "patch" if it judges patch by
    patch, else "series". ``reason`` says why the check could not run, does not apply, or was not
    selected; "" if it ran. ``commands`` are shell lines that repeat the check or a part of it; the
    last one repeats all of it. ``notes`` are facts for the reader that are no findings, such as a
    warning that the base has too. ``parts`` is the number of patches or builds that the check
    examined; the results of ``reused`` of them were taken from an earlier review. ``seconds`` is
    the duration of the check.
    """

    name: str
    title: str
    scope: str
    outcome: CheckOutcome
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    parts: int = 0
    reused: int = 0
    seconds: float = 0.0

    @property
    def first_bad(self) -> int:
        """Return the number of the first patch with a finding; 0 if no finding has a patch."""
        return min((found.patch for found in self.findings if found.patch), default=0)
