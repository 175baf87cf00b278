# SPDX-License-Identifier: GPL-2.0-only
"""What follows from a comparison: goals, limits, failures, and whether two comparisons agree.

Pure functions, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kpatch.compare import criteria
from kpatch.compare.comparison import Comparison
from kpatch.compare.criteria import CRITERIA
from kpatch.compare.figures import FAULTS, WORDS, counts, interval, ratio
from kpatch.compare.outcomes import Held, Row
from kpatch.tables.outcomes import Outcome

# Two comparisons agree if no ratio of medians differs by more than this part.
AGREED = 0.10


@dataclass(frozen=True)
class Goal:
    """A goal of the recommended mechanism on one kernel: the sentence, the figure, whether met.

    ``met`` is None if nothing was measured.
    """

    kernel: str
    text: str
    figure: str
    met: bool | None


def goals(comparison: Comparison) -> list[Goal]:
    """Return the goals of the recommended mechanism on each kernel, with their figures."""
    name = comparison.recommended
    if name not in comparison.series:
        return []
    return [
        Goal(
            kernel,
            f"{name}: {criterion.text}",
            criterion.figure(comparison, kernel, name),
            criterion.holds(comparison, kernel, name),
        )
        for kernel in comparison.kernels
        for criterion in CRITERIA
        if criterion.figure is not None
    ]


def rows_of(comparison: Comparison, series: str, held: Held) -> list[Row]:
    """Return the first row of each requirement that the series holds like ``held`` on a kernel."""
    rows = [row for row in comparison.outcomes if (row.series, row.held) == (series, held)]
    return list({row.requirement: row for row in reversed(rows)}.values())[::-1]


def failures(comparison: Comparison) -> list[str]:
    """Return a line for each failed requirement, failed measurement and missed goal.

    One more if the figures do not bear out the recommendation (`criteria.best`).
    """
    lines = [
        f"{row.kernel}: {row.series}: {row.requirement} fails: {row.reason}"
        for row in comparison.outcomes
        if row.held is Held.FAIL
    ]
    lines += [
        f"{it.kernel}: {it.series}: measurement {it.name}: {it.outcome.value}: {it.message}"
        for it in comparison.measured
        if it.outcome is not Outcome.PASS
    ]
    missed = [goal for goal in goals(comparison) if goal.met is False]
    lines += [f"{it.kernel}: goal missed: {it.text}: {it.figure}" for it in missed]
    best, name = criteria.best(comparison), comparison.recommended
    if best and name in comparison.series and name not in best:
        lines.append(f"{name} is recommended, but more criteria are held by {', '.join(best)}")
    return lines


def differences(mine: Comparison, other: Comparison) -> list[str]:
    """Return a line for each point in which the comparison ``mine`` does not agree with ``other``.

    They agree if each requirement is held in the same way, the same faults are counted as none, and
    no ratio of medians differs by more than AGREED. What only one of them has does not agree.
    """
    return [*_other_outcomes(mine, other), *_other_figures(mine, other)]


def _other_outcomes(mine: Comparison, other: Comparison) -> Iterator[str]:
    ours, theirs = (
        {(row.kernel, row.series, row.requirement): row.held for row in it.outcomes}
        for it in (mine, other)
    )
    for key in dict.fromkeys((*ours, *theirs)):
        a, b = (it[key].value if key in it else "no row" for it in (ours, theirs))
        if a != b:
            yield f"{': '.join(key)}: {a}, was {b}"


def _other_figures(mine: Comparison, other: Comparison) -> Iterator[str]:
    ours, theirs = (
        {(it.kernel, it.series, it.name): it for it in one.measured} for one in (mine, other)
    )
    for key in dict.fromkeys((*ours, *theirs)):
        what = ": ".join(key)
        if key not in ours or key not in theirs:
            yield f"{what}: only one of the two has this measurement"
            continue
        a, b = ratio(ours[key]), ratio(theirs[key])
        if (a is None) != (b is None):
            yield f"{what}: {interval(a)}, was {interval(b)}"
        elif a is not None and b is not None and abs(a.value - b.value) > AGREED * b.value:
            yield f"{what}: ratio of medians {interval(a)}, was {interval(b)}"
        for count in FAULTS:
            now, then = (counts(it[key]).get(count, 0) for it in (ours, theirs))
            if bool(now) != bool(then):
                yield f"{what}: {now} {WORDS[count]}, was {then}"
