# SPDX-License-Identifier: GPL-2.0-only
"""Write a comparison as Markdown: docs/comparison.md, which ends in a draft of a cover letter."""

from __future__ import annotations

from pathlib import Path

from kpatch.compare import findings, words
from kpatch.compare.comparison import Comparison
from kpatch.compare.conclusion import conclusion
from kpatch.compare.criteria import CRITERIA
from kpatch.compare.words import Table
from kpatch.lib import sanitize, template

TEMPLATE = Path(__file__).parent / "templates" / "comparison.md.j2"


def render(comparison: Comparison, letter: str) -> str:
    """Return the document. ``letter`` is the text of the draft of a cover letter."""
    return template.render(
        TEMPLATE,
        host=words.host(comparison.host),
        comparison=comparison,
        titles={size.series: size.title for size in comparison.sizes},
        requirements=[
            _table(words.requirements(comparison, kernel)) for kernel in comparison.kernels
        ],
        tables=[
            (table.title, table.note, _table(table))
            for kernel in comparison.kernels
            for table in words.tables(comparison, kernel)
        ],
        entries=_entries(comparison),
        legend=words.LEGEND,
        sentences={key: sanitize.paragraph(it) for key, it in comparison.requirements.items()},
        limits={series: words.limits(comparison, series) for series in comparison.series},
        conclusion=conclusion(comparison),
        decision=_table(words.decision(comparison)),
        criteria=CRITERIA,
        goals=words.goal_lines(comparison),
        failures=findings.failures(comparison),
        letter=letter.strip(),
    )


def _entries(comparison: Comparison) -> dict[str, str]:
    """Return the entry points of each series, on the first kernel that has it."""
    return {size.series: ", ".join(size.entries) or "none" for size in reversed(comparison.sizes)}


def _table(table: Table) -> str:
    rows = [table.headers, ("---",) * len(table.headers), *table.rows]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(text: str) -> str:
    return sanitize.paragraph(text).replace("|", "\\|")
