# SPDX-License-Identifier: GPL-2.0-only
"""The coverage of series as one HTML file, without script, network, or other files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kpatch.coverage import text
from kpatch.coverage.figures import Coverage, runs
from kpatch.lib import template

TEMPLATE = Path(__file__).parent / "templates" / "coverage.html.j2"


def render(found: Sequence[Coverage]) -> str:
    """Return the coverage of the series ``found`` as the text of an HTML document."""
    return template.render(
        TEMPLATE, html=True, heads=text.HEADS, series=[_section(one) for one in found]
    )


def _section(one: Coverage) -> dict[str, object]:
    return {
        "title": text.title(one),
        "rows": [(name, text.cells(totals)) for name, totals in text.rows(one)],
        "notes": text.notes(one),
        "missed": [
            (
                text.head(group),
                text.reason(group[0]),
                [(line.number, text.source(line)) for line in group],
            )
            for group in runs(one.missed)
        ],
    }
