# SPDX-License-Identifier: GPL-2.0-only
"""What one stage hands to the next: frozen data, no logic."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


@dataclass(frozen=True)
class Tree:
    """A kernel tree in the cache, pristine; nothing may write into ``path``.

    ``version`` is the exact one ("7.3.4"), ``base`` its release line ("7.3"), ``provider``
    one of debian, git, folder, tarball; ``origin`` records exactly what was taken (package
    and version; repository, ref and commit; sha256). ``tree_id`` names the content.
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
    """One of the project's own, in kpatch/series/carried."""
    MBOX = "mbox"
    """A file that the user named."""

    @property
    def trusted(self) -> bool:
        """Whether the project answers for it.

        Then its mechanism is declared and need not be detected, and its build shares a folder and
        compiled objects with that of the control.
        """
        return self is not Origin.MBOX


@dataclass(frozen=True)
class Series:
    """Ordered patches for one base. The negative control is the series without patches.

    ``mailboxes`` are the files or folders of its mail, in order; ``mechanism`` is netlink,
    eventfd, …, "none" for the control, "undetected" where it is to be found out. ``base_commit``
    and ``prerequisites`` (git patch-ids) are what the mail of an applied series says of its base.
    """

    name: str
    title: str
    mechanism: str
    mailboxes: tuple[Path, ...]
    origin: Origin
    base_commit: str = ""
    prerequisites: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One file that a series writes: its path in the tree, content, and mode (None: deleted)."""

    path: str
    content: bytes | None
    executable: bool = False


@dataclass(frozen=True)
class Applied:
    """A series applied to a tree: the tree stays as it is, the changed files lie beside it.

    ``subjects`` are the patches' titles in order; ``delta_id`` names the content of
    ``changes``, which are sorted by path.
    """

    tree: Tree
    series: Series
    subjects: tuple[str, ...]
    changes: tuple[Change, ...]
    delta_id: str


@dataclass(frozen=True)
class Config:
    """A resolved .config: its text, its id, and the flavor that asked for it."""

    flavor: str
    text: str
    config_id: str
    cached: bool


@dataclass(frozen=True)
class Kernel:
    """A built kernel: ``path`` holds bzImage, config, System.map and build.log."""

    applied: Applied
    config: Config
    compiler: str
    path: Path
    kernel_id: str
    cached: bool

    @property
    def image(self) -> Path:
        """The bzImage."""
        return self.path / "bzImage"

    @property
    def log(self) -> Path:
        """All that make printed."""
        return self.path / "build.log"
