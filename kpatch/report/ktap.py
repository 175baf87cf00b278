# SPDX-License-Identifier: GPL-2.0-only
"""Write a run as KTAP version 1 (Documentation/dev-tools/ktap.rst).

Each series is a test; its tests and incidents are subtests of it.

A guest's messages are written to diagnostic lines only, after the test's id: on a result line a
parser could take text after a "#" for a directive.

A test that fails as expected is "ok … # XFAIL", as kselftest.h prints it: KTAP has no other form
for it. The kernel's own parser (tools/testing/kunit/kunit_parser.py) supports no directive but
SKIP: it counts "ok … # XFAIL" as passed, and "not ok … # ERROR" as failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kpatch.lib import sanitize
from kpatch.report.ktap_lines import description, diagnostic, tail
from kpatch.report.result import RunResult
from kpatch.tables.outcomes import Outcome
from kpatch.verdict.judge import Incident, TestResult

# The directive on a test's result line by its outcome. It tells more than "ok" and "not ok".
_DIRECTIVES = {
    Outcome.SKIP: "SKIP",
    Outcome.XFAIL: "XFAIL a documented limit",
    Outcome.HANG: "TIMEOUT",
    Outcome.CRASH: "ERROR the kernel crashed or complained",
    Outcome.LOST: "ERROR the VM was lost",
    Outcome.INFRA: "ERROR the infrastructure failed",
}


def render(result: RunResult) -> str:
    """Return the result as KTAP text.

    A run that ended before a series was applied becomes one failed test, "run".
    """
    names = [series.name for series in result.series] or ["run"]
    lines = ["KTAP version 1", f"1..{len(names)}"]
    for number, name in enumerate(names, 1):
        tests = [test for test in result.tests if test.series == name]
        incidents = [incident for incident in result.incidents if incident.series == name]
        fine = bool(tests) and not incidents and all(test.ok for test in tests)
        lines += [f"  {line}" for line in _series(tests, incidents)]
        warnings = (
            str(it) for entry in result.series if entry.name == name for it in entry.warnings
        )
        lines += diagnostic(description(name), "\n".join(map(sanitize.line, warnings)))
        if result.error is not None:
            lines += diagnostic("error", f"{result.error.what}: {result.error.cause}")
        lines.append(f"{'ok' if fine else 'not ok'} {number} {description(name)}")
    return "\n".join(lines) + "\n"


def _series(tests: Iterable[TestResult], incidents: Iterable[Incident]) -> Iterator[str]:
    results = [*(_test(test) for test in tests), *(_incident(incident) for incident in incidents)]
    yield "KTAP version 1"
    yield f"1..{len(results)}"
    for number, (ok, name, directive, diagnostics) in enumerate(results, 1):
        yield from diagnostics
        yield f"{'ok' if ok else 'not ok'} {number} {name}{directive}"


def _test(test: TestResult) -> tuple[bool, str, str, list[str]]:
    name = description(test.id)
    if test.ok and test.expected is Outcome.FAIL:
        directive = "XFAIL fails without the series, as it must"
    else:
        directive = _DIRECTIVES.get(test.outcome, "")
        if not test.ok and test.outcome in (Outcome.SKIP, Outcome.XFAIL):
            directive = f"ERROR unexpected {test.outcome.value}"  # a parser takes SKIP for harmless
    diagnostics = [f"# {name}: requirement {sanitize.line(test.requirement)}"]
    return test.ok, name, tail(directive), diagnostics + diagnostic(name, test.message)


def _incident(incident: Incident) -> tuple[bool, str, str, list[str]]:
    name = f"VM {incident.vm}" if incident.vm else "suite"
    directive = tail(_DIRECTIVES.get(incident.outcome, ""))
    return False, name, directive, diagnostic(name, incident.message)
