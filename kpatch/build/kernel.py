# SPDX-License-Identifier: GPL-2.0-only
"""A kernel from a tree, a series and a config: built once, then found by what went into it.

``kernels/<kernel id>`` in the cache holds bzImage, System.map, config, build.log and meta.json
(ids, kernel release, compiler, seconds). The id is also the
build's number in the kernel's banner (``#<first 12 digits>``, ``uname -v``), so that a guest
can tell which kernel it runs.

A kernel's build runs what its Makefiles say, and a series may change those: see
`kpatch.lib.confine`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from kpatch.build import compiler, log, make, worktree
from kpatch.build.compiler import Compiler
from kpatch.build.worktree import Slot
from kpatch.errors import HarnessError
from kpatch.lib import cache, confine
from kpatch.lib.confine import product
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Change, Config, Kernel
from kpatch.tables.outcomes import ExitCode

KIND = "kernels"
META = "meta.json"

RECIPE = "2"
"""To be counted up when a change here makes other kernels from the same input."""

IMAGE = Path("arch/x86/boot/bzImage")

PACKED = Path("arch/x86/boot/compressed/vmlinux.bin.gz")
"""The kernel in the image; gzip is what Kconfig takes if nothing is asked for."""

FIXED = (
    "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER=kpatch",
    "KBUILD_BUILD_HOST=vfio-acpi",
)

COLD_STEPS = 1350
"""Steps that make prints for a plain kernel from nothing; a slot's own count replaces it."""

TORN_SECONDS = 10.0
"""How long before a kill a file may have been begun that was still being written then."""

_SOURCE = re.compile(r".+\.[cS]|(?:.*/)?Kconfig[^/]*")
_SYMBOL = re.compile(r"(?:# )?CONFIG_\w+[ =].*")


def kernel_id(applied: Applied, config: Config, compiler: Compiler) -> str:
    """The name of the kernel that these make."""
    parts = (applied.tree.tree_id, applied.delta_id, config.config_id, compiler.identity)
    return cache.digest((RECIPE, *parts))


def build(applied: Applied, config: Config, *, jobs: int, stage: Stage) -> Kernel:
    """The kernel of ``applied`` with ``config``, from the cache or made by ``jobs`` processes.

    HarnessError: exit 4 when it does not build, with the first error's file and line; exit 2
    for a missing tool; exit 7 when the disk is full. The log of a failed or interrupted build
    stays in ``logs``; an interrupted build goes on where it was.
    """
    tools = compiler.detect()
    name = kernel_id(applied, config, tools)
    argv = _argv(worktree.slot(applied, config.flavor), tools, name, jobs)
    stage.command(argv)
    path = cache.root() / KIND / name
    cached = path.is_dir()
    if not cached:
        with worktree.hold(applied, config.flavor, stage=stage) as held:
            path, cached = cache.entry(
                KIND,
                name,
                lambda partial: _fill(partial, held, applied, config, tools, argv, stage),
            )
    return Kernel(applied, config, tools.identity, path, name, cached)


def meta(kernel: Kernel) -> dict[str, Any]:
    """What is recorded of ``kernel``."""
    found: dict[str, Any] = json.loads((kernel.path / META).read_text())
    return found


def warnings(kernel: Kernel) -> list[log.Finding]:
    """Return what the build of ``kernel`` warned of, in the files of its series."""
    return _warnings(kernel, {change.path for change in kernel.applied.changes})


def base_warnings(kernel: Kernel, base: Kernel | None) -> dict[str, list[str]]:
    """Return what the unpatched kernel's build warns of in the files of the series, by file.

    A file is left out where nothing tells: ``base`` is None, or its build had no need to compile
    that file. One that only the series has has no warnings.
    """
    text = "" if base is None else base.log.read_text(errors="replace")
    paths = [change.path for change in kernel.applied.changes]
    told: dict[str, list[str]] = {
        path: []
        for path in paths
        if log.compiled(text, path) or not (kernel.applied.tree.path / path).exists()
    }
    for found in [] if base is None else _warnings(base, told):
        told[str(found.file)].append(found.text)
    return told


def _warnings(kernel: Kernel, paths: Collection[str]) -> list[log.Finding]:
    where = worktree.slot(kernel.applied, kernel.config.flavor)
    text = kernel.log.read_text(errors="replace").replace(confine.PLACE, str(where.src))
    return log.warnings(text, source=str(where.src), paths=paths)


def _argv(where: Slot, tools: Compiler, name: str, jobs: int) -> list[str]:
    return [
        "make",
        "-C",
        str(where.src),
        f"O={where.obj}",
        f"-j{jobs}",
        *tools.settings,
        *FIXED,
        f"KBUILD_BUILD_VERSION={name[:12]}",
        "bzImage",
    ]


def _fill(
    partial: Path,
    held: Slot,
    applied: Applied,
    config: Config,
    tools: Compiler,
    argv: list[str],
    stage: Stage,
) -> None:
    """Build in the slot and lay what is to be kept into ``partial``."""
    begun = time.monotonic()
    name = argv[-2].partition("=")[2]
    log_file = make.log_file("build", name)
    _mend(held, applied, stage)
    _renew(held, applied)
    steps = _Steps(held, stage, whole=_configure(held, config))
    _make(held, argv, log_file, steps, trusted=applied.series.origin.trusted)
    _check_config(held, config, log_file)
    _check_image(held, log_file)
    shutil.copyfile(product(held.obj, IMAGE), partial / "bzImage")
    shutil.copyfile(product(held.obj, "System.map"), partial / "System.map")
    (partial / "config").write_text(config.text)
    record = {
        "kernelrelease": product(held.obj, "include/config/kernel.release").read_text().strip(),
        "version": applied.tree.version,
        "tree_id": applied.tree.tree_id,
        "series": applied.series.name,
        "subjects": applied.subjects,
        "delta_id": applied.delta_id,
        "flavor": config.flavor,
        "config_id": config.config_id,
        "compiler": tools.identity,
        "ccache": tools.cached,
        "seconds": round(time.monotonic() - begun, 3),
    }
    (partial / META).write_text(json.dumps(record, indent=1) + "\n")
    shutil.move(log_file, partial / "build.log")


def _configure(held: Slot, config: Config) -> bool:
    """Put the .config in place, and tell if it is another: then all is to be built.

    An unchanged one keeps its time, or make would look at every file.
    """
    path = held.obj / ".config"
    if path.is_file() and path.read_text(errors="replace") == config.text:
        return False
    path.write_text(config.text)
    return True


def _check_config(held: Slot, config: Config, log_file: Path) -> None:
    """A build that silently took another config would make every result a lie."""
    asked, got = (
        {line for line in text.splitlines() if _SYMBOL.fullmatch(line)}
        for text in (config.text, product(held.obj, ".config").read_text())
    )
    if asked != got:
        differing = sorted(asked ^ got)
        raise HarnessError(
            f"config {config.config_id}",
            f"the build changed it ({differing[0]} and {len(differing) - 1} lines more)",
            mend=f"resolve the config again with the same compiler (log: {log_file})",
            code=ExitCode.BUILD,
            details="\n".join(differing[:40]),
        )


def _check_image(held: Slot, log_file: Path) -> None:
    """An image that boots another kernel than was linked would make every result a lie."""
    image = product(held.obj, IMAGE)
    if product(held.obj, PACKED).read_bytes() not in image.read_bytes():
        raise HarnessError(
            str(image),
            f"does not hold {PACKED.name}, the kernel that was built",
            mend=f"remove {held.folder} and run again (log: {log_file})",
            code=ExitCode.LOST,
        )


def _make(held: Slot, argv: list[str], log_file: Path, steps: _Steps, *, trusted: bool) -> None:
    """Run make; ``log_file`` gets what it prints."""
    objects = [compiler.ccache()]
    make.run(
        argv,
        what="build",
        log_file=log_file,
        source=held.src,
        out=held.obj,
        more=compiler.environment(held.src, trusted=trusted),
        readable=[] if trusted else objects,
        writable=objects if trusted else [],
        line=steps.line,
        marker=held.building,
    )
    steps.keep()


def _mend(held: Slot, applied: Applied, stage: Stage) -> None:
    """After a build that was killed: drop the files it may have been writing.

    make removes what it was making when it is told to end, but not when it is killed, and
    then takes half an object for a whole one. The files of the series become new again, so that
    their warnings are not lost with the log of that build.
    """
    if not held.building.exists():
        return
    stage.note("cleaning up after an interrupted build")
    files = [
        (path, path.lstat().st_mtime)
        for folder, _, names in os.walk(held.obj)
        for path in (Path(folder, name) for name in names)
    ]
    torn = max((mtime for _, mtime in files), default=0.0) - TORN_SECONDS
    for path, mtime in files:
        if mtime >= torn:
            path.unlink()
    _touch(held, applied.changes)
    held.building.unlink()


def _renew(held: Slot, applied: Applied) -> None:
    """Have make look at every source of the series, so that the log has its warnings.

    An earlier build may have compiled the same file, and only its log tells what gcc said. Headers
    keep their time: half the kernel may include one.
    """
    _touch(held, (change for change in applied.changes if _SOURCE.fullmatch(change.path)))


def _touch(held: Slot, changes: Iterable[Change]) -> None:
    """Make the files of a series new again, but none that is a hard link to the pristine tree."""
    for change in changes:
        path = held.src / change.path
        if change.content is not None and path.lstat().st_nlink == 1:
            os.utime(path, follow_symlinks=False)


class _Steps:
    """Counts the steps that make prints, against those of the last build of the same kind."""

    def __init__(self, held: Slot, stage: Stage, *, whole: bool) -> None:
        self._path = held.folder / "steps.json"
        self._stage = stage
        self._objects = (f"{held.obj}/", f"{confine.PLACE}/{held.obj.name}/")
        self._done = 0
        self._known = self._read()
        cold = self._known.get("cold", COLD_STEPS)
        self._kind: str | None
        self._total: int | None
        if whole:
            self._kind, self._total = "cold", cold
        elif (held.obj / IMAGE).exists():
            self._kind, self._total = "again", self._known.get("again")
        else:
            # The rest of an interrupted build; most steps that are done have left a .cmd file.
            done = sum(1 for _ in held.obj.rglob(".*.cmd"))
            self._kind, self._total = None, max(cold - done, 1)

    def _read(self) -> dict[str, int]:
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return {str(key): int(value) for key, value in found.items()}

    def line(self, line: str) -> None:
        """Take one line of make's."""
        found = log.step(line)
        if found is None:
            return
        self._done += 1
        verb, target = found
        total = None if self._total is None else max(self._total, self._done)
        for objects in self._objects:
            target = target.removeprefix(objects)
        self._stage.note(f"{verb} {target}")
        self._stage.advance(self._done, total)

    def keep(self) -> None:
        """Remember the number for the next build of this slot."""
        if self._kind is not None:
            self._path.write_text(json.dumps({**self._known, self._kind: self._done}) + "\n")
