# SPDX-License-Identifier: GPL-2.0-only
"""The sentences that follow from the figures of a comparison, and the recommendation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kpatch.compare import criteria, figures, words
from kpatch.compare.comparison import Comparison
from kpatch.compare.outcomes import Held


def conclusion(comparison: Comparison) -> list[str]:
    """Return the sentences that follow from the figures, one paragraph each.

    They are the recommendation, then all figures of each series on each kernel, then the ranks.
    """
    lines = recommendation(comparison)
    lines += [
        line
        for kernel in comparison.kernels
        for series in comparison.series
        if (line := _paragraph(comparison, kernel, series))
    ]
    for kernel in comparison.kernels:
        lines += _ranked(comparison, kernel)
    return lines


def _paragraph(comparison: Comparison, kernel: str, series: str) -> str:
    """Return all sentences about one series on one kernel, "" if there is none."""
    parts = [part for say in SENTENCES if (part := say(comparison, kernel, series))]
    return f"{series} on Linux {kernel}: {'; '.join(parts)}." if parts else ""


def _requirements(comparison: Comparison, kernel: str, series: str) -> str:
    rows = [it.held for it in comparison.outcomes if (it.kernel, it.series) == (kernel, series)]
    if not rows:
        return ""
    fails = f", {rows.count(Held.FAIL)} fail" if Held.FAIL in rows else ""
    return (
        f"{rows.count(Held.PASS)} requirements are met, {rows.count(Held.LIMIT)} at a documented"
        f" limit{fails}, {rows.count(Held.NOT_CLAIMED)} not claimed"
    )


def _counted(name: str, reader: str) -> Callable[[Comparison, str, str], str]:
    def say(comparison: Comparison, kernel: str, series: str) -> str:
        found = figures.counts(comparison.figure(kernel, series, name))
        return f"to a reader that {reader}, {figures.counted(found)}" if found else ""

    return say


def _ratio(name: str, what: str) -> Callable[[Comparison, str, str], str]:
    def say(comparison: Comparison, kernel: str, series: str) -> str:
        measured = comparison.figure(kernel, series, name)
        if measured is not None and measured.absent:
            return f"{what}: {measured.absent}"
        found = figures.ratio(measured)
        return f"{what}: {figures.interval(found)}" if found else ""

    return say


def _throughput(comparison: Comparison, kernel: str, series: str) -> str:
    found = figures.throughput(comparison.figure(kernel, series, figures.LOOPBACK))
    return f"loopbacks a second by those of REQ: {figures.interval(found)}" if found else ""


def _woken(comparison: Comparison, kernel: str, series: str) -> str:
    found = figures.counts(comparison.figure(kernel, series, figures.ASLEEP))
    if not found:
        return ""
    return f"receiving has woken the sleeping device {found['woken']} of {found['events']} times"


def _cost(comparison: Comparison, kernel: str, series: str) -> str:
    row = _row(words.costs(comparison, kernel), series)
    if row is None or row[1] == "-":
        return ""
    each = f"{row[1]} wake-ups and {row[2]} us of CPU time for each notification"
    return f"{each} (reference: {row[3]} us)"


def _memory(comparison: Comparison, kernel: str, series: str) -> str:
    row = _row(words.memory(comparison, kernel), series)
    if row is None:
        return ""
    return f"bytes for an open device {row[1]}, a registered VMM {row[2]}, a pending event {row[3]}"


def _size(comparison: Comparison, kernel: str, series: str) -> str:
    row = _row(words.sizes(comparison, kernel), series)
    if row is None:
        return ""
    return (
        f"{row[2]} lines added in {row[1]} patches, exports: {row[5]}, {row[6]} entries for user"
        f" space, functions: {row[7]}"
    )


def _row(table: words.Table, series: str) -> tuple[str, ...] | None:
    return next((row for row in table.rows if row[0] == series), None)


SENTENCES: tuple[Callable[[Comparison, str, str], str], ...] = (
    _requirements,
    _counted(figures.COUNT, "keeps up"),
    _counted(figures.OVERRUN, "begins after the last one"),
    _ratio(figures.LOOPBACK, "median of the loopback by that of REQ"),
    _throughput,
    _ratio("interrupt 1", "median from the interrupt by that of a plain eventfd_signal()"),
    _cost,
    _woken,
    _memory,
    _size,
)
"""The functions that say something of a series on a kernel; "" if it is not known."""


def _ranked(comparison: Comparison, kernel: str) -> Iterator[str]:
    """Yield a sentence for each measurement that several series have made on ``kernel``."""
    for name in comparison.measurements():
        places = figures.ranking(comparison, kernel, name)
        if len(places) < 2:
            continue
        ranks = sorted({place.rank for place in places})
        groups = [
            " = ".join(f"{it.series} {it.ratio.value:.2f}" for it in places if it.rank == rank)
            for rank in ranks
        ]
        yield f"Linux {kernel}, {name}, ratio of medians: {' < '.join(groups)}."


def recommendation(comparison: Comparison) -> list[str]:
    """Return which series follows from the figures, and which criteria each does not hold.

    The recommended one is that which holds the most criteria (`criteria.best`). Returns a sentence
    that nothing follows if a criterion was not judged.
    """
    best = criteria.best(comparison)
    if not best:
        return ["No recommendation follows: not every criterion was judged."]
    lines = [_held(comparison, series) for series in comparison.series]
    if len(best) > 1:
        return [f"The criteria do not tell apart: {', '.join(best)}.", *lines]
    return [f"The figures recommend {best[0]}: it holds the most criteria.", *lines]


def _held(comparison: Comparison, series: str) -> str:
    judged = criteria.judged(comparison, series)
    count = f"{series} holds {sum(it is True for it in judged.values())} of {len(judged)} criteria"
    missed = [it.name for it in criteria.CRITERIA if judged[it.name] is False]
    unknown = [it.name for it in criteria.CRITERIA if judged[it.name] is None]
    parts = [
        f"{text} {', '.join(names)}"
        for text, names in (("it fails", missed), ("not judged are", unknown))
        if names
    ]
    return "; ".join([count, *parts]) + "."
