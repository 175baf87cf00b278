# SPDX-License-Identifier: GPL-2.0-only
"""What follows from a comparison: goals, ranks, limits, and whether two comparisons agree.

Pure functions, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kpatch.compare import times
from kpatch.compare.comparison import Comparison
from kpatch.compare.measured import Measured
from kpatch.compare.outcomes import Held, Row
from kpatch.compare.times import Interval
from kpatch.tables.outcomes import Outcome

# The goals of the recommended mechanism: the largest ratio of the medians of its loopback and of
# the reference, on one device.
LOOPBACK, LARGEST_RATIO = "loopback 1", 1.2
COUNT, OVERRUN = "count", "overrun"
# Counts that have to be 0 with a reader that keeps up.
FAULTS = ("missing", "doubled", "merged", "reordered")

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


def ratio(measured: Measured | None) -> Interval | None:
    """Return the ratio of the medians of mechanism and reference; None if there are not both."""
    if measured is None or measured.mechanism is None or measured.reference is None:
        return None
    return times.ratio(measured.mechanism.p50, measured.reference.p50)


def counts(measured: Measured | None) -> dict[str, int]:
    """Return the counts of a counting measurement by name; empty if it was not made."""
    if measured is None or measured.outcome is not Outcome.PASS:
        return {}
    return {key: it for key, it in measured.values.items() if isinstance(it, int)}


def exact(found: dict[str, int]) -> bool:
    """Return whether every notification was received once, or reported as lost."""
    return found["missing"] == found["reported"] and not (found["doubled"] or found["merged"])


def goals(comparison: Comparison) -> list[Goal]:
    """Return the goals of the recommended mechanism on each kernel, with their figures."""
    name = comparison.recommended
    if name not in comparison.series:
        return []
    return [goal for kernel in comparison.kernels for goal in _goals(comparison, kernel, name)]


def _goals(comparison: Comparison, kernel: str, name: str) -> Iterator[Goal]:
    loop = ratio(comparison.figure(kernel, name, LOOPBACK))
    yield Goal(
        kernel,
        f"median of {name}'s loopback at most {LARGEST_RATIO:g} x that of REQ",
        interval(loop),
        None if loop is None else loop.value <= LARGEST_RATIO,
    )
    kept_up = counts(comparison.figure(kernel, name, COUNT))
    yield Goal(
        kernel,
        f"{name}: nothing lost, doubled, summed or reordered with a reader that keeps up",
        _counted(kept_up),
        not any(kept_up[key] for key in FAULTS) if kept_up else None,
    )
    slow = counts(comparison.figure(kernel, name, OVERRUN))
    yield Goal(
        kernel,
        f"{name}: loss is counted exactly with a reader that is too slow",
        _counted(slow),
        exact(slow) and slow["missing"] > 0 if slow else None,
    )


def _counted(found: dict[str, int]) -> str:
    if not found:
        return "not measured"
    faults = ", ".join(f"{found[key]:,} {WORDS[key]}" for key in FAULTS)
    return f"{found['sent']:,} sent: {faults}; {found['reported']:,} reported as lost"


WORDS = {"missing": "lost", "doubled": "doubled", "merged": "summed", "reordered": "reordered"}
"""The counts of `FAULTS` in words."""


def interval(found: Interval | None) -> str:
    """Return an interval for a reader: "1.05 (1.03-1.08)"; "not measured" for None."""
    if found is None:
        return "not measured"
    return f"{found.value:.2f} ({found.low:.2f}-{found.high:.2f})"


@dataclass(frozen=True)
class Place:
    """The place of a series in a ranking: 1 is the fastest."""

    rank: int
    series: str
    ratio: Interval


def ranking(comparison: Comparison, kernel: str, name: str) -> list[Place]:
    """Rank the series by their ratios in the measurement ``name``; the fastest is the first.

    Series whose intervals overlap are not ranked: they have the same rank (`times.ranks`).
    """
    found = {
        series: it
        for series in comparison.series
        if (it := ratio(comparison.figure(kernel, series, name))) is not None
    }
    places = times.ranks(list(found.values()))
    rows = [Place(rank, *it) for rank, it in zip(places, found.items(), strict=True)]
    return sorted(rows, key=lambda place: (place.rank, place.ratio.value))


def rows_of(comparison: Comparison, series: str, held: Held) -> list[Row]:
    """Return the first row of each requirement that the series holds like ``held`` on a kernel."""
    rows = [row for row in comparison.outcomes if (row.series, row.held) == (series, held)]
    return list({row.requirement: row for row in reversed(rows)}.values())[::-1]


def failures(comparison: Comparison) -> list[str]:
    """Return a line for each failed requirement, failed measurement and missed goal."""
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
    return lines + [f"{it.kernel}: goal missed: {it.text}: {it.figure}" for it in missed]


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
