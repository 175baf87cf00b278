# SPDX-License-Identifier: GPL-2.0-only
"""Distributions of measured times, and the intervals of their medians and ratios."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Standard deviations on each side of a 95 % interval of the normal distribution.
DEVIATIONS = 1.96


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Times:
    """The distribution of measured times in nanoseconds.

    ``percentiles`` has 101 numbers: the smallest time, the percentiles 1 to 99, the largest time.
    ``p50`` and ``p99`` have intervals of order statistics, ``mean`` has that of a normal
    distribution.
    """

    samples: int
    mean: Interval
    percentiles: tuple[float, ...]
    p50: Interval
    p99: Interval

    @property
    def largest(self) -> float:
        """Return the largest time."""
        return self.percentiles[-1]


def times(measured: Sequence[int]) -> Times:
    """Return the distribution of the times ``measured``; ValueError if there is none."""
    if not measured:
        raise ValueError("no time was measured")
    ordered = sorted(measured)
    return Times(
        samples=len(ordered),
        mean=_mean(ordered),
        percentiles=tuple(ordered[_rank(len(ordered), part / 100)] for part in range(101)),
        p50=quantile(ordered, 0.5),
        p99=quantile(ordered, 0.99),
    )


def _mean(measured: Sequence[int]) -> Interval:
    """Return the mean with the 95 % interval of the normal distribution, which ends at 1 ns."""
    mean = statistics.fmean(measured)
    width = DEVIATIONS * statistics.pstdev(measured, mean) / math.sqrt(len(measured))
    return Interval(mean, max(1.0, mean - width), mean + width)


def quantile(ordered: Sequence[float], part: float) -> Interval:
    """Return the quantile ``part`` (0.5 is the median) of ``ordered``, with its 95 % interval.

    The number of samples below the quantile has a binomial distribution, whatever that of the
    samples is. The ends of the interval are the order statistics at the ends of its 95 % interval
    in the normal approximation.
    """
    count = len(ordered)
    width = DEVIATIONS * math.sqrt(count * part * (1 - part))
    low = max(0, math.floor(count * part - width))
    high = min(count - 1, math.ceil(count * part + width))
    return Interval(ordered[_rank(count, part)], ordered[low], ordered[high])


def ratio(mine: Interval, other: Interval) -> Interval:
    """Return ``mine`` / ``other``. The interval has every ratio of numbers in their intervals.

    It has therefore more than 95 %. ZeroDivisionError if the interval of ``other`` has 0.
    """
    return Interval(mine.value / other.value, mine.low / other.high, mine.high / other.low)


def ranks(intervals: Sequence[Interval]) -> list[int]:
    """Return the rank of each interval, 1 for the smallest; intervals that overlap are not ranked.

    Those that overlap have the same rank, also if they do so only by way of a third one between
    them. The rank is one more than the number of intervals with a smaller rank.
    """
    found = [1] * len(intervals)
    rank, end = 1, -math.inf
    ordered = sorted(range(len(intervals)), key=lambda number: intervals[number].low)
    for place, number in enumerate(ordered, 1):
        if intervals[number].low > end:
            rank = place
        end = max(end, intervals[number].high)
        found[number] = rank
    return found


def _rank(count: int, part: float) -> int:
    return min(count - 1, max(0, math.ceil(count * part) - 1))
