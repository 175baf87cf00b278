# SPDX-License-Identifier: GPL-2.0-only
"""Write a comparison as one HTML file, which needs no script, no network, and no other file."""

from __future__ import annotations

from pathlib import Path

from kpatch.compare import findings, plots, words
from kpatch.compare.comparison import Comparison
from kpatch.compare.conclusion import conclusion
from kpatch.compare.words import Table
from kpatch.lib import sanitize, template

TEMPLATE = Path(__file__).parent / "templates" / "comparison.html.j2"


def render(comparison: Comparison) -> str:
    """Return the comparison as the text of an HTML document."""
    return template.render(
        TEMPLATE,
        html=True,
        host=words.host(comparison.host),
        started=comparison.started,
        recommended=comparison.recommended,
        series=[(name, _title(comparison, name)) for name in comparison.series],
        conclusion=[sanitize.paragraph(line) for line in conclusion(comparison)],
        decision=_clean(words.decision(comparison)),
        goals=[sanitize.paragraph(line) for line in words.goal_lines(comparison)],
        failures=[sanitize.paragraph(line) for line in findings.failures(comparison)],
        kernels=[
            (
                kernel,
                _clean(words.requirements(comparison, kernel)),
                [_clean(table) for table in words.tables(comparison, kernel)],
                plots.all_plots(comparison, kernel),
            )
            for kernel in comparison.kernels
        ],
        sentences=comparison.requirements,
        reasons={
            (row.kernel, row.requirement): _reason(comparison, row.kernel, row.requirement)
            for row in comparison.outcomes
        },
        limits=[(name, words.limits(comparison, name)) for name in comparison.series],
    )


def _title(comparison: Comparison, series: str) -> str:
    return next((size.title for size in comparison.sizes if size.series == series), "")


def _reason(comparison: Comparison, kernel: str, requirement: str) -> str:
    """Return the reasons of limits and failures of a requirement, each with its series."""
    rows = [
        row
        for row in comparison.outcomes
        if (row.kernel, row.requirement) == (kernel, requirement) and row.reason
    ]
    return "; ".join(f"{row.series}: {sanitize.paragraph(row.reason)}" for row in rows)


def _clean(table: Table) -> Table:
    rows = tuple(tuple(sanitize.paragraph(cell) for cell in row) for row in table.rows)
    return Table(table.title, table.note, table.headers, rows)
