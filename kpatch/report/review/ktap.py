# SPDX-License-Identifier: GPL-2.0-only
"""Write a review as KTAP version 1: a test for each check, in it a subtest for each patch.

A check that judges the series as a whole has a subtest for the series, and one for each patch with
findings. A check that could not run, or does not apply, is skipped with the reason; a check that
was not selected is left out. Findings are written to diagnostic lines; a test is "not ok" only if a
finding makes the review fail.
"""

from __future__ import annotations

from collections.abc import Iterator

from kpatch.model import Check
from kpatch.report.ktap_lines import description, diagnostic, tail
from kpatch.report.review import words
from kpatch.report.review.record import Review, worst
from kpatch.tables.outcomes import CheckOutcome


def render(review: Review) -> str:
    """Return the review as KTAP text."""
    checks = [one for one in review.checks if one.outcome is not CheckOutcome.NOT_SELECTED]
    lines = ["KTAP version 1", f"1..{len(checks)}"]
    for number, check in enumerate(checks, 1):
        lines += [f"  {line}" for line in _patches(review, check)]
        skipped = check not in review.judged
        bad = not skipped and review.counts(check.outcome)
        directive = f"SKIP {check.outcome.value}: {description(check.reason)}" if skipped else ""
        lines.append(_result(number, check.name, bad, directive))
    return "\n".join(lines) + "\n"


def _patches(review: Review, check: Check) -> Iterator[str]:
    """Yield the lines of the subtests of ``check``; none if it has not judged."""
    places = review.places(check)
    if not places:
        return
    yield "KTAP version 1"
    yield f"1..{len(places)}"
    for number, (patch, found) in enumerate(places.items(), 1):
        name = description(review.patch(patch))
        for one in found:
            yield from diagnostic(name, f"{one.outcome.value}: {words.cause(one)}")
        yield _result(number, name, review.counts(worst(found)), "")


def _result(number: int, name: str, bad: bool, directive: str) -> str:
    return f"{'not ok' if bad else 'ok'} {number} {name}{tail(directive)}"
