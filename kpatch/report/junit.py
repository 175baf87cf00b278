# SPDX-License-Identifier: GPL-2.0-only
"""Write a run as JUnit XML: a suite for each series, in it a case for each test and incident.

A test with an unexpected outcome is a failure, or an error if the outcome is crash, hang, lost or
infra. An incident is an error. A test whose skip or xfail is expected is a skipped case. The error
that ended a run is a case in a suite of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpatch.lib import sanitize
from kpatch.report.result import RunResult, SeriesInfo
from kpatch.tables.outcomes import Outcome
from kpatch.verdict.judge import Incident, TestResult

if TYPE_CHECKING:
    import junitparser
    from junitparser.junitparser import FinalResult

_ERRORS = frozenset({Outcome.CRASH, Outcome.HANG, Outcome.LOST, Outcome.INFRA})
_SKIPPED = frozenset({Outcome.SKIP, Outcome.XFAIL})


def render(result: RunResult) -> bytes:
    """Return the result as a JUnit XML document in UTF-8."""
    import junitparser

    document = junitparser.JUnitXml("vfio-acpi")
    for series in result.series:
        suite = junitparser.TestSuite(sanitize.line(series.name))
        for name, value in _properties(result, series).items():
            suite.add_property(name, sanitize.line(value))
        for test in result.tests:
            if test.series == series.name:
                suite.add_testcase(_test(test))
        for incident in result.incidents:
            if incident.series == series.name:
                suite.add_testcase(_incident(incident))
        if series.warnings:
            suite.append(_output("\n".join(map(str, series.warnings))))  # type: ignore[no-untyped-call]
        document.add_testsuite(suite)
    if result.error is not None:
        suite = junitparser.TestSuite("run")
        case = junitparser.TestCase("run", "vfio-acpi")
        line = f"{result.error.what}: {result.error.cause}; {result.error.hint}"
        case.result = [_element(junitparser.Error, line + "\n" + result.error.details, "error")]
        suite.add_testcase(case)
        document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    return bytes(document.tostring())  # type: ignore[no-untyped-call]


def _properties(result: RunResult, series: SeriesInfo) -> dict[str, str]:
    kernel = {} if result.kernel is None else {"kernel": result.kernel.version}
    accel = {} if result.accel is None else {"accel": result.accel.used}
    config = {} if series.config_id is None else {"config": series.config_id}
    limits = {} if series.folder is None else series.folder.limits
    declared = {f"declared limit of {name}": reason for name, reason in limits.items()}
    facts = {**kernel, "flavor": result.flavor, **config, **accel, "mechanism": series.mechanism}
    return facts | declared


def _output(words: str) -> junitparser.SystemOut:
    """Return a suite's <system-out> element with ``words``: the warnings of the series' build."""
    import junitparser

    return junitparser.SystemOut(sanitize.clean(words))


def _test(test: TestResult) -> junitparser.TestCase:
    import junitparser

    case = junitparser.TestCase(
        sanitize.line(test.id), sanitize.line(test.requirement), test.seconds or 0
    )
    kind = test.outcome.value
    if test.ok and test.outcome in _SKIPPED:
        case.result = [_element(junitparser.Skipped, test.message, kind)]
    elif test.ok and test.outcome is not Outcome.PASS:
        case.system_out = sanitize.clean(f"{kind}, as expected of this series\n{test.message}")
    elif not test.ok:
        made = junitparser.Error if test.outcome in _ERRORS else junitparser.Failure
        case.result = [_element(made, test.message, kind)]
    return case


def _incident(incident: Incident) -> junitparser.TestCase:
    import junitparser

    case = junitparser.TestCase(f"VM {incident.vm}" if incident.vm else "suite", "incident")
    case.result = [_element(junitparser.Error, incident.message, incident.outcome.value)]
    return case


def _element(element_type: type[FinalResult], message: str, kind: str) -> FinalResult:
    element = element_type(sanitize.line(message) or kind, kind)
    element.text = sanitize.clean(message)
    return element
