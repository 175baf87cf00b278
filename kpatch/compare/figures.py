# SPDX-License-Identifier: GPL-2.0-only
"""Figures of a comparison: counts, ratios with intervals, ranks. Pure functions, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from kpatch.compare import times
from kpatch.compare.comparison import Comparison
from kpatch.compare.measured import Measured
from kpatch.compare.times import Interval
from kpatch.tables.outcomes import Outcome

# The goals of the recommended mechanism: the largest ratio of the medians of its loopback and of
# the reference, on one device.
LOOPBACK, LARGEST_RATIO = "loopback 1", 1.2
COUNT, OVERRUN, ASLEEP, WAKE_UPS, MEMORY = "count", "overrun", "asleep", "wake-ups", "memory"
# Counts that have to be 0 with a reader that keeps up.
FAULTS = ("missing", "doubled", "merged", "reordered")

WORDS = {"missing": "lost", "doubled": "doubled", "merged": "summed", "reordered": "reordered"}
"""The counts of `FAULTS` in words."""


def ratio(measured: Measured | None) -> Interval | None:
    """Return the ratio of the medians of mechanism and reference; None if there are not both."""
    if measured is None or measured.mechanism is None or measured.reference is None:
        return None
    return times.ratio(measured.mechanism.p50, measured.reference.p50)


def counts(measured: Measured | None) -> dict[str, int]:
    """Return the whole numbers of a measurement by name; empty if it was not made."""
    if measured is None or measured.outcome is not Outcome.PASS or measured.absent:
        return {}
    return {key: it for key, it in measured.values.items() if isinstance(it, int)}


def exact(found: dict[str, int]) -> bool:
    """Return whether every notification was received once, or reported as lost."""
    return found["missing"] == found["reported"] and not (found["doubled"] or found["merged"])


def throughput(measured: Measured | None) -> Interval | None:
    """Return the ratio of the numbers a second, one after the other; None as for `ratio`."""
    if measured is None or measured.mechanism is None or measured.reference is None:
        return None
    return times.ratio(measured.reference.mean, measured.mechanism.mean)


def counted(found: dict[str, int]) -> str:
    """Return the counts of a counting measurement in words."""
    if not found:
        return NOT_MEASURED
    faults = ", ".join(f"{found[key]:,} {WORDS[key]}" for key in FAULTS)
    return f"{found['sent']:,} sent: {faults}; {found['reported']:,} reported as lost"


def interval(found: Interval | None) -> str:
    """Return an interval for a reader: "1.05 (1.03-1.08)"; "not measured" for None."""
    if found is None:
        return NOT_MEASURED
    return f"{found.value:.2f} ({found.low:.2f}-{found.high:.2f})"


NOT_MEASURED = "not measured"


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
