# SPDX-License-Identifier: GPL-2.0-only
"""Build the sources that a series touches with counters of the lines that run (gcov).

The kernel's file of an object's counters is PLACE/drivers/vfio/pci/vfio_pci_acpi.gcda below
/sys/kernel/debug/gcov. To read it, gcov needs the object's graph, which the compiler writes beside
the object (.gcno). The graphs are kept with the kernel: the next series in the worktree has others.

Source: Documentation/dev-tools/gcov.rst, scripts/Makefile.lib, kernel/gcov/fs.c.
"""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from kpatch.build import objects
from kpatch.build.worktree import Worktree
from kpatch.lib.confine import product
from kpatch.model import Applied, Kernel

FOLDER = "gcov"
"""Folder of a kernel in the cache with its graphs, at the paths of the objects."""

SUFFIX = ".gcda"
"""End of the name of the kernel's file of the counters of an object."""


def settings(applied: Applied) -> tuple[str, ...]:
    """Return the variable for make's command line by which the touched objects have counters."""
    counted = objects.if_touched(applied, "y")
    return (f"GCOV_PROFILE={counted}",) if counted else ()


def keep(worktree: Worktree, applied: Applied, partial: Path) -> None:
    """Copy the graphs of the touched objects from the worktree to the kernel's folder ``partial``.

    An object that the config leaves out has none. HarnessError (exit 4) if a graph is no regular
    file.
    """
    folder = partial / FOLDER
    folder.mkdir()
    for stem in objects.stems(applied):
        name = PurePosixPath(f"{stem}.gcno")
        if (worktree.obj / f"{stem}.o").exists() and (worktree.obj / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(product(worktree.obj, Path(name)), folder / name)


def graphs(kernel: Kernel) -> dict[str, Path]:
    """Return the graphs of ``kernel``, by the path of the object without ".o"."""
    folder = kernel.path / FOLDER
    files = sorted(folder.rglob("*.gcno"))
    return {str(file.relative_to(folder).with_suffix("")): file for file in files}
