# SPDX-License-Identifier: GPL-2.0-only
"""The merged result of a matrix as one HTML file, without script, network, or other files."""

from __future__ import annotations

from pathlib import Path

from kpatch.lib import sanitize, template
from kpatch.matrix import text
from kpatch.matrix.merge import LISTED, CellResult, Merged

TEMPLATE = Path(__file__).parent / "templates" / "matrix.html.j2"

HEADERS = ("command", "base", "series", "flavor", "planted", "seed", "outcome", "time", "host")


def render(merged: Merged) -> str:
    """Return the merged result as the text of an HTML document."""
    return template.render(
        TEMPLATE,
        html=True,
        summary=sanitize.paragraph(text.summary(merged)),
        selection=sorted({sanitize.paragraph(it.cell.tests) for it in merged.cells} - {""}),
        headers=HEADERS,
        rows=[(it.ok, _row(it), _notes(it)) for it in merged.cells],
        flaky=[sanitize.paragraph(text.flaky_line(it)) for it in merged.flaky],
        left_out=[sanitize.paragraph(line) for line in merged.left_out],
    )


def _row(it: CellResult) -> list[str]:
    cell, record = it.cell, it.record
    time = sanitize.duration(record.seconds) if record and record.seconds else ""
    host = record.host if record else ""
    named = [cell.kind, cell.kernel, cell.series, cell.flavor, cell.planted, str(cell.seed)]
    outcome = f"{it.outcome} ({it.killer})" if it.killer else it.outcome
    return [sanitize.line(word) for word in [*named, outcome, time, host]]


def _notes(it: CellResult) -> list[str]:
    """Return what is to be said of a cell that is not ok: the reason, and the tests."""
    more = [f"… and {len(it.bad) - LISTED} more"] if len(it.bad) > LISTED else []
    return [sanitize.paragraph(line) for line in (it.why, *it.bad[:LISTED], *more) if line]
