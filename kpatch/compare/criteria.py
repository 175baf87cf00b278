# SPDX-License-Identifier: GPL-2.0-only
"""The criteria by which a mechanism is recommended, and what the figures say of each series.

Pure functions, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kpatch.compare import figures
from kpatch.compare.comparison import Comparison
from kpatch.compare.figures import ASLEEP, COUNT, FAULTS, LARGEST_RATIO, LOOPBACK, OVERRUN
from kpatch.compare.outcomes import Held

Judge = Callable[[Comparison, str, str], bool | None]
Figure = Callable[[Comparison, str, str], str]


@dataclass(frozen=True)
class Criterion:
    """A criterion: a short ``name``, the sentence, whether a series holds it on a kernel.

    ``holds`` returns None if that was not judged. ``figure`` returns the figures that it is judged
    by; a criterion that has it is a goal of the recommended mechanism.
    """

    name: str
    text: str
    holds: Judge
    figure: Figure | None = None


def _area(area: str) -> Judge:
    """Return a function that judges by the requirements of ``area`` ("EVT") that are claimed."""

    def holds(comparison: Comparison, kernel: str, series: str) -> bool | None:
        held = {
            row.held
            for row in comparison.outcomes
            if (row.kernel, row.series) == (kernel, series)
            and row.requirement.startswith(f"REQ-{area}-")
        }
        if held & {Held.LIMIT, Held.SKIP, Held.FAIL}:
            return False
        return True if Held.PASS in held else None

    return holds


def _fast(comparison: Comparison, kernel: str, series: str) -> bool | None:
    measured = comparison.figure(kernel, series, LOOPBACK)
    ratio = figures.ratio(measured)
    if ratio is not None:
        return ratio.value <= LARGEST_RATIO
    return False if measured is not None and measured.absent else None


def _fast_figure(comparison: Comparison, kernel: str, series: str) -> str:
    return figures.interval(figures.ratio(comparison.figure(kernel, series, LOOPBACK)))


def _keeps_up(comparison: Comparison, kernel: str, series: str) -> bool | None:
    found = figures.counts(comparison.figure(kernel, series, COUNT))
    return not any(found[key] for key in FAULTS) if found else None


def _tells_loss(comparison: Comparison, kernel: str, series: str) -> bool | None:
    """Judge the reader that begins late. If nothing was lost, nothing is shown: False."""
    found = figures.counts(comparison.figure(kernel, series, OVERRUN))
    return figures.exact(found) and found["missing"] > 0 if found else None


def _counted(name: str) -> Figure:
    def figure(comparison: Comparison, kernel: str, series: str) -> str:
        return figures.counted(figures.counts(comparison.figure(kernel, series, name)))

    return figure


def _lets_sleep(comparison: Comparison, kernel: str, series: str) -> bool | None:
    found = figures.counts(comparison.figure(kernel, series, ASLEEP))
    return found["woken"] == 0 if found else None


def _woken(comparison: Comparison, kernel: str, series: str) -> str:
    found = figures.counts(comparison.figure(kernel, series, ASLEEP))
    return f"{found['woken']} of {found['events']} woke it" if found else figures.NOT_MEASURED


CRITERIA = (
    Criterion("format", "every requirement on format and values is met", _area("EVT")),
    Criterion("introspection", "every one on introspection is met", _area("INT")),
    Criterion("isolation", "every one on isolation and confinement is met", _area("ISO")),
    Criterion("delivery", "every one on delivery is met", _area("DEL")),
    Criterion("life cycle", "every one on the life cycle is met", _area("LIF")),
    Criterion("errors", "every one on errors is met", _area("ERR")),
    Criterion(
        "loopback",
        f"the median of the loopback is at most {LARGEST_RATIO:g} x that of REQ",
        _fast,
        _fast_figure,
    ),
    Criterion(
        "keeps up",
        "nothing is lost, doubled, summed or reordered with a reader that keeps up",
        _keeps_up,
        _counted(COUNT),
    ),
    Criterion(
        "tells loss",
        "loss is counted exactly with a reader that begins after the last notification",
        _tells_loss,
        _counted(OVERRUN),
    ),
    Criterion(
        "sleep",
        "receiving a notification does not wake a sleeping device",
        _lets_sleep,
        _woken,
    ),
)


def judged(comparison: Comparison, series: str) -> dict[str, bool | None]:
    """Return by name whether ``series`` holds each criterion on all kernels that it was judged on.

    None if it was judged on none.
    """
    return {
        it.name: _all(it.holds(comparison, kernel, series) for kernel in comparison.kernels)
        for it in CRITERIA
    }


def _all(held: Iterable[bool | None]) -> bool | None:
    known = [it for it in held if it is not None]
    return all(known) if known else None


def best(comparison: Comparison) -> list[str]:
    """Return the series that hold the most criteria; none if a criterion was judged for no series.

    A criterion that was not judged for a series is not held by it.
    """
    found = {series: judged(comparison, series) for series in comparison.series}
    if not all(any(it[one.name] is not None for it in found.values()) for one in CRITERIA):
        return []
    held = {series: sum(it is True for it in each.values()) for series, each in found.items()}
    return [series for series in held if held[series] == max(held.values())]
