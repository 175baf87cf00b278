# SPDX-License-Identifier: GPL-2.0-only
"""Write a review as text, for a mail."""

from __future__ import annotations

from kpatch.lib import sanitize
from kpatch.report.review.record import Review


def render(review: Review) -> str:
    """Return the findings, worst first, then the checks without findings."""
    lines = [sanitize.line(review.subject or review.name), ""]
    for check in review.checks:
        lines.append(f"{check.outcome.value:<15} {check.name}: {check.reason or check.title}")
        for finding in check.findings:
            place = f"{finding.place}: " if finding.place else ""
            lines.append(f"    patch {finding.patch}: {place}{finding.text}")
    return sanitize.clean("\n".join(lines)) + "\n"
