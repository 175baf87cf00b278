# SPDX-License-Identifier: GPL-2.0-only
"""Run make in a worktree that has the objects of earlier builds; keep a record of the warnings.

The worktree's file ``warnings.json`` (`kpatch.build.diagnostics`) has the warnings of all of its
objects, also of those that the last make found up to date.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kpatch.build import compiler, diagnostics, log, make
from kpatch.build.diagnostics import Record
from kpatch.build.worktree import Worktree
from kpatch.lib import confine
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Change, Config
from kpatch.tables.flavors import FLAVORS

FIXED = (
    "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER=kpatch",
    "KBUILD_BUILD_HOST=vfio-acpi",
)
"""Variables for make's command line without which two builds of the same input differ."""

SOURCES = (".c", ".S")

COLD_STEPS = 1350
"""Number of steps of a full build of the plain flavor; a worktree's own count replaces it later."""

PROGRAMS = ("Documentation/", "scripts/", "tools/", "usr/")
"""Folders whose C sources are programs, and no part of the kernel."""

OUTSIDE = (*PROGRAMS, "samples/")
"""Folders whose C sources are no part of the kernels that the flavors build."""

TORN_SECONDS = 10.0
"""After a killed build, files modified in the last seconds before the kill may be incomplete."""

_PLAIN_C = re.compile(r"[\w./+-]+\.c", re.ASCII)
_SOURCE = re.compile(r".+\.[cS]|(?:.*/)?Kconfig[^/]*")


def build(
    worktree: Worktree,
    applied: Applied,
    config: Config,
    argv: Sequence[str],
    *,
    what: str,
    log_file: Path,
    product: Path,
    renew: bool = True,
    stage: Stage,
) -> Record:
    """Run the make command ``argv`` with ``config``; return the warnings of all objects by step.

    The caller has locked ``worktree`` with ``applied`` in it (`kpatch.build.worktree.checkout`).
    ``product`` is the last file that a full build makes, relative to the objects' folder. With
    ``renew``, make compiles the sources of the series again, also those that are up to date, so
    that the output has their warnings. The output of make is written to ``log_file``. Raises the
    errors of `kpatch.build.make.run`, which name the build ``what``; the worktree's record is
    updated then, too.
    """
    _remove_incomplete_objects(worktree, applied, stage)
    if renew:
        _renew(worktree, applied)
    steps = _Steps(worktree, stage, product, whole=_configure(worktree, config))
    trusted = applied.series.origin.trusted
    objects = [compiler.ccache()]
    try:
        make.run(
            [*argv, diagnostics.SYNCED],
            what=what,
            log_file=log_file,
            source=worktree.src,
            out=worktree.obj,
            more=compiler.environment(
                worktree.src, trusted=trusted, derived=config.flavor not in FLAVORS
            ),
            readable=[] if trusted else objects,
            writable=objects if trusted else [],
            line=steps.line,
            marker=worktree.building,
        )
    finally:
        record = _record(worktree, log_file)
    steps.keep()
    return record


def stems(applied: Applied) -> tuple[str, ...]:
    """Return the C sources of the kernel that the series changes or adds, without ".c".

    They become text of a variable of make. A source is left out whose name make would not take as
    it is: "a$(shell x).c".
    """
    paths = (change.path for change in applied.changes if change.content is not None)
    return tuple(
        path.removesuffix(".c")
        for path in paths
        if _PLAIN_C.fullmatch(path) and not path.startswith(OUTSIDE)
    )


def if_touched(applied: Applied, value: str) -> str:
    """Return text for make that is ``value`` for the touched objects, and nothing for others.

    It is for a variable that kbuild reads for each object. "" if the series touches none.
    """
    touched = " ".join(stems(applied))
    return f"$(if $(filter {touched},$(obj)/$(target-stem)),{value})" if touched else ""


def left_out(applied: Applied, text: str) -> tuple[str, ...]:
    """Return the objects of changed .c and .S files that the config leaves out.

    These are the objects without a step in ``text``, the output of a successful `build`: it
    compiles every changed source again that the config does not leave out.
    """
    made = log.targets(text)
    paths = [change.path for change in applied.changes if change.content is not None]
    names = (f"{path.rpartition('.')[0]}.o" for path in paths if path.endswith(SOURCES))
    return tuple(name for name in names if name not in made)


def _record(worktree: Worktree, log_file: Path) -> Record:
    """Add the warnings in the build's output ``log_file`` to the worktree's record; return that.

    This is also done for a build that failed: the next build does not compile its objects again.
    """
    source = worktree.src
    text = log_file.read_text(errors="replace").replace(confine.PLACE, str(source))
    before = diagnostics.read(worktree.warnings)
    record = diagnostics.renewed(before, diagnostics.parse(text, source=source), source=source)
    diagnostics.write(worktree.warnings, record)
    return record


def _configure(worktree: Worktree, config: Config) -> bool:
    """Write ``config`` to .config in the objects' folder if that differs; return whether it did.

    A new .config means that most files are compiled again. An equal one is not written: with a new
    time stamp make would check every file.
    """
    path = worktree.obj / ".config"
    if path.is_file() and path.read_text(errors="replace") == config.text:
        return False
    path.write_text(config.text)
    return True


def _remove_incomplete_objects(worktree: Worktree, applied: Applied, stage: Stage) -> None:
    """If the last build of the worktree was killed, remove the objects that may be incomplete.

    make removes unfinished targets on SIGTERM, but not on SIGKILL; the next make would take an
    incomplete object for a finished one. The files of the series get a new time stamp, so that they
    are compiled again: the log of the killed build, which had their warnings, may be lost.
    """
    if not worktree.building.exists():
        return
    stage.note("cleaning up after an interrupted build")
    files = [
        (path, path.lstat().st_mtime)
        for folder, _, names in os.walk(worktree.obj)
        for path in (Path(folder, name) for name in names)
    ]
    torn = max((mtime for _, mtime in files), default=0.0) - TORN_SECONDS
    for path, mtime in files:
        if mtime >= torn:
            path.unlink()
    _touch(worktree, applied.changes)
    worktree.building.unlink()


def _renew(worktree: Worktree, applied: Applied) -> None:
    """Give the C, assembler and Kconfig files of the series a new time stamp.

    So make compiles them again, and this build's log has their warnings, not only the log of an
    earlier build. Headers keep their time stamp: half of the kernel may include one.
    """
    _touch(worktree, (change for change in applied.changes if _SOURCE.fullmatch(change.path)))


def _touch(worktree: Worktree, changes: Iterable[Change]) -> None:
    """Set the time stamp of changed files to now, except for hard links to the pristine tree."""
    for change in changes:
        path = worktree.src / change.path
        if change.content is not None and path.lstat().st_nlink == 1:
            os.utime(path, follow_symlinks=False)


class _Steps:
    """Report the progress of make: the number of its steps so far, and the expected total.

    The expected total is the number of steps of the last successful build of the same kind in the
    worktree. The kinds are "cold", a build with a new .config (``whole``; COLD_STEPS if there was
    none before), and "again", a build after a complete one (``product`` exists; unknown if there
    was none before). A build that continues an interrupted one has no kind; its total is that of a
    cold build without the steps that are done.
    """

    def __init__(self, worktree: Worktree, stage: Stage, product: Path, *, whole: bool) -> None:
        self._path = worktree.folder / "steps.json"
        self._stage = stage
        self._objects = (f"{worktree.obj}/", f"{confine.PLACE}/{worktree.obj.name}/")
        self._done = 0
        self._known = self._read()
        cold = self._known.get("cold", COLD_STEPS)
        self._kind: str | None
        self._total: int | None
        if whole:
            self._kind, self._total = "cold", cold
        elif (worktree.obj / product).exists():
            self._kind, self._total = "again", self._known.get("again")
        else:
            # An interrupted build continues. Most finished steps have left a .cmd file.
            done = sum(1 for _ in worktree.obj.rglob(".*.cmd"))
            self._kind, self._total = None, max(cold - done, 1)

    def _read(self) -> dict[str, int]:
        """Return the stored numbers; {} if there are none, or the file is damaged."""
        try:
            counts = json.loads(self._path.read_text())
            return {str(key): int(value) for key, value in counts.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def line(self, line: str) -> None:
        """If ``line`` of make's output is a step, count it and report it to the stage."""
        step = log.step(line)
        if step is None:
            return
        self._done += 1
        verb, target = step
        total = None if self._total is None else max(self._total, self._done)
        for objects in self._objects:
            target = target.removeprefix(objects)
        self._stage.note(f"{verb} {target}")
        self._stage.advance(self._done, total)

    def keep(self) -> None:
        """Store the number of steps as the expected total of later builds of the same kind."""
        if self._kind is not None:
            self._path.write_text(json.dumps({**self._known, self._kind: self._done}) + "\n")
