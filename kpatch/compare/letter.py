# SPDX-License-Identifier: GPL-2.0-only
"""Write the draft of a cover letter (RFC) for the recommended mechanism, from a comparison."""

from __future__ import annotations

from collections.abc import Iterator

from kpatch.compare import findings, text, words
from kpatch.compare.comparison import Comparison
from kpatch.compare.conclusion import conclusion
from kpatch.report import cover_letter


def draft(comparison: Comparison) -> str:
    """Return the draft: the series' own purpose, what was compared, figures, open questions."""
    title, blurb = cover_letter.purpose(comparison.recommended)
    return "\n".join([f"Subject: [RFC PATCH] {title}", "", blurb, "", section(comparison)])


def section(comparison: Comparison) -> str:
    """Return the part of the letter that the comparison makes."""
    return "\n".join(_lines(comparison)).strip()


def _lines(comparison: Comparison) -> Iterator[str]:
    yield from ("Compared mechanisms", "-------------------", "")
    yield from text.wrapped(
        "Each was built, booted and judged by the same tests, and measured in a boot of its own"
        f" kernel ({words.host(comparison.host)})."
    )
    yield ""
    for line in conclusion(comparison):
        yield from text.wrapped(f"- {line}", "  ")
    goals = findings.goals(comparison)
    if goals:
        yield ""
    for goal in goals:
        yield from text.wrapped(f"- Linux {goal.kernel}: {goal.text}: {goal.figure}", "  ")
    for series in comparison.series:
        limits = words.limits(comparison, series)
        if limits:
            yield from ("", f"Not met by {series}:")
        for name, reason in limits:
            yield from text.wrapped(f"- {name}: {reason}", "  ")
