# SPDX-License-Identifier: GPL-2.0-only
"""Write a review as SARIF 2.1.0 (OASIS), which GitHub's code scanning and editors read."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from kpatch.lib import sanitize
from kpatch.model import Check, Finding
from kpatch.report.review import words
from kpatch.report.review.record import Review
from kpatch.tables.outcomes import CheckOutcome

VERSION = "2.1.0"

LEVELS = {CheckOutcome.FAIL: "error", CheckOutcome.WARN: "warning"}


def render(review: Review) -> str:
    """Return the SARIF log as JSON text: a rule for each check, a result for each finding.

    A check that could not run is a notification of the invocation, and "executionSuccessful" is
    then false.
    """
    missed = review.ended(CheckOutcome.COULD_NOT_RUN)
    run = {
        "tool": {
            "driver": {
                "name": "vfio-acpi",
                "version": sanitize.line(review.tools.get("vfio-acpi", "")),
                "rules": [_rule(check) for check in review.checks],
            }
        },
        "invocations": [
            {
                "executionSuccessful": not missed,
                "startTimeUtc": review.started,
                "toolExecutionNotifications": [_notification(check) for check in missed],
            }
        ],
        "results": [_result(review, check, found) for check, found in review.findings],
    }
    return json.dumps({"version": VERSION, "runs": [run]}, indent=1) + "\n"


def _rule(check: Check) -> dict[str, Any]:
    return {"id": check.name, "shortDescription": {"text": sanitize.line(check.title)}}


def _notification(check: Check) -> dict[str, Any]:
    text = f"could not run: {sanitize.line(check.reason)}"
    return {"level": "error", "message": {"text": text}, "associatedRule": {"id": check.name}}


def _result(review: Review, check: Check, finding: Finding) -> dict[str, Any]:
    where = sanitize.line(review.patch(finding.patch))
    result: dict[str, Any] = {
        "ruleId": check.name,
        "level": LEVELS[finding.outcome],
        "message": {"text": f"{sanitize.line(finding.text)} ({where})"},
    }
    if finding.file:
        place: dict[str, Any] = {"artifactLocation": {"uri": quote(sanitize.line(finding.file))}}
        if finding.line:
            place["region"] = {"startLine": finding.line}
        result["locations"] = [{"physicalLocation": place}]
    if finding.details:
        text = "\n".join(line for _, line in words.details(finding, limit=1000))
        result["message"]["text"] += f"\n{text}"
    return result
