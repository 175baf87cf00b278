# SPDX-License-Identifier: GPL-2.0-only
"""Build a kernel from a tree, a series and a config, and keep it in the cache.

``kernels/<kernel id>`` in the cache holds bzImage, System.map, config, build.log and meta.json
(ids, kernel release, compiler, seconds). The id is a digest of all input. Its first 12 digits are
also the build number in the kernel's banner (``#<12 digits>``, ``uname -v``), so that a guest can
tell which kernel it runs.

A series may change Makefiles, which run arbitrary commands: the build is confined, see
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

from kpatch.build import compiler, log, make
from kpatch.build.compiler import Compiler
from kpatch.build.worktree import Worktree, checkout, locate
from kpatch.errors import HarnessError
from kpatch.lib import cache, confine
from kpatch.lib.confine import product
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Change, Config, Kernel
from kpatch.tables.outcomes import ExitCode

KIND = "kernels"
META = "meta.json"

RECIPE = "2"
"""Part of the kernel id. Increase it if a change here makes other kernels from the same input."""

IMAGE = Path("arch/x86/boot/bzImage")

PACKED = Path("arch/x86/boot/compressed/vmlinux.bin.gz")
"""The compressed kernel inside the image; gzip is the default of Kconfig."""

FIXED = (
    "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER=kpatch",
    "KBUILD_BUILD_HOST=vfio-acpi",
)

COLD_STEPS = 1350
"""Number of steps of a full build of the plain flavor; a worktree's own count replaces it later."""

TORN_SECONDS = 10.0
"""After a killed build, files modified in the last seconds before the kill may be incomplete."""

_SOURCE = re.compile(r".+\.[cS]|(?:.*/)?Kconfig[^/]*")
_SYMBOL = re.compile(r"(?:# )?CONFIG_\w+[ =].*")


def kernel_id(applied: Applied, config: Config, compiler: Compiler) -> str:
    """Return the id of the kernel: a digest of tree, series' changes, config and compiler."""
    parts = (applied.tree.tree_id, applied.delta_id, config.config_id, compiler.identity)
    return cache.digest((RECIPE, *parts))


def build(applied: Applied, config: Config, *, jobs: int, stage: Stage) -> Kernel:
    """Return the kernel of ``applied`` with ``config``; build it with ``jobs`` jobs if not cached.

    HarnessError: exit 4 if it does not build, with file and line of the first error; exit 2
    for a missing tool; exit 7 if the disk is full. The log of a failed or interrupted build
    stays in the cache's folder ``logs``. The next call continues an interrupted build.
    """
    tools = compiler.detect()
    name = kernel_id(applied, config, tools)
    argv = _argv(locate(applied, config.flavor), tools, name, jobs)
    stage.command(argv)
    path = cache.root() / KIND / name
    cached = path.is_dir()
    if not cached:
        with checkout(applied, config.flavor, stage=stage) as worktree:
            path, cached = cache.entry(
                KIND,
                name,
                lambda partial: _fill(partial, worktree, applied, config, tools, argv, stage),
            )
    return Kernel(applied, config, tools.identity, path, name, cached)


def meta(kernel: Kernel) -> dict[str, Any]:
    """Return the content of the kernel's meta.json."""
    content: dict[str, Any] = json.loads((kernel.path / META).read_text())
    return content


def warnings(kernel: Kernel) -> list[log.CompilerMessage]:
    """Return the warnings that the build of ``kernel`` printed for the files of its series."""
    return _warnings(kernel, {change.path for change in kernel.applied.changes})


def base_warnings(kernel: Kernel, base: Kernel | None) -> dict[str, list[str]]:
    """Return the texts of the warnings of the unpatched kernel's build, by file of the series.

    A file has no entry if its warnings are unknown: ``base`` is None, or the base's build did not
    compile the file. A file that the series adds has an empty list.
    """
    text = "" if base is None else base.log.read_text(errors="replace")
    paths = [change.path for change in kernel.applied.changes]
    texts: dict[str, list[str]] = {
        path: []
        for path in paths
        if log.compiled(text, path) or not (kernel.applied.tree.path / path).exists()
    }
    for message in [] if base is None else _warnings(base, texts):
        texts[str(message.file)].append(message.text)
    return texts


def _warnings(kernel: Kernel, paths: Collection[str]) -> list[log.CompilerMessage]:
    where = locate(kernel.applied, kernel.config.flavor)
    text = kernel.log.read_text(errors="replace").replace(confine.PLACE, str(where.src))
    return log.warnings(text, source=str(where.src), paths=paths)


def _argv(where: Worktree, tools: Compiler, name: str, jobs: int) -> list[str]:
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
    worktree: Worktree,
    applied: Applied,
    config: Config,
    tools: Compiler,
    argv: list[str],
    stage: Stage,
) -> None:
    """Build the kernel in the worktree and copy image, symbols, config and log to ``partial``.

    ``argv`` is make's command. Raises the errors of `build`.
    """
    begun = time.monotonic()
    name = argv[-2].partition("=")[2]
    log_file = make.log_file("build", name)
    _remove_incomplete_objects(worktree, applied, stage)
    _renew(worktree, applied)
    steps = _Steps(worktree, stage, whole=_configure(worktree, config))
    _make(worktree, argv, log_file, steps, trusted=applied.series.origin.trusted)
    _check_config(worktree, config, log_file)
    _check_image(worktree, log_file)
    shutil.copyfile(product(worktree.obj, IMAGE), partial / "bzImage")
    shutil.copyfile(product(worktree.obj, "System.map"), partial / "System.map")
    (partial / "config").write_text(config.text)
    record = {
        "kernelrelease": product(worktree.obj, "include/config/kernel.release").read_text().strip(),
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


def _configure(worktree: Worktree, config: Config) -> bool:
    """Write the .config into the objects' folder if it differs; return whether it did.

    A new .config means a full build. An equal one is not written again: with a new time stamp make
    would check every file.
    """
    path = worktree.obj / ".config"
    if path.is_file() and path.read_text(errors="replace") == config.text:
        return False
    path.write_text(config.text)
    return True


def _check_config(worktree: Worktree, config: Config, log_file: Path) -> None:
    """Raise HarnessError (exit 4) if the build changed symbols of the .config.

    Every result would be wrong if the kernel had another config than the one reported.
    """
    requested, got = (
        {line for line in text.splitlines() if _SYMBOL.fullmatch(line)}
        for text in (config.text, product(worktree.obj, ".config").read_text())
    )
    if requested != got:
        differing = sorted(requested ^ got)
        raise HarnessError(
            f"config {config.config_id}",
            f"the build changed it ({differing[0]} and {len(differing) - 1} lines more)",
            hint=f"resolve the config again with the same compiler (log: {log_file})",
            code=ExitCode.BUILD,
            details="\n".join(differing[:40]),
        )


def _check_image(worktree: Worktree, log_file: Path) -> None:
    """Raise HarnessError (exit 7) if the image does not contain the kernel that was linked.

    Every result would be wrong if another kernel booted.
    """
    image = product(worktree.obj, IMAGE)
    if product(worktree.obj, PACKED).read_bytes() not in image.read_bytes():
        raise HarnessError(
            str(image),
            f"does not hold {PACKED.name}, the kernel that was built",
            hint=f"remove {worktree.folder} and run again (log: {log_file})",
            code=ExitCode.LOST,
        )


def _make(
    worktree: Worktree, argv: list[str], log_file: Path, steps: _Steps, *, trusted: bool
) -> None:
    """Run make and write its output to ``log_file``; HarnessError (exit 4) if it fails.

    The file ``worktree.building`` exists while make runs; it stays if make is killed. Only a
    ``trusted`` build adds objects to ccache.
    """
    objects = [compiler.ccache()]
    make.run(
        argv,
        what="build",
        log_file=log_file,
        source=worktree.src,
        out=worktree.obj,
        more=compiler.environment(worktree.src, trusted=trusted),
        readable=[] if trusted else objects,
        writable=objects if trusted else [],
        line=steps.line,
        marker=worktree.building,
    )
    steps.keep()


def _remove_incomplete_objects(worktree: Worktree, applied: Applied, stage: Stage) -> None:
    """If the last build of the worktree was killed, remove the objects that may be incomplete.

    make removes unfinished targets on SIGTERM, but not when it is killed; the next make would take
    an incomplete object for a finished one. The files of the series get a new time stamp, so that
    they are compiled again: their warnings were in the log of the killed build.
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

    make compiles them again, so that the log has their warnings; without that they may be in the
    log of an earlier build only. Headers keep their time: half of the kernel may include one.
    """
    _touch(worktree, (change for change in applied.changes if _SOURCE.fullmatch(change.path)))


def _touch(worktree: Worktree, changes: Iterable[Change]) -> None:
    """Set the time stamp of the changed files to now, except of hard links to the pristine tree."""
    for change in changes:
        path = worktree.src / change.path
        if change.content is not None and path.lstat().st_nlink == 1:
            os.utime(path, follow_symlinks=False)


class _Steps:
    """Report the progress of make: the steps so far, of the number in the last build of this kind.

    Kinds: "cold" for a full build, "again" for a build on existing objects.
    """

    def __init__(self, worktree: Worktree, stage: Stage, *, whole: bool) -> None:
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
        elif (worktree.obj / IMAGE).exists():
            self._kind, self._total = "again", self._known.get("again")
        else:
            # An interrupted build continues. Most finished steps have left a .cmd file.
            done = sum(1 for _ in worktree.obj.rglob(".*.cmd"))
            self._kind, self._total = None, max(cold - done, 1)

    def _read(self) -> dict[str, int]:
        try:
            counts = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return {str(key): int(value) for key, value in counts.items()}

    def line(self, line: str) -> None:
        """Count one line of make's output if it is a step, and report it."""
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
        """Store the number of steps for the next build in this worktree."""
        if self._kind is not None:
            self._path.write_text(json.dumps({**self._known, self._kind: self._done}) + "\n")
