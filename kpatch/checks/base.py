# SPDX-License-Identifier: GPL-2.0-only
"""Choose the tree on which a series is reviewed.

It is the tree that the user names; of a git repository the series' ``base-commit``, if the
repository has that commit. For a range of commits it is the commit at which the range begins. If
the user names no tree, it is the newest base to which the series applies.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib.stage import Silent, Stage
from kpatch.model import Applied, Origin, Patch, Tree
from kpatch.series import apply, catalog, mail_files
from kpatch.source import commits, git, resolve
from kpatch.tables.bases import BASES
from kpatch.tables.outcomes import ExitCode

_FILE = re.compile(rb"^diff --git [^\n]*\n(?:(?!diff --git )[^\n]*\n)*?index ([0-9a-f]+)\.\.", re.M)
_OLD = re.compile(rb"^--- (?:a/)?([^\t\n]+)", re.M)


@dataclass(frozen=True)
class Chosen:
    """The values of KERNEL and SERIES to review; ``how`` is one line on how KERNEL was chosen."""

    kernel: str
    series: str
    how: str


def choose(kernel: str | None, series: str, *, stage: Stage) -> Chosen:
    """Return the tree on which ``series`` is reviewed, and how it was chosen.

    ``kernel`` is the user's KERNEL; if it is None, the newest base to which the series applies is
    taken. A range of commits (BASE..TIP) is written to the cache as an mbox, which becomes SERIES.
    HarnessError: exit 2 for a range if ``kernel`` is None, or if it cannot be exported
    (`kpatch.source.commits.export`); exit 3 if ``kernel`` is None and the series applies to no
    base. Raises the errors of loading the series and of `kpatch.source.resolve.resolve`, too.
    """
    if commits.is_range(series):
        if kernel is None:
            raise HarnessError(
                f"SERIES={series}", "is a range of commits", hint="say of which: KERNEL=REPOSITORY"
            )
        return _of_range(kernel, series)
    if kernel is None:
        return _found(series, stage=stage)
    return Chosen(*_at_base_commit(kernel, series, stage=stage))


def _of_range(kernel: str, series: str) -> Chosen:
    exported = commits.export(Path(kernel).expanduser(), series)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", series).strip("-.")[:60] or "range"
    mbox = mail_files.keep(stem, ".mbox", exported.mbox)
    how = f"commit {exported.base[:12]}, where the range begins"
    return Chosen(f"{kernel}@{exported.base}", str(mbox), how)


def _at_base_commit(kernel: str, series: str, *, stage: Stage) -> tuple[str, str, str]:
    """Return the fields of Chosen for the tree ``kernel``, which the user has named.

    If ``kernel`` is a git repository with the base-commit of the mails ``series``, the tree is that
    commit; else the tree as named.
    """
    named = (kernel, series, "as named")
    folder = Path(kernel).expanduser()
    of_mail = catalog.origin(series) is Origin.MBOX
    if kernel in BASES or not of_mail or not (folder / ".git").exists():
        return named
    commit = apply.posted(catalog.load(series, "")).base_commit
    if not commit:
        return named
    try:
        git.find(folder, commit, what=f"KERNEL={kernel}")
    except HarnessError:
        stage.say(f"the repository lacks base-commit {commit[:12]} of the series: taking its HEAD")
        return named
    return f"{kernel}@{commit}", series, f"base-commit {commit[:12]} of the series"


def _found(series: str, *, stage: Stage) -> Chosen:
    """Return the newest base to which ``series`` applies; HarnessError (exit 3) if none."""
    refusals: list[HarnessError] = []
    for name in BASES:
        stage.note(f"trying {name}")
        tree = resolve.resolve(name, stage=stage)
        try:
            applied = apply.apply(tree, catalog.load(series, tree.base), stage=Silent())
        except HarnessError as error:
            if error.code is not ExitCode.APPLY:
                raise
            refusals.append(error)
            stage.say(f"{name}: {error.cause}")
            continue
        return Chosen(name, series, _how(applied))
    first = refusals[0]
    raise HarnessError(
        first.what,
        f"applies to none of {', '.join(BASES)}; on the first: {first.cause}",
        hint="say what it was made for: KERNEL=PATH, a kernel tree or a git repository",
        code=ExitCode.APPLY,
        details=first.details,
    )


def _how(applied: Applied) -> str:
    """Return a line on how many of the changed files are those that the diffs were made from."""
    same, total = exact(applied.tree, applied.patches)
    version = applied.tree.version
    if same == total:
        return f"{version}: its files are those that the diffs were made from"
    return f"{version}: applies, though {total - same} of {total} files differ from the author's"


def exact(tree: Tree, patches: Iterable[Patch]) -> tuple[int, int]:
    """Count the files of ``tree`` that the patches change, and whose content the diffs state.

    Returns two numbers: the files with exactly the content that the first diff of the file was made
    from, and all files. A diff states that content by its git object id, abbreviated (``index
    1234567..89abcde``). The id is the sha1 of a header and the content (git-hash-object(1)).
    """
    seen: set[str] = set()
    same = total = 0
    for patch in patches:
        for path, blob in _blobs(patch):
            if path in seen:
                continue
            file = tree.path / path
            if file.is_file():
                total += 1
                same += _blob(file.read_bytes()).startswith(blob)
        seen |= set(patch.paths)
    return same, total


def _blobs(patch: Patch) -> list[tuple[str, str]]:
    """Return path and abbreviated object id of each file that the patch changes or removes.

    The id is that before the patch. A file whose diff has no ``index`` line is left out.
    """
    found = []
    for part in re.split(rb"^(?=diff --git )", patch.diff, flags=re.M):
        blob, old = _FILE.match(part), _OLD.search(part)
        if blob and old and old[1] != b"/dev/null":
            found.append((old[1].decode(errors="replace"), blob[1].decode()))
    return [(path, blob) for path, blob in found if path in patch.paths]


def _blob(content: bytes) -> str:
    # git uses sha1 as the name of an object; no security depends on it here.
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
