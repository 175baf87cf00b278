# SPDX-License-Identifier: GPL-2.0-only
"""The outcome of each requirement for each series and kernel, from the results of runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.report import result, write
from kpatch.report.result import RunResult, SeriesInfo
from kpatch.tables.outcomes import Outcome
from kpatch.verdict.judge import TestResult
from kpatch.verdict.requirements import Requirement
from ktests.contract import NONE, testable


class Held(str, Enum):
    """How a series holds a requirement."""

    PASS = "pass"  # every test passed
    LIMIT = "limit"  # the tests fail as documented: the mechanism does not meet it
    SKIP = "skip"  # documented: the tests cannot run with the mechanism
    FAIL = "fail"  # a test has another outcome than the expected one
    NOT_CLAIMED = "not claimed"  # the mechanism does not promise it
    NOT_TESTED = "not tested"  # it is promised, and the run has no test of it


@dataclass(frozen=True)
class Row:
    """The outcome of one requirement for one series on one kernel.

    ``kernel`` is its version. ``tests`` is their number. ``reason`` is that of a limit or skip, or
    the first message of a failure; "" if there is none.
    """

    kernel: str
    series: str
    requirement: str
    held: Held
    tests: int = 0
    reason: str = ""


def read(folders: Iterable[Path]) -> list[RunResult]:
    """Return the results of runs in ``folders``: a result.json in each, or in folders below.

    HarnessError (exit 2) if a folder has none, if a result cannot be read or is of another version
    of the schema, if its run did not come to its verdict, or if two of the results contradict
    (`refuse_mixed`).
    """
    results = [(path, _read(path)) for folder in folders for path in _files(folder)]
    refuse_mixed(results)
    return [one for _, one in results]


def _files(folder: Path) -> list[Path]:
    here = folder / write.RESULT
    found = [here] if here.is_file() else sorted(folder.glob(f"*/{write.RESULT}"))
    if not found:
        raise HarnessError(
            f"--results {folder}",
            f"has no {write.RESULT}, nor has a folder in it",
            hint="name the folder OUT of a run of `make kernel-test`",
        )
    return found


def _read(path: Path) -> RunResult:
    again = "run `make kernel-test` again"
    try:
        one = result.load(path)
    except HarnessError as error:
        raise HarnessError(str(path), error.cause, hint=again) from None
    if one.error is not None or one.kernel is None:
        cause = f"{one.error.what} {one.error.cause}" if one.error else "it has no kernel"
        raise HarnessError(str(path), f"the run did not come to its verdict: {cause}", hint=again)
    if one.selection:
        raise HarnessError(
            str(path),
            f"is of a selection of the tests ({one.selection})",
            hint="run the whole suite: leave TESTS out",
        )
    return one


def refuse_mixed(results: Sequence[tuple[Path, RunResult]]) -> None:
    """Raise HarnessError (exit 2) if two results do not belong in one comparison.

    They are of different trees or flavors of one kernel version, or both have the same series.
    """
    trees: dict[str, tuple[Path, tuple[str, str]]] = {}
    runs: dict[tuple[str, str], Path] = {}
    for path, one in results:
        assert one.kernel is not None
        version = one.kernel.version
        first, tree = trees.setdefault(version, (path, (one.kernel.tree_id, one.flavor)))
        if tree != (one.kernel.tree_id, one.flavor):
            raise HarnessError(
                str(path),
                f"is of another tree or flavor of {version} than {first}",
                hint="compare runs of one tree and flavor",
            )
        for series in _judged(one):
            other = runs.setdefault((version, series.name), path)
            if other != path:
                raise HarnessError(
                    str(path),
                    f"has series {series.name} on {version}, and so has {other}",
                    hint="name one of the two",
                )


def _judged(one: RunResult) -> list[SeriesInfo]:
    """Return the series of a result, without the negative control."""
    return [series for series in one.series if series.mechanism != NONE]


def rows(results: Iterable[RunResult], table: Mapping[str, Requirement]) -> list[Row]:
    """Return a row for each series of each result and each requirement of ``table``."""
    return [
        _row(one, series, requirement)
        for one in results
        for series in _judged(one)
        for requirement in table.values()
    ]


def _row(one: RunResult, series: SeriesInfo, requirement: Requirement) -> Row:
    assert one.kernel is not None
    tests = [
        test
        for test in one.tests
        if (test.series, test.requirement) == (series.name, requirement.id)
    ]
    where = (one.kernel.version, series.name, requirement.id)
    if not tests:
        claimed = requirement.promised_by(series.mechanism)
        possible = testable(requirement.first, one.kernel.version)
        held = Held.NOT_TESTED if claimed and possible else Held.NOT_CLAIMED
        return Row(*where, held)
    bad = [test for test in tests if not test.ok]
    if bad:
        told = f"{bad[0].outcome.value}: {_first_line(bad[0])}"
        return Row(*where, Held.FAIL, len(tests), told)
    return Row(*where, _HELD[tests[0].expected], len(tests), next(_reasons(tests), ""))


_HELD = {Outcome.PASS: Held.PASS, Outcome.XFAIL: Held.LIMIT, Outcome.SKIP: Held.SKIP}


def _reasons(tests: Iterable[TestResult]) -> Iterator[str]:
    return (_first_line(test) for test in tests if test.expected is not Outcome.PASS)


def _first_line(test: TestResult) -> str:
    return test.message.partition("\n")[0]
