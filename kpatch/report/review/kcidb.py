# SPDX-License-Identifier: GPL-2.0-only
"""Write a review for KCIDB: a checkout, a build of the series, and a test for each check.

A check passes if none of its findings makes the review fail; all its findings are in its log.
Checks that were not selected are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from kpatch.model import Check
from kpatch.report import kcidb_objects as kcidb
from kpatch.report.kcidb_objects import Source
from kpatch.report.review import words
from kpatch.report.review.record import Review
from kpatch.tables.outcomes import JUDGED, CheckOutcome

SUITE = "vfio_acpi_check"

STATUS = {CheckOutcome.COULD_NOT_RUN: "MISS", CheckOutcome.NOT_APPLICABLE: "SKIP"}
"""The KCIDB status of a check that has not judged the series; other checks are FAIL or PASS."""


def render(review: Review) -> str:
    """Return the report as JSON text; it has no objects if the review has no kernel tree."""
    if review.kernel is None:
        return kcidb.document([], [], [])
    hashes = tuple(one.sha256 for one in review.patches)
    series = kcidb.identifier(*hashes)
    words_ = (series, review.title, review.started, hashes, review.message_id)
    checkout = kcidb.checkout(Source(review.kernel, *words_))
    build = kcidb.build(
        checkout["id"],
        config=review.flavor,
        config_id=review.config_id,
        compiler=review.tools.get("compiler", ""),
    )
    tests = [
        kcidb.test(
            *(build["id"], kcidb.path(SUITE, check.name)),
            key=check.title,
            status=_status(review, check),
            log="\n".join(_log(review, check)),
            seconds=check.seconds,
        )
        for check in review.checks
        if check.outcome is not CheckOutcome.NOT_SELECTED
    ]
    return kcidb.document([checkout], [build], tests)


def _status(review: Review, check: Check) -> str:
    if check.outcome not in JUDGED:
        return STATUS[check.outcome]
    return "FAIL" if review.counts(check.outcome) else "PASS"


def _log(review: Review, check: Check) -> Iterator[str]:
    if check.reason:
        yield check.reason
    for one in check.findings:
        yield f"{one.outcome.value}: {review.patch(one.patch)}: {words.cause(one)}"
        yield from (line for _, line in words.details(one, limit=1000))
