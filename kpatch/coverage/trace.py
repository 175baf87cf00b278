# SPDX-License-Identifier: GPL-2.0-only
"""What the counters of the VMs say of each line, merged, by gcovr (which runs gcov).

The counters are from the guest and the graphs from the build, so gcovr runs confined.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpatch.coverage.history import History, settings
from kpatch.errors import HarnessError
from kpatch.lib import confine, process
from kpatch.tables.outcomes import ExitCode

PROGRAMS = Path(sys.prefix) / "bin"

JSON, COBERTURA = "trace.json", "trace.xml"

# gcov complains of a source that is not there: of headers that the series does not touch. Counters
# that are not atomic may lose increments, and the difference of two may then be negative.
TOLERANT = ("--gcov-ignore-errors=source_not_found", "--gcov-ignore-parse-errors=all")


@dataclass(frozen=True)
class Count:
    """How often a line of ``function`` ran, and how many of its branches were ``taken``."""

    function: str
    hits: int
    branches: int
    taken: int


def trace(
    history: History, graphs: Mapping[str, Path], counters: Sequence[Mapping[str, bytes]]
) -> dict[tuple[str, int], Count]:
    """Return the count of each executable line of the files of ``history``, by path and number.

    ``graphs`` are the files that the compiler made with the objects (`kpatch.build.gcov.graphs`),
    ``counters`` those of each VM, both by the path of the object without ".o". gcovr also writes
    COBERTURA, for diff-cover, into the folder above that of ``history``. HarnessError: exit 2 if
    gcovr is not installed, exit 7 if it fails.
    """
    folder = history.folder.parent
    parts = []
    for number, of_vm in enumerate(counters, 1):
        # gcov finds a source by its path relative to the folder of the objects, "../fs/eventfd.c".
        objects = history.folder / f".vm{number}"
        _place(objects, graphs, of_vm)
        parts.append(folder / f"vm{number}.json")
        where = f"--gcov-object-directory={objects}"
        _gcovr(history, where, *TOLERANT, f"--json={parts[-1]}", objects.name)
    _gcovr(
        history,
        *(f"--add-tracefile={part}" for part in parts),
        f"--json={folder / JSON}",
        f"--cobertura={folder / COBERTURA}",
    )
    return parse(json.loads((folder / JSON).read_text()))


def parse(data: Mapping[str, object]) -> dict[tuple[str, int], Count]:
    """Return the counts in ``data``, the content of gcovr's JSON.

    A line may have several entries, one for each function that it became a part of.
    """
    found: dict[tuple[str, int], Count] = {}
    files = data["files"]
    assert isinstance(files, list)
    for file in files:
        for line in file["lines"]:
            key = file["file"], line["line_number"]
            branches = [branch["count"] for branch in line["branches"]]
            here = Count(
                line.get("function_name", ""),
                line["count"],
                len(branches),
                sum(count > 0 for count in branches),
            )
            found[key] = _joined(found[key], here) if key in found else here
    return found


def _joined(one: Count, other: Count) -> Count:
    return Count(
        one.function or other.function,
        one.hits + other.hits,
        one.branches + other.branches,
        one.taken + other.taken,
    )


def _place(objects: Path, graphs: Mapping[str, Path], counters: Mapping[str, bytes]) -> None:
    """Write graphs and counters to the folder ``objects``, as they would be after a run there."""
    for stem, graph in graphs.items():
        file = objects / f"{stem}.gcno"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(graph.read_bytes())
        if stem in counters:
            file.with_suffix(".gcda").write_bytes(counters[stem])


def _gcovr(history: History, *arguments: str) -> None:
    filters = (f"--filter={re.escape(path)}$" for path in history.paths)
    run(history, "gcovr", f"--root={history.folder}", *filters, *arguments)


def require() -> None:
    """Raise HarnessError (exit 2) if a program that is needed is not installed."""
    for name in ("gcovr", "diff-cover"):
        _program(name)


def _program(name: str) -> Path:
    path = PROGRAMS / name
    if not path.is_file():
        raise HarnessError(name, "is not installed", hint="run: make coverage-ready")
    return path


def run(history: History, program: str, *arguments: str) -> None:
    """Run a ``program`` of the virtual environment, confined, in the folder of ``history``.

    It can write to the folder above that. HarnessError: exit 2 if it is not installed, exit 7 if it
    fails.
    """
    argv = confine.wrap(
        [str(_program(program)), *arguments],
        readable=[Path(sys.prefix), Path(sys.base_prefix)],
        writable=[history.folder.parent],
    )
    status, output = process.capture(argv, cwd=history.folder, env=settings())
    if status != 0:
        raise HarnessError(
            program,
            process.ending(status),
            hint="its messages are above; the guest's counters may be damaged: run it again",
            code=ExitCode.LOST,
            details=output,
        )
