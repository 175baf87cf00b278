# SPDX-License-Identifier: GPL-2.0-only
"""The merged result of a matrix: the outcome of each cell, and the tests that are flaky."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.matrix import fault
from kpatch.matrix.cell import Cell
from kpatch.matrix.job import Ending, Record
from kpatch.matrix.store import Store
from kpatch.report import result
from kpatch.report.result import RunResult
from kpatch.series import mutant
from kpatch.tables.outcomes import ExitCode

RESULT = "result.json"

NOT_RUN = "not run"

# The outcomes of a mutant, by the exit code of its command. Those before SURVIVED are kills.
MUTANTS: dict[ExitCode, str] = {
    ExitCode.FAIL: "killed",
    ExitCode.CRASH: "crashed",
    ExitCode.HANG: "hung",
    ExitCode.PASS: "survived",
    ExitCode.BUILD: "does-not-compile",
    ExitCode.NOT_JUDGED: "equivalent-object",
}
KILLS = ("killed", "crashed", "hung")
SURVIVED = MUTANTS[ExitCode.PASS]

# Names of at most so many tests are listed for a cell.
LISTED = 20


@dataclass(frozen=True)
class CellResult:
    """The outcome of a cell.

    ``outcome`` is the exit code of its command as a word (that of a mutant: one of MUTANTS), the
    ending if there is none, or NOT_RUN. ``ok``: it is as it should be, which means for a planted
    fault that it shows, and for a mutant that it did not survive. ``bad`` are the tests whose
    outcome is not the expected one, each with the outcome, if the cell should pass. ``tests`` are
    the outcomes of all tests, by series and test. ``killer`` is the requirement that a mutant
    breaks, "" if it breaks none. ``run`` is the result of its command, None if that writes none.
    """

    cell: Cell
    key: str
    outcome: str
    ok: bool
    record: Record | None = None
    bad: tuple[str, ...] = ()
    tests: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    killer: str = ""
    run: RunResult | None = None


@dataclass(frozen=True)
class Flaky:
    """A test with several outcomes in cells that differ in the seed alone.

    ``outcomes`` has one for each seed in order, NOT_RUN where the cell has run without the test.
    """

    group: str
    test: str
    seeds: tuple[int, ...]
    outcomes: tuple[str, ...]


@dataclass(frozen=True)
class Merged:
    """The merged result; ``left_out`` are lines about cells that the matrix does not have."""

    cells: tuple[CellResult, ...]
    flaky: tuple[Flaky, ...]
    left_out: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Return whether every cell has ended with a result."""
        return all(it.record is not None and it.record.ending is Ending.DONE for it in self.cells)

    @property
    def exit_code(self) -> ExitCode:
        """Return the exit code: LOST if a cell has no result, FAIL if one is not ok, or flaky."""
        if not self.complete:
            return ExitCode.LOST
        bad = self.flaky or not all(it.ok for it in self.cells)
        return ExitCode.FAIL if bad else ExitCode.PASS


def merged(
    cells: Mapping[str, Cell],
    stores: Sequence[Store],
    others: Mapping[str, Record],
    left_out: Sequence[str] = (),
) -> Merged:
    """Return the merged result of ``cells``, by key, from the records and files in ``stores``.

    ``others`` are records by key that are in no store, since their cells are not done.
    """
    results = [_cell_result(key, cell, stores, others.get(key)) for key, cell in cells.items()]
    return Merged(tuple(results), tuple(flaky(results)), tuple(left_out))


def flaky(results: Sequence[CellResult]) -> list[Flaky]:
    """Return the tests whose outcome differs among cells that differ in the seed alone.

    A cell without any test (its kernel does not build, its VM was lost) is left out: it shows as a
    cell.
    """
    groups: dict[Cell, list[CellResult]] = {}
    for it in results:
        if it.tests:
            groups.setdefault(it.cell.group, []).append(it)
    found = []
    for runs in groups.values():
        runs.sort(key=lambda it: it.cell.seed)
        seeds = tuple(it.cell.seed for it in runs)
        name = runs[0].cell.name.rpartition(" seed ")[0]
        for test in sorted({test for it in runs for test in it.tests}):
            outcomes = tuple(it.tests.get(test, NOT_RUN) for it in runs)
            if len(set(outcomes)) > 1:
                found.append(Flaky(name, test, seeds, outcomes))
    return found


def dump(merged: Merged) -> str:
    """Return the merged result as JSON."""
    cells = [
        {
            **asdict(it.cell),
            "key": it.key,
            "outcome": it.outcome,
            "ok": it.ok,
            "why": it.why,
            "killer": it.killer,
            "bad": list(it.bad),
            "seconds": it.record.seconds if it.record else None,
            "host": it.record.host if it.record else "",
            "files": dict(it.record.files) if it.record else {},
        }
        for it in merged.cells
    ]
    data = {
        "schema_version": 1,
        "exit_code": merged.exit_code,
        "cells": cells,
        "flaky": [asdict(it) for it in merged.flaky],
        "left_out": list(merged.left_out),
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _cell_result(key: str, cell: Cell, stores: Sequence[Store], other: Record | None) -> CellResult:
    stored = ((known, store) for store in stores if (known := store.record(key)) is not None)
    record, store = next(stored, (other, None))
    if record is None:
        return CellResult(cell, key, NOT_RUN, ok=False)
    if store is None or record.code is None or record.ending is not Ending.DONE:
        return CellResult(cell, key, record.ending.value, ok=False, record=record, why=record.why)
    outcome = ExitCode(record.code).word
    try:
        found = _run_result(record, store)
    except HarnessError as error:
        return CellResult(cell, key, outcome, ok=False, record=record, why=str(error))
    if cell.mutant:
        return _mutant(CellResult(cell, key, outcome, ok=False, record=record), found)
    ok, why = record.code == ExitCode.PASS, ""
    if cell.fault:
        ok = found is not None and _shows(cell, found)
        why = "" if ok else "does not break exactly the requirements that it should"
    elif found is not None and found.error is not None:
        why = f"{found.error.what}: {found.error.cause}"
    tests = found.tests if found is not None else ()
    return CellResult(
        cell,
        key,
        outcome,
        ok,
        record,
        bad=tuple(
            f"{it.series} {it.id}: {it.outcome.value}" for it in tests if not it.ok and not ok
        ),
        tests={f"{it.series} {it.id}": it.outcome.value for it in tests},
        why=why,
        run=found,
    )


def _mutant(it: CellResult, found: RunResult | None) -> CellResult:
    """Return the outcome ``it`` of a mutant, whose run was ``found``, in the words of MUTANTS.

    An error that is not about the mutant (the series itself does not build) is no outcome of it.
    """
    name = mutant.what(mutant.parse(it.cell.mutant))
    error = None if found is None else found.error
    assert it.record is not None and it.record.code is not None
    word = MUTANTS.get(ExitCode(it.record.code))
    if found is None or word is None or (error is not None and error.what != name):
        why = f"{error.what}: {error.cause}" if error is not None else "has no result of a run"
        return replace(it, why=why)
    if error is None and word not in (*KILLS, SURVIVED):
        return replace(it, why="has no result of a mutant")
    bad = [test for test in found.tests if not test.ok]
    return replace(
        it,
        outcome=word,
        ok=word != SURVIVED,
        killer=bad[-1].requirement if bad else "",
        why="" if error is None else error.cause,
    )


def _shows(cell: Cell, found: RunResult) -> bool:
    """Return whether the planted fault of ``cell`` shows in its run; False if it is unknown."""
    row = next((row for row in fault.load()[1] if row.name == cell.fault), None)
    return row is not None and fault.shown(row, found, whole=not cell.tests)


def _run_result(record: Record, store: Store) -> RunResult | None:
    """Return the result.json of a cell; None if its command writes none.

    HarnessError (exit 7) if it is damaged.
    """
    digest = record.files.get(RESULT)
    if digest is None:
        return None
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-merge.") as folder:
        path = Path(folder) / RESULT
        path.write_bytes(store.get(digest))
        return result.load(path)
