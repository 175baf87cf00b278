# SPDX-License-Identifier: GPL-2.0-only
"""A worktree: a writable copy of a kernel tree, with its objects.

Series are applied to a worktree one at a time, so that make rebuilds only what differs.
``worktrees/<tree id>-<flavor>`` in the cache holds

    src            the tree with the series; files that no series changed are hard links to the
                   pristine tree, the unpatched one in the cache: made in seconds, without space
    src/.obj       the objects (``make O=``). The folder is inside src, because only then kbuild
                   refers to the source as "..": an absolute path would be part of every compiler
                   command, and ccache would miss for the same file in another worktree
    delta.json     the files of src that may differ from the pristine tree
    warnings.json  the warnings of the objects (kpatch.build.diagnostics)
    building       exists while make runs (kpatch.build.objects)
    steps.json     the number of steps of earlier builds (kpatch.build.objects)
    selftests      the output of the last build of the selftests (kpatch.build.selftests)

The unpatched kernel and the carried series share this worktree. A series from a file has its own,
``<tree id>-<flavor>-<digest of its path>``, which starts as a copy of the shared worktree if
there is one: objects that its Makefiles write reach no other series. The STRANGERS of these
worktrees that were used last are kept for each tree and flavor.

If another series is applied, only the files that differ are written. All of them get the current
time as time stamp, also those that are reverted: with the pristine file's time they would look
older than the objects that the previous series left, and make would not rebuild them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache, environment
from kpatch.lib.process import capture
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Change, Tree
from kpatch.series import apply

KIND = "worktrees"

STRANGERS = 3
"""Number of worktrees of series from files to keep for each tree and flavor; 0.3 GB each."""

_SAFE = re.compile(r"[A-Za-z0-9._-]+")
_CONFIGURES = re.compile(r"(?:.*/)?Kconfig[^/]*|Makefile|scripts/.*|arch/[^/]+/Makefile")


@dataclass(frozen=True)
class Worktree:
    """The folders of one worktree. Use them only while the worktree is locked by `checkout`."""

    folder: Path

    @property
    def src(self) -> Path:
        """Return the folder of the source with the series applied."""
        return self.folder / "src"

    @property
    def obj(self) -> Path:
        """Return the folder of the objects, for ``make O=``."""
        return self.src / ".obj"

    @property
    def building(self) -> Path:
        """Return the path of a file that exists while make runs; it stays if make is killed."""
        return self.folder / "building"

    @property
    def delta(self) -> Path:
        """Return the path of the record of the applied series: its id, and the changed files."""
        return self.folder / "delta.json"

    @property
    def warnings(self) -> Path:
        """Return the path of the record of the objects' warnings (kpatch.build.diagnostics)."""
        return self.folder / "warnings.json"


def locate(applied: Applied, flavor: str) -> Worktree:
    """Return the worktree of the series with ``flavor``; its folder need not exist."""
    return Worktree(cache.root() / KIND / _key(applied, flavor))


def _key(applied: Applied, flavor: str) -> str:
    key = _shared_key(applied.tree, flavor)
    if applied.series.origin.trusted:
        return key
    return f"{key}-{cache.digest(map(str, applied.series.mailboxes))}"


def _shared_key(tree: Tree, flavor: str) -> str:
    """Return the key of the worktree that the unpatched kernel and the carried series share.

    ValueError if the key cannot be a file name.
    """
    key = f"{tree.tree_id}-{flavor}"
    if not _SAFE.fullmatch(key):
        raise ValueError(f"no file name: {key!r}")
    return key


@contextmanager
def checkout(applied: Applied, flavor: str, *, like: str = "", stage: Stage) -> Iterator[Worktree]:
    """Lock the worktree for ``flavor``, apply the series to its source, and yield the worktree.

    A new worktree starts with the objects of a worktree that the unpatched kernel and the carried
    series share, if there is one: that of ``flavor``, if the series comes from a file; failing
    this, that of the flavor ``like``, if given. Waits, and reports it to ``stage``, while another
    run has the lock. HarnessError: exit 7 if the cache's disk is full, exit 2 if the cache cannot
    be written.
    """
    key = _key(applied, flavor)

    def waiting() -> None:
        stage.say(f"waiting for another run that builds {applied.tree.version} {flavor}")

    with cache.locked(f"worktree-{key}", waiting=waiting):
        worktree = locate(applied, flavor)
        if worktree.folder.is_dir() and _recorded(worktree) is None:
            shutil.rmtree(worktree.folder)  # without a record the content of src is unknown
        cache.entry(
            KIND, key, lambda partial: _fill(applied, flavor, like, Worktree(partial), stage)
        )
        if not applied.series.origin.trusted:
            os.utime(worktree.folder)
            _remove_old(applied, flavor, keep=worktree)
        with cache.translate_os_errors(cache.FULL):
            _place(worktree, applied, stage)
        yield worktree


def has_objects(tree: Tree, flavor: str) -> bool:
    """Return whether the worktree of the unpatched ``tree`` has objects for others to start with.

    This is the worktree for ``flavor`` that the carried series use, too.
    """
    shared = Worktree(cache.root() / KIND / _shared_key(tree, flavor))
    return _usable(shared) and any(shared.obj.iterdir())


def _usable(shared: Worktree) -> bool:
    """Return whether a worktree can be copied: it has a record, and no build in it was killed."""
    return _recorded(shared) is not None and not shared.building.exists()


def config_id(applied: Applied) -> str:
    """Return an id of the sources that determine a .config.

    It is made of the tree's id and the series' changes to Kconfig files, scripts/, and the
    Makefiles of the top folder and arch/*. For a series without such changes it is the tree's id.
    """
    if not _configuring(applied):
        return applied.tree.tree_id
    return cache.digest((applied.tree.tree_id, apply.selected_id(applied, _CONFIGURES)))


@contextmanager
def config_source(applied: Applied, flavor: str, *, like: str = "", stage: Stage) -> Iterator[Path]:
    """Yield the source folder from which conf makes the .config of ``applied``.

    It is the pristine tree if the series changes nothing that goes into `config_id`. Else it is the
    source of the worktree for ``flavor``, locked by `checkout` with ``like`` and ``stage``.
    """
    if not _configuring(applied):
        yield applied.tree.path
        return
    with checkout(applied, flavor, like=like, stage=stage) as worktree:
        yield worktree.src


def _configuring(applied: Applied) -> bool:
    return any(_CONFIGURES.fullmatch(change.path) for change in applied.changes)


def _fill(applied: Applied, flavor: str, like: str, partial: Worktree, stage: Stage) -> None:
    """Make a new worktree in ``partial``: a copy of the first of these that exists.

    For a series from a file, the shared worktree of ``flavor``; then, if ``like`` is given, that of
    the flavor ``like``; then the pristine tree, without objects. A worktree in which a build was
    killed is not copied.
    """
    own = () if applied.series.origin.trusted else (flavor,)
    for name in filter(None, (*own, like)):
        if _copied(_shared_key(applied.tree, name), partial, stage):
            return
    stage.note(f"copying {applied.tree.version} by hard links")
    _copy(applied.tree.path, partial.src, "--link")
    partial.obj.mkdir()
    _record(partial, cache.digest(()), [])


def _copied(key: str, partial: Worktree, stage: Stage) -> bool:
    """Copy the shared worktree ``key`` to ``partial``; return False if it cannot be used."""
    shared = Worktree(cache.root() / KIND / key)
    if not shared.folder.is_dir():
        return False
    with cache.locked(f"worktree-{key}"):
        if not _usable(shared):
            return False
        stage.note("copying the objects of the unpatched kernel")
        # Objects are not hard-linked: the assembler overwrites an existing file in place.
        _copy(shared.src, partial.src, "--link", leave_out=shared.obj.name)
        _copy(shared.obj, partial.obj, "--reflink=auto")
        for file in (shared.delta, shared.warnings):
            if file.is_file():
                shutil.copy2(file, partial.folder)
    return True


def _copy(source: Path, target: Path, how: str, *, leave_out: str = "") -> None:
    """Copy the content of the folder ``source`` to the new folder ``target`` with its time stamps.

    ``how`` is cp's option ("--link", "--reflink=auto"); if cp fails with it, the files are copied
    by "--reflink=auto". ``leave_out`` is the name of an entry to skip. OSError (ENOSPC) if the disk
    is full; HarnessError (exit 2) if cp fails otherwise.
    """
    target.mkdir()
    names = [str(path) for path in source.iterdir() if path.name != leave_out]
    # Hard links fail across file systems, and on some file systems above a number of links.
    for option in dict.fromkeys((how, "--reflink=auto")):
        argv = ["cp", "-a", option, "--", *names, str(target)]
        status, output = capture(argv, env=environment.clean())
        if status == 0:
            break
        cache.raise_if_full(output)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
    else:
        first = output.partition("\n")[0]
        raise HarnessError(str(source), f"cannot be copied: {first}", hint="check the disk")


def _remove_old(applied: Applied, flavor: str, *, keep: Worktree) -> None:
    """Remove old worktrees of series from files, for the tree of ``applied`` and ``flavor``.

    The STRANGERS that were used last, ``keep``, and those that another run has locked stay.
    """
    pattern = f"{_shared_key(applied.tree, flavor)}-*"
    folders = sorted((cache.root() / KIND).glob(pattern), key=lambda path: path.stat().st_mtime)
    for path in folders[:-STRANGERS]:
        if path != keep.folder:
            with suppress(HarnessError), cache.locked(f"worktree-{path.name}", wait=False):
                shutil.rmtree(path, ignore_errors=True)


def _place(worktree: Worktree, applied: Applied, stage: Stage) -> None:
    """Apply the series to the worktree's source; revert other files that the last series changed.

    Before the first file is written, a record is stored that has all paths that will be written,
    and no id. If this function is interrupted, the next call sees that the id is missing and writes
    all these files again.
    """
    recorded = _recorded(worktree)
    assert recorded is not None
    delta_id, paths = recorded
    if delta_id == applied.delta_id:
        return
    wanted = {change.path: change for change in applied.changes}
    every = sorted({*paths, *wanted})
    changes = [wanted.get(path) or _pristine(applied.tree, path) for path in every]
    _record(worktree, None, every)
    stage.note(f"putting {applied.series.name} in place")
    # Deletions come first: a new file may have the name of a folder that becomes empty.
    for change in sorted(changes, key=lambda change: change.content is not None):
        _put(worktree.src, change)
    _record(worktree, applied.delta_id, list(wanted))


def _recorded(worktree: Worktree) -> tuple[str | None, list[str]] | None:
    """Return the applied series' delta id and the paths that may differ from the pristine tree.

    The id is None if `_place` was interrupted. Returns None if the record is missing or damaged.
    """
    try:
        record = json.loads(worktree.delta.read_text())
        delta_id, paths = record["delta_id"], record["paths"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (delta_id, [str(path) for path in paths]) if isinstance(paths, list) else None


def _record(worktree: Worktree, delta_id: str | None, paths: list[str]) -> None:
    text = json.dumps({"delta_id": delta_id, "paths": paths}, indent=1) + "\n"
    _replace(worktree.delta, text.encode(), executable=False)


def _pristine(tree: Tree, path: str) -> Change:
    """Return the change that makes ``path`` as in ``tree``: its content there, or its deletion."""
    try:
        info = (tree.path / path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Change(path, None)
    return Change(path, (tree.path / path).read_bytes(), bool(info.st_mode & stat.S_IXUSR))


def _put(src: Path, change: Change) -> None:
    """Write or delete one file of ``src``; a file that is equal already keeps its time stamp."""
    path = src / change.path
    if change.content is None:
        if path.is_file():
            _openly(path.parent)
            path.unlink()
            _prune(src, path.parent)
    elif not _same(path, change):
        path.parent.mkdir(parents=True, exist_ok=True)
        _openly(path.parent)
        _replace(path, change.content, executable=change.executable)


def _same(path: Path, change: Change) -> bool:
    if not path.is_file():
        return False
    executable = bool(path.stat().st_mode & stat.S_IXUSR)
    return executable == change.executable and path.read_bytes() == change.content


def _replace(path: Path, content: bytes, *, executable: bool) -> None:
    """Write a new file and rename it to ``path``.

    An existing file is not written to: it may be a hard link to the file of the pristine tree.
    """
    fresh = path.with_name(f".{path.name[:200]}.kpatch")
    fresh.unlink(missing_ok=True)
    with fresh.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.chmod(0o755 if executable else 0o644)
    fresh.replace(path)


def _openly(folder: Path) -> None:
    """Make ``folder`` in a worktree writable for its owner; it has the mode of the tree's folder.

    This does not change the pristine tree: only files are hard links, folders are real copies.
    """
    mode = folder.stat().st_mode
    if not mode & stat.S_IWUSR:
        folder.chmod(mode | stat.S_IWUSR)


def _prune(src: Path, folder: Path) -> None:
    """Remove ``folder`` and its parents below ``src`` as long as they are empty, as git does."""
    with suppress(OSError):
        while folder != src:
            folder.rmdir()
            folder = folder.parent
