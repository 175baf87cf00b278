# SPDX-License-Identifier: GPL-2.0-only
"""Build the kernel's own VFIO selftests from the tested tree, as an image for the guest.

``tools/testing/selftests/vfio`` of the tree with the series applied is compiled against the headers
that the same source installs. Older trees do not have the suite; see `present`. The programs are
linked statically, since the guest would have to take shared libraries from the host's file system.
They are packed into an EROFS image, ``selftests/KEY/image.erofs`` in the cache, with make's output
beside it (build.log).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpatch.build import headers, make
from kpatch.build.worktree import checkout
from kpatch.lib import cache, erofs
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Kernel
from kpatch.series import apply

KIND = "selftests"
WORK = "selftests"

RECIPE = "1"
"""Part of the cache key. Increase it if a change here alters the programs of the same source."""

SUITE = Path("tools/testing/selftests/vfio")

# Files whose change by a series can change the programs: tools/, the sources of the installed
# headers and the scripts that install them, and drivers whose register headers the suite includes.
# No other file of the kernel is compiled into these programs.
_COMPILED = re.compile(
    r"[^/]+|(?:tools|scripts|usr)/.*|(?:arch/\w+/)?include/uapi/.*|include/asm-generic/.*"
    r"|arch/\w+/(?:Makefile|entry/syscalls/.*|tools/.*)"
    r"|drivers/(?:dma|net/ethernet/intel)/.*\.h"
)


@dataclass(frozen=True)
class Selftests:
    """The built VFIO selftests.

    ``image`` is the EROFS image with the programs in its top folder, ``log`` has make's output.
    ``cached``: they were in the cache.
    """

    image: Path
    log: Path
    cached: bool


def present(applied: Applied) -> bool:
    """Return whether the tree with the series applied has the VFIO selftests."""
    makefile = str(SUITE / "Makefile")
    for change in applied.changes:
        if change.path == makefile:
            return change.content is not None
    return (applied.tree.path / makefile).is_file()


def key(kernel: Kernel) -> str:
    """Return the cache key of the selftests of ``kernel``: a digest of their sources and compiler.

    Series that differ only in kernel code share the programs, so that a change of a driver does
    not rebuild them.
    """
    sources = apply.selected_id(kernel.applied, _COMPILED)
    return cache.digest((RECIPE, kernel.applied.tree.tree_id, kernel.compiler, sources))


def build(kernel: Kernel, *, jobs: int, stage: Stage) -> Selftests:
    """Return the selftests of the tree that ``kernel`` is built from; build them if not cached.

    HarnessError: exit 4 if the build fails, with the first error, or makes no program; the log is
    then in the cache's folder ``logs``. Exit 7 if the disk is full or mkfs.erofs fails; exit 2 for
    a missing tool.
    """
    name = key(kernel)
    what = f"selftests of series {kernel.applied.series.name}"

    def fill(partial: Path) -> None:
        installed = headers.install(kernel.applied, jobs=jobs, stage=stage)
        # In the kernel's own worktree: its source has the series applied already.
        with checkout(kernel.applied, kernel.config.flavor, stage=stage) as worktree:
            work = worktree.folder / WORK
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            argv = _command(worktree.src / SUITE, work, installed.path / "include", jobs)
            stage.note("building the kernel's VFIO selftests")
            stage.command(argv)
            log_file = make.log_file("selftests", name)
            include = (installed.path,)
            make.run(
                argv, what=what, log_file=log_file, source=worktree.src, out=work, readable=include
            )
            programs = list(_programs(work))
            if not programs:
                raise make.failure(what, log_file, f"{SUITE} builds no program")
            _pack(programs, partial, stage)
        shutil.move(log_file, partial / "build.log")

    folder, cached = cache.entry(KIND, name, fill)
    return Selftests(folder / "image.erofs", folder / "build.log", cached)


def _command(suite: Path, work: Path, include: Path, jobs: int) -> list[str]:
    settings = (f"OUTPUT={work}", f"KHDR_INCLUDES=-isystem {include}", "USERLDFLAGS=-static")
    return ["make", f"-j{jobs}", "-C", str(suite), *settings]


def _pack(programs: Sequence[Path], partial: Path, stage: Stage) -> None:
    root = partial / "root"
    root.mkdir()
    for program in programs:
        shutil.copy2(program, root / program.name)
    erofs.pack(root, partial / "image.erofs", stage)
    shutil.rmtree(root)


def _programs(folder: Path) -> Iterator[Path]:
    """Yield the linked programs: the executable files in ``folder``, sorted by name."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink() and os.access(path, os.X_OK):
            yield path
