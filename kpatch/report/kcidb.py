# SPDX-License-Identifier: GPL-2.0-only
"""Write a run as a report for KCIDB (kernelci.org).

Each series is a checkout, with a build if the run got that far; its tests and incidents are tests
of the build. Tests that fail as expected, on the negative control or at a documented limit, are
left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kpatch.report import kcidb_objects as kcidb
from kpatch.report.result import RunResult, SeriesInfo
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.verdict.judge import TestResult

SUITE = "vfio_acpi"

STATUS = {
    Outcome.PASS: "PASS",
    Outcome.FAIL: "FAIL",
    Outcome.CRASH: "FAIL",
    Outcome.HANG: "FAIL",
    Outcome.SKIP: "SKIP",
    Outcome.LOST: "MISS",
    Outcome.INFRA: "MISS",
    Outcome.NOT_JUDGED: "MISS",
}

UNEXPECTED = "ERROR"
"""The KCIDB status of a test with an unexpected pass, skip or xfail."""


Objects = list[dict[str, Any]]


def render(run: RunResult) -> str:
    """Return the report as JSON text; it has no objects if the run ended before it had a tree."""
    return kcidb.document(*objects(run))


def objects(run: RunResult) -> tuple[Objects, Objects, Objects]:
    """Return the checkouts, builds and tests of the run."""
    checkouts: Objects = []
    builds: Objects = []
    tests: Objects = []
    for series in run.series:
        if run.kernel is None:
            continue
        patches = () if not series.patches else None
        words = (series.delta_id or series.name, series.title, run.started, patches)
        checkouts.append(kcidb.checkout(kcidb.Source(run.kernel, *words)))
        build = _build(run, series, checkouts[-1]["id"])
        if build is not None:
            builds.append(build)
            tests += _tests(run, series, build["id"])
    return checkouts, builds, tests


def _build(run: RunResult, series: SeriesInfo, checkout: str) -> dict[str, Any] | None:
    """Return the KCIDB build of a series: PASS if its kernel was built, FAIL if the build failed.

    Returns None if the run ended before either. ``checkout`` is the id of the KCIDB checkout.
    """
    status = "PASS" if series.kernel_id else None
    tried = run.error is not None and run.exit_code is ExitCode.BUILD and series.config_id
    if status is None and not tried:
        return None
    compiler, config_id = run.tools.get("compiler", ""), series.config_id or ""
    made = kcidb.build(checkout, config=run.flavor, config_id=config_id, compiler=compiler)
    return {**made, "status": status or "FAIL"}


def _tests(run: RunResult, series: SeriesInfo, build: str) -> Iterator[dict[str, Any]]:
    for test in run.tests:
        if test.series == series.name and not _expected_failure(test):
            at = kcidb.path(SUITE, test.requirement, _function(test.id))
            yield kcidb.test(
                *(build, at),
                key=test.id,
                status=_status(test),
                log=test.message,
                seconds=test.seconds,
            )
    for number, incident in enumerate(run.incidents):
        if incident.series == series.name:
            at, status = kcidb.path(SUITE, "vm"), STATUS[incident.outcome]
            key = f"VM {incident.vm} ({number})"
            yield kcidb.test(build, at, key=key, status=status, log=incident.message)


def _expected_failure(test: TestResult) -> bool:
    return test.ok and test.expected in (Outcome.FAIL, Outcome.XFAIL)


def _status(test: TestResult) -> str:
    harmless = test.outcome in (Outcome.PASS, Outcome.SKIP, Outcome.XFAIL)
    return UNEXPECTED if harmless and not test.ok else STATUS[test.outcome]


def _function(test: str) -> str:
    """Return the function's name in the id ``test``: "test_f" for "test_burst.py::test_f[0x81]"."""
    return test.rpartition("::")[2].partition("[")[0]
