# SPDX-License-Identifier: GPL-2.0-only
"""Write a review as JUnit XML: a suite for each check, in it a case for each patch that it judges.

A check that judges the series as a whole has a case for the series, and one for each patch with
findings. A check that could not run, or does not apply, is a skipped case with the reason; a check
that was not selected is left out. Findings that do not make the review fail are the output of a
case that passed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kpatch.lib import sanitize
from kpatch.model import Check, Finding
from kpatch.report.review import words
from kpatch.report.review.record import Review, worst
from kpatch.tables.outcomes import CheckOutcome

if TYPE_CHECKING:
    import junitparser


def render(review: Review) -> bytes:
    """Return the review as a JUnit XML document in UTF-8."""
    import junitparser

    document = junitparser.JUnitXml("vfio-acpi")
    for check in review.checks:
        suite = junitparser.TestSuite(check.name)
        for name, value in words.inputs(review).items():
            suite.add_property(name, value)
        for patch, found in review.places(check).items():
            suite.add_testcase(_case(review, check, patch, found))
        if check not in review.judged and check.outcome is not CheckOutcome.NOT_SELECTED:
            suite.add_testcase(_skipped(check))
        if len(suite):
            document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    return bytes(document.tostring())  # type: ignore[no-untyped-call]


def _case(
    review: Review, check: Check, patch: int, found: Iterable[Finding]
) -> junitparser.TestCase:
    import junitparser

    case = junitparser.TestCase(sanitize.line(review.patch(patch)), check.name)
    found = list(found)
    text = sanitize.clean("\n".join(_lines(check, found)))
    if found and review.counts(worst(found)):
        failure = junitparser.Failure(words.cause(found[0]), found[0].outcome.value)
        failure.text = text
        case.result = [failure]
    elif found:
        case.system_out = text
    return case


def _lines(check: Check, found: Iterable[Finding]) -> Iterable[str]:
    for one in found:
        yield f"{one.outcome.value}: {words.cause(one)}"
        yield from (line for _, line in words.details(one, limit=1000))
        if command := words.command(check, one):
            yield f"repeat: {command}"


def _skipped(check: Check) -> junitparser.TestCase:
    import junitparser

    case = junitparser.TestCase("the series", check.name)
    case.result = [junitparser.Skipped(sanitize.line(check.reason), check.outcome.value)]
    return case
