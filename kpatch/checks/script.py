# SPDX-License-Identifier: GPL-2.0-only
"""Run a script of the unpatched tree on text of the series, confined if bubblewrap works.

A confined script can read the tree and the files that it gets, but no file of the user. checkpatch
and others look for settings in the current folder and in HOME; neither is the user's here.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from kpatch.checks.context import CouldNotRunError
from kpatch.lib import confine, environment, process, system
from kpatch.model import Tree

SECONDS = 300.0
"""Time limit of one script in seconds. The slowest takes a tenth of it on a large patch."""

OUTPUT = 32 << 20
"""Limit of a script's output in bytes."""


@contextmanager
def folder(files: Mapping[str, bytes]) -> Iterator[Path]:
    """Yield a temporary folder with ``files`` (content by path); it is removed after the block."""
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-script-") as name:
        top = Path(name)
        for path, content in files.items():
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_bytes(content)
        yield top


def require(tree: Tree, script: str) -> Path:
    """Return the path of ``script`` in the tree; CouldNotRunError if the tree has none."""
    path = tree.path / script
    if not path.is_file():
        raise CouldNotRunError(f"the tree has no {script}; give KERNEL a whole kernel tree")
    return path


def run(
    tree: Tree,
    argv: Sequence[str],
    *,
    cwd: Path,
    readable: Sequence[Path] = (),
    writable: Sequence[Path] = (),
) -> tuple[int, str]:
    """Run ``argv`` in the folder ``cwd``, confined if bwrap works; return exit status and output.

    ``argv`` begins with the interpreter and the script. Confined, it can read ``tree``, ``cwd`` and
    ``readable``, and write to ``writable`` alone. CouldNotRunError if the interpreter is not in
    PATH, or the script exceeds SECONDS or OUTPUT.
    """
    if shutil.which(argv[0]) is None:
        raise CouldNotRunError(f"{argv[0]} is not in PATH; {system.install([argv[0]])}")
    # A folder that does not exist: in the user's HOME a script would find settings.
    env = environment.clean(HOME="/nonexistent", PYTHONDONTWRITEBYTECODE="1")
    if not confine.fault():
        env["PATH"] = confine.path()
    words = confine.wrap(argv, readable=[tree.path, cwd, *readable], writable=writable)
    end = time.monotonic() + SECONDS
    over = False

    def watch(printed: int) -> bool:
        nonlocal over
        over = time.monotonic() > end or printed > OUTPUT
        return over

    with confine.bounded() as groups:
        entered = ["sh", "-c", confine.ENTER, "sh", *map(str, groups), "--", *words]
        status, output = process.capture(
            entered if groups else words, cwd=cwd, env=env, watch=watch
        )
    if over:
        raise CouldNotRunError(
            f"{Path(argv[1]).name} was ended after {SECONDS:.0f} s or {OUTPUT >> 20} MiB of "
            "output; look for what is abnormal in the series"
        )
    return status, output
