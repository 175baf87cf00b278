# SPDX-License-Identifier: GPL-2.0-only
"""Write the findings of a review as a code quality report for GitLab."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kpatch.lib import sanitize
from kpatch.model import Check, Finding
from kpatch.report.review.record import Review
from kpatch.tables.outcomes import CheckOutcome

SEVERITY = {CheckOutcome.FAIL: "major", CheckOutcome.WARN: "minor"}

NO_FILE = "."
"""The path of a finding that belongs to no file. GitLab requires a path."""


def render(review: Review) -> str:
    """Return the report as JSON text: a list with an item for each finding."""
    seen: dict[str, int] = {}
    return json.dumps([_item(review, *pair, seen) for pair in review.findings], indent=1) + "\n"


def _item(review: Review, check: Check, finding: Finding, seen: dict[str, int]) -> dict[str, Any]:
    """Return the report's item for ``finding``.

    ``seen`` counts the items so far by check, path and text; this item is added to it. The
    fingerprint is a digest of check, path, text and that count. The line number is no part of it,
    so that GitLab recognises a finding whose line has moved.
    """
    text, path = sanitize.line(finding.text), sanitize.line(finding.file) or NO_FILE
    parts = "\0".join((check.name, path, text))
    seen[parts] = seen.get(parts, 0) + 1
    fingerprint = hashlib.sha256(f"{parts}\0{seen[parts]}".encode()).hexdigest()
    return {
        "description": f"{text} ({sanitize.line(review.patch(finding.patch))})",
        "check_name": check.name,
        "fingerprint": fingerprint,
        "severity": SEVERITY[finding.outcome],
        "location": {"path": path, "lines": {"begin": finding.line or 1}},
    }
