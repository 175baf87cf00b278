# SPDX-License-Identifier: GPL-2.0-only
"""Write a review as the answer that b4 0.16 reads from the standard output of a check command.

``b4 prep --check`` takes each line as a remark: as an error if "ERROR:" is in the line, else as a
warning. It takes no output, with exit status 0, as a success (b4.LoreMessage.run_local_check).
``b4 review`` reads JSON: a list of objects with the members tool, status (pass, warn, fail),
summary, url and details (b4.review.checks).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from kpatch.errors import HarnessError
from kpatch.lib import sanitize
from kpatch.model import Check, Finding
from kpatch.report.review import words
from kpatch.report.review.record import Review, worst
from kpatch.tables.outcomes import CheckOutcome, ExitCode

TOOL = "vfio-acpi"

_WORDS = {CheckOutcome.FAIL: "ERROR", CheckOutcome.WARN: "WARNING"}

SILENT = (CheckOutcome.NOT_APPLICABLE, CheckOutcome.NOT_SELECTED)
"""Checks with these outcomes are left out of the answer to b4."""


def remarks(review: Review, patch: int = 0) -> str:
    """Return the answer to ``b4 prep --check``: a line for each finding.

    ``patch`` selects the findings of the patch with this number and those of the whole series; 0
    selects all findings. A check that could not run is a line with a warning. If there is no line,
    and no check has judged the series, a warning says so: b4 takes no output as a success.
    """
    lines = [
        _remark(found.outcome, f"{check.name}: {words.cause(found)}")
        for check, found in review.findings
        if _concerns(found, patch)
    ]
    lines += [
        _remark(CheckOutcome.WARN, f"{check.name} could not run: {sanitize.line(check.reason)}")
        for check in review.ended(CheckOutcome.COULD_NOT_RUN)
    ]
    if not lines and not review.judged:
        lines = [_remark(CheckOutcome.WARN, "no check has judged it")]
    return "".join(f"{line}\n" for line in lines)


def results(review: Review, patch: int = 0) -> str:
    """Return the answer to ``b4 review``: a JSON list with an entry for each check.

    Checks with an outcome in SILENT are left out; if no other is there, one entry warns that no
    check has judged the series. ``patch`` selects findings as in `remarks`. A check that could not
    run is a warning.
    """
    told = [check for check in review.checks if check.outcome not in SILENT]
    entries = [_result(review, check, patch) for check in told]
    if not entries:
        entries = [_entry(TOOL, CheckOutcome.WARN, "no check has judged it", "")]
    return _json(entries)


def refused_remarks(error: HarnessError) -> str:
    """Return the answer to ``b4 prep --check`` if ``error`` has prevented the review: one line."""
    return f"{_remark(_severity(error), sanitize.line(str(error)))}\n"


def refused_results(error: HarnessError) -> str:
    """Return the answer to ``b4 review`` if ``error`` has prevented the review: one JSON entry."""
    details = sanitize.clean(error.details)
    return _json([_entry(TOOL, _severity(error), sanitize.line(str(error)), details)])


Answer = tuple[Callable[[Review, int], str], Callable[[HarnessError], str]]

ANSWERS: dict[str, Answer] = {
    "prep": (remarks, refused_remarks),
    "review": (results, refused_results),
}
"""The two functions that make the answer to a command of b4, by the command.

The first makes it from a review and the number of a patch (0: the series), the second from the
error that has prevented the review.
"""


def _severity(error: HarnessError) -> CheckOutcome:
    """Return FAIL if ``error`` says that the series does not apply; WARN for any other error.

    Other errors prove no fault of the series.
    """
    return CheckOutcome.FAIL if error.code is ExitCode.APPLY else CheckOutcome.WARN


def _concerns(finding: Finding, patch: int) -> bool:
    """Return whether ``finding`` belongs in the answer about patch number ``patch``.

    Every finding belongs in the answer about the series (0). A finding of the whole series belongs
    in the answer about each patch: b4 takes no output as a success.
    """
    return patch == 0 or finding.patch in (0, patch)


def _remark(outcome: CheckOutcome, text: str) -> str:
    """Return "ERROR: text" for the outcome FAIL, "WARNING: text" for WARN.

    In ``text``, "ERROR:" loses its colon: b4 would take the line as an error.
    """
    return f"{_WORDS[outcome]}: {text.replace('ERROR:', 'ERROR')}"


def _result(review: Review, check: Check, patch: int) -> dict[str, Any]:
    if check not in review.judged:
        reason = f"could not run: {sanitize.line(check.reason)}"
        return _entry(check.name, CheckOutcome.WARN, reason, "")
    found = [one for one in check.findings if _concerns(one, patch)]
    summary = words.cause(found[0]) if found else "nothing found"
    if len(found) > 1:
        summary += f" (and {len(found) - 1} more)"
    details = "\n".join(_details(review, check, found))
    return _entry(check.name, worst(found), summary, details)


def _details(review: Review, check: Check, found: Iterable[Finding]) -> Iterable[str]:
    for one in found:
        where = sanitize.line(review.patch(one.patch))
        yield f"{_WORDS[one.outcome].lower()}: {where}: {words.cause(one)}"
        yield from (f"    {line}" for _, line in words.details(one, limit=500))
        if command := words.command(check, one):
            yield f"    repeat: {command}"


def _entry(tool: str, outcome: CheckOutcome, summary: str, details: str) -> dict[str, Any]:
    return {
        "tool": tool,
        "status": outcome.value,
        "summary": summary,
        "url": "",
        "details": details,
    }


def _json(entries: list[dict[str, Any]]) -> str:
    return json.dumps(entries, indent=1) + "\n"
