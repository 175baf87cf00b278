# SPDX-License-Identifier: GPL-2.0-only
"""A slot: a tree's private copy to build in, where one series after another takes its place.

``slots/<tree id>-<flavor>`` in the cache holds

    src          the tree, its files hard links to the pristine one (seconds, no space)
    src/.obj     the objects (``make O=``). Inside src, because only then kbuild calls the
                 source "..": an absolute path would be part of every compiler command and
                 ccache would miss for the same file in another slot
    delta.json   which files of src may differ from the pristine tree
    building     there while make runs (kpatch.build.kernel)

A series from a file gets a slot of its own, ``<tree id>-<flavor>-<digest of its path>``, which
starts as a copy of that slot: what its Makefiles leave among the objects reaches no other series.
The newest STRANGERS of these are kept.

A change of series writes the files that differ and no other, so that make rebuilds what depends
on those. They get the present as their time stamp, reverted ones too: with the pristine one
they would look older than the objects of the series before.
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

KIND = "slots"

STRANGERS = 3
"""Slots of series from files that are kept for each tree and flavor, 0.3 GB each."""

_SAFE = re.compile(r"[A-Za-z0-9._-]+")
_CONFIGURES = re.compile(r"(?:.*/)?Kconfig[^/]*|Makefile|scripts/.*|arch/[^/]+/Makefile")


@dataclass(frozen=True)
class Slot:
    """The folders of one slot; only who holds it may use them."""

    folder: Path

    @property
    def src(self) -> Path:
        """The source with the delta in place."""
        return self.folder / "src"

    @property
    def obj(self) -> Path:
        """The folder for ``make O=``."""
        return self.src / ".obj"

    @property
    def building(self) -> Path:
        """Marks objects that make is at work on; left over, make did not end by itself."""
        return self.folder / "building"

    @property
    def delta(self) -> Path:
        """The record of what is in place."""
        return self.folder / "delta.json"


def slot(applied: Applied, flavor: str) -> Slot:
    """Where the slot of the series with ``flavor`` is, there or not."""
    return Slot(cache.root() / KIND / _key(applied, flavor))


def _key(applied: Applied, flavor: str) -> str:
    key = _shared_key(applied.tree, flavor)
    if applied.series.origin.trusted:
        return key
    return f"{key}-{cache.digest(map(str, applied.series.mailboxes))}"


def _shared_key(tree: Tree, flavor: str) -> str:
    """The key of the slot that the unpatched kernel and the carried series share."""
    key = f"{tree.tree_id}-{flavor}"
    if not _SAFE.fullmatch(key):
        raise ValueError(f"no file name: {key!r}")
    return key


@contextmanager
def hold(applied: Applied, flavor: str, *, stage: Stage) -> Iterator[Slot]:
    """The slot for ``flavor`` with ``applied`` in place, locked against other runs.

    Waits, and says so, while another run has it. HarnessError: the cache's disk is full (exit 7)
    or cannot be written (exit 2).
    """
    key = _key(applied, flavor)

    def waiting() -> None:
        stage.say(f"waiting for another run that builds {applied.tree.version} {flavor}")

    with cache.locked(f"slot-{key}", waiting=waiting):
        held = slot(applied, flavor)
        if held.folder.is_dir() and _recorded(held) is None:
            shutil.rmtree(held.folder)  # damaged: nothing says what lies in there
        cache.entry(KIND, key, lambda partial: _fill(applied, flavor, Slot(partial), stage))
        if not applied.series.origin.trusted:
            os.utime(held.folder)
            _remove_old(applied, flavor, keep=held)
        with cache.explained(cache.FULL):
            _place(held, applied, stage)
        yield held


def config_id(applied: Applied) -> str:
    """Names what a .config is resolved against: the tree, and the Kconfig part of the delta.

    A series that touches no Kconfig file, and none of the scripts and Makefiles that Kconfig
    calls, shares its config with the pristine tree.
    """
    if not _configuring(applied):
        return applied.tree.tree_id
    return cache.digest((applied.tree.tree_id, apply.selected_id(applied, _CONFIGURES)))


@contextmanager
def config_source(applied: Applied, flavor: str, *, stage: Stage) -> Iterator[Path]:
    """A source to resolve the config of ``applied`` in, named by ``config_id``.

    It is the pristine tree when the series does not touch Kconfig, else the slot, held.
    """
    if not _configuring(applied):
        yield applied.tree.path
        return
    with hold(applied, flavor, stage=stage) as held:
        yield held.src


def _configuring(applied: Applied) -> bool:
    return any(_CONFIGURES.fullmatch(change.path) for change in applied.changes)


def _fill(applied: Applied, flavor: str, partial: Slot, stage: Stage) -> None:
    """Make a new slot: for a series from a file a copy of the shared one, if that is there.

    Else a copy of the pristine tree, without a delta.
    """
    key = _shared_key(applied.tree, flavor)
    shared = Slot(cache.root() / KIND / key)
    if not applied.series.origin.trusted and shared.folder.is_dir():
        with cache.locked(f"slot-{key}"):
            if _recorded(shared) is not None and not shared.building.exists():
                stage.note("copying the objects of the unpatched kernel")
                # Objects are never hard links: the assembler writes into the file that is there.
                _copy(shared.src, partial.src, "--link", leave_out=shared.obj.name)
                _copy(shared.obj, partial.obj, "--reflink=auto")
                shutil.copy2(shared.delta, partial.delta)
                return
    stage.note(f"copying {applied.tree.version} by hard links")
    _copy(applied.tree.path, partial.src, "--link")
    partial.obj.mkdir()
    _record(partial, cache.digest(()), [])


def _copy(source: Path, target: Path, how: str, *, leave_out: str = "") -> None:
    """Copy a folder ``how`` cp can, else as real copies, with all times."""
    target.mkdir()
    names = [str(path) for path in source.iterdir() if path.name != leave_out]
    # Hard links end at a file system's border and, on some, at a number of links.
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
        raise HarnessError(str(source), f"cannot be copied: {first}", mend="check the disk")


def _remove_old(applied: Applied, flavor: str, *, keep: Slot) -> None:
    """Remove all but the newest slots of series from files, if nobody uses them."""
    pattern = f"{_shared_key(applied.tree, flavor)}-*"
    found = sorted((cache.root() / KIND).glob(pattern), key=lambda path: path.stat().st_mtime)
    for path in found[:-STRANGERS]:
        if path != keep.folder:
            with suppress(HarnessError), cache.locked(f"slot-{path.name}", wait=False):
                shutil.rmtree(path, ignore_errors=True)


def _place(held: Slot, applied: Applied, stage: Stage) -> None:
    """Put ``applied`` into the slot's source; what the last series left is taken back.

    The record names every path that may differ before the first is touched: an interrupted
    change is seen by its missing id, and done again from the pristine files.
    """
    recorded = _recorded(held)
    assert recorded is not None
    delta_id, paths = recorded
    if delta_id == applied.delta_id:
        return
    wanted = {change.path: change for change in applied.changes}
    every = sorted({*paths, *wanted})
    changes = [wanted.get(path) or _pristine(applied.tree, path) for path in every]
    _record(held, None, every)
    stage.note(f"putting {applied.series.name} in place")
    # A folder may have to make room for a file of its name, so deletions come first.
    for change in sorted(changes, key=lambda change: change.content is not None):
        _put(held.src, change)
    _record(held, applied.delta_id, list(wanted))


def _recorded(held: Slot) -> tuple[str | None, list[str]] | None:
    """The id in place (None: in between) and the paths that may differ; None: no good record."""
    try:
        record = json.loads(held.delta.read_text())
        delta_id, paths = record["delta_id"], record["paths"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (delta_id, [str(path) for path in paths]) if isinstance(paths, list) else None


def _record(held: Slot, delta_id: str | None, paths: list[str]) -> None:
    text = json.dumps({"delta_id": delta_id, "paths": paths}, indent=1) + "\n"
    _replace(held.delta, text.encode(), executable=False)


def _pristine(tree: Tree, path: str) -> Change:
    """``path`` as the pristine tree has it."""
    try:
        info = (tree.path / path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Change(path, None)
    return Change(path, (tree.path / path).read_bytes(), bool(info.st_mode & stat.S_IXUSR))


def _put(src: Path, change: Change) -> None:
    """Make one file of ``src`` what ``change`` says, and leave it alone if it is."""
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
    """Write a new file and let it take the name: never through a hard link to a pristine file."""
    fresh = path.with_name(f".{path.name[:200]}.kpatch")
    fresh.unlink(missing_ok=True)
    with fresh.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.chmod(0o755 if executable else 0o644)
    fresh.replace(path)


def _openly(folder: Path) -> None:
    """Let us write into a folder that was copied read-only; folders are never hard links."""
    mode = folder.stat().st_mode
    if not mode & stat.S_IWUSR:
        folder.chmod(mode | stat.S_IWUSR)


def _prune(src: Path, folder: Path) -> None:
    """Remove the folders that a deletion left empty, as git does."""
    with suppress(OSError):
        while folder != src:
            folder.rmdir()
            folder = folder.parent
