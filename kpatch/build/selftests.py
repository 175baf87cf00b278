# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own VFIO selftests, built from the tree that is tested, for its guest.

``tools/testing/selftests/vfio`` of the tree with the series in place is compiled against the
headers that this very source installs. A tree that is older than the suite has none, and then
there is nothing to build. The programs are linked statically: they go into an image of their own
(``selftests/KEY/image.erofs`` in the cache, build.log beside it), and the guest has nothing to look
libraries up in but the host's file system.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpatch.build import headers, make, worktree
from kpatch.lib import cache, erofs
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Kernel
from kpatch.series import apply

KIND = "selftests"
WORK = "selftests"

RECIPE = "1"
"""To be counted up when a change here makes other programs from the same source."""

SUITE = Path("tools/testing/selftests/vfio")

# What of a series can change the programs: the suite itself with what is around it, what makes
# and installs the headers, and the drivers whose register headers the suite borrows. All else
# of the kernel is not compiled into a program of user space.
_COMPILED = re.compile(
    r"[^/]+|(?:tools|scripts|usr)/.*|(?:arch/\w+/)?include/uapi/.*|include/asm-generic/.*"
    r"|arch/\w+/(?:Makefile|entry/syscalls/.*|tools/.*)"
    r"|drivers/(?:dma|net/ethernet/intel)/.*\.h"
)


@dataclass(frozen=True)
class Selftests:
    """The programs, in ``image``'s top folder, and all that make printed."""

    image: Path
    log: Path
    cached: bool


def present(applied: Applied) -> bool:
    """Whether the tree with the series has the suite."""
    makefile = str(SUITE / "Makefile")
    for change in applied.changes:
        if change.path == makefile:
            return change.content is not None
    return (applied.tree.path / makefile).is_file()


def key(kernel: Kernel) -> str:
    """Name the programs by what they are made from.

    Series that differ in the kernel alone share them, so that a change of a driver is tested as
    fast as before.
    """
    sources = apply.selected_id(kernel.applied, _COMPILED)
    return cache.digest((RECIPE, kernel.applied.tree.tree_id, kernel.compiler, sources))


def build(kernel: Kernel, *, jobs: int, stage: Stage) -> Selftests:
    """The selftests of the tree that ``kernel`` is built from, from the cache or made now.

    HarnessError (exit 4) with the first error if they do not build; the log is kept either way.
    """
    name = key(kernel)
    what = f"selftests of series {kernel.applied.series.name}"

    def fill(partial: Path) -> None:
        installed = headers.install(kernel.applied, jobs=jobs, stage=stage)
        # In the slot of the kernel, whose source has the series in place already.
        with worktree.hold(kernel.applied, kernel.config.flavor, stage=stage) as held:
            work = held.folder / WORK
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            argv = _command(held.src / SUITE, work, installed.path / "include", jobs)
            stage.note("building the kernel's VFIO selftests")
            stage.command(argv)
            log_file = make.log_file("selftests", name)
            include = (installed.path,)
            make.run(
                argv, what=what, log_file=log_file, source=held.src, out=work, readable=include
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
    """What was linked: the executables beside the objects."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink() and os.access(path, os.X_OK):
            yield path
