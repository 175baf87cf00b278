# SPDX-License-Identifier: GPL-2.0-only
"""Build a kernel from a tree, a series and a config, and keep it in the cache.

``kernels/<kernel id>`` in the cache holds bzImage, System.map, config, build.log, warnings.json
(`kpatch.build.diagnostics`) and meta.json (ids, kernel release, compiler, seconds); if a series
touches sources the folder lines (`kpatch.build.lines`), in the flavor coverage the folder gcov
(`kpatch.build.gcov`). The id is a digest of all input. Its first 12 digits are also the build
number in the kernel's banner (``#<12 digits>``, ``uname -v``), so that a guest can tell which
kernel it runs.

A series may change Makefiles, which run arbitrary commands: the build is confined if that works
here, see `kpatch.lib.confine`.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from kpatch.build import compiler, diagnostics, gcov, lines, log, make, objects, settings
from kpatch.build.compiler import Compiler
from kpatch.build.worktree import Worktree, checkout, locate
from kpatch.errors import HarnessError
from kpatch.lib import cache, confine
from kpatch.lib.confine import product
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Config, Kernel
from kpatch.tables.flavors import FLAVORS
from kpatch.tables.outcomes import ExitCode

KIND = "kernels"
META = "meta.json"

RECIPE = "2"
"""Part of the kernel id. Increase it if a change here makes other kernels from the same input."""

IMAGE = Path("arch/x86/boot/bzImage")

PACKED = Path("arch/x86/boot/compressed/vmlinux.bin.lz4")
"""The compressed kernel that bzImage contains; CONFIG_KERNEL_LZ4 is set by the fragment core."""

_SYMBOL = re.compile(r"(?:# )?CONFIG_\w+[ =].*")


def kernel_id(applied: Applied, config: Config, compiler: Compiler) -> str:
    """Return the id of the kernel: a digest of all input, and of RECIPE.

    The input is the tree, the changed files, the config, the compiler, and `kpatch.build.settings`.
    """
    parts = (applied.tree.tree_id, applied.delta_id, config.config_id, compiler.identity)
    return cache.digest((RECIPE, *parts, *settings.of(applied, config)))


def build(
    applied: Applied,
    config: Config,
    *,
    like: str = "",
    renew: bool = True,
    jobs: int,
    stage: Stage,
) -> Kernel:
    """Return the kernel of ``applied`` with ``config``; build it with ``jobs`` jobs if not cached.

    HarnessError: exit 4 if it does not build, with file and line of the first error, or if the
    build changes the .config; exit 2 for a missing tool; exit 7 if the disk is full, or the image
    does not contain the kernel that was linked. The log of a failed or interrupted build stays in
    the cache's folder ``logs``. The next call continues an interrupted build. ``like`` is as in
    `kpatch.build.worktree.checkout`, ``renew`` as in `kpatch.build.objects.build`: without it, the
    build's log may lack warnings.
    """
    tools = compiler.detect()
    name = kernel_id(applied, config, tools)
    variables = (*tools.settings, *settings.of(applied, config))
    argv = _argv(locate(applied, config.flavor), variables, name, jobs)
    stage.command(argv)
    path = cache.root() / KIND / name
    cached = path.is_dir()
    if not cached:
        with checkout(applied, config.flavor, like=like, stage=stage) as worktree:
            path, cached = cache.entry(
                KIND,
                name,
                lambda partial: _fill(
                    partial, worktree, applied, config, tools, argv, renew=renew, stage=stage
                ),
            )
    return Kernel(applied, config, tools.identity, path, name, cached)


def record(kernel: Kernel) -> diagnostics.Record:
    """Return the warnings of all objects of the kernel, by step of kbuild.

    They include the warnings of objects that an earlier build in the same worktree compiled.
    """
    return diagnostics.read(kernel.path / diagnostics.NAME)


def warnings(kernel: Kernel) -> list[log.CompilerMessage]:
    """Return the warnings that the kernel's build printed for the files that its series changes."""
    return _warnings(kernel, {change.path for change in kernel.applied.changes})


def base_warnings(kernel: Kernel, base: Kernel | None) -> dict[str, list[str]]:
    """Return the texts of the warnings that the build of ``base``, the unpatched kernel, printed.

    They are listed by file, for the files that the series of ``kernel`` changes. A file has no
    entry if its warnings are unknown: ``base`` is None, or the base's build did not compile the
    file. A file that the series adds always has an entry, an empty list.
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


def _counts(config: Config) -> bool:
    """Return whether the touched objects of a kernel with ``config`` have counters."""
    return config.flavor in FLAVORS and FLAVORS[config.flavor].gcov


def _argv(where: Worktree, variables: Sequence[str], name: str, jobs: int) -> list[str]:
    return [
        "make",
        "-C",
        str(where.src),
        f"O={where.obj}",
        f"-j{jobs}",
        *variables,
        *objects.FIXED,
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
    *,
    renew: bool,
    stage: Stage,
) -> None:
    """Build the kernel in the worktree; write the files of its cache entry to ``partial``.

    ``argv`` is the make command, as `_argv` returns it. Raises the errors of `build`.
    """
    begun = time.monotonic()
    name = argv[-2].partition("=")[2]
    log_file = make.log_file("build", name)
    warnings = objects.build(
        worktree,
        applied,
        config,
        argv,
        what="build",
        log_file=log_file,
        product=IMAGE,
        renew=renew,
        stage=stage,
    )
    _check_config(worktree, config, log_file)
    _check_image(worktree, log_file)
    shutil.copyfile(product(worktree.obj, IMAGE), partial / "bzImage")
    shutil.copyfile(product(worktree.obj, "System.map"), partial / "System.map")
    (partial / "config").write_text(config.text)
    lines.keep(worktree, applied, partial)
    if _counts(config):
        gcov.keep(worktree, applied, partial)
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
    diagnostics.write(partial / diagnostics.NAME, warnings)
    shutil.move(log_file, partial / "build.log")


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
