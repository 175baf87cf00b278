# SPDX-License-Identifier: GPL-2.0-only
"""Draw the figures of a comparison as static SVG, without scripts, by pygal."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Sequence
from typing import Any

from kpatch.compare import figures
from kpatch.compare.comparison import Comparison
from kpatch.compare.times import Times
from kpatch.errors import HarnessError

WIDTH, ROW, MARGIN = 860, 34, 130

# Colours that differ in brightness too (Okabe and Ito), one for each series; then they repeat.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a0528a", "#8a6d00", "#3a3a3a", "#4b8fc9")

LINE = "#5a646e"

# pygal writes the date, and a script that has the data once more.
_UNWANTED = re.compile(r"<script\b.*?</script>|<script\b[^>]*/>|<!--.*?-->", re.DOTALL)


def require() -> None:
    """Raise HarnessError (exit 2) if pygal is not installed, before anything is run."""
    if importlib.util.find_spec("pygal") is None:
        raise HarnessError(
            "pygal", "is not installed", hint="install it: .venv/bin/python -m pip install pygal"
        )


def ratios(comparison: Comparison, kernel: str, name: str) -> str:
    """Return a plot of the ratios of medians in the measurement ``name``, with their intervals.

    A row for each series. Returns "" if no series has a ratio.
    """
    places = figures.ranking(comparison, kernel, name)
    if not places:
        return ""
    chart = _chart(
        f"{name}, Linux {kernel}: median as ratio to the reference, 95 % interval",
        height=MARGIN + ROW * len(places),
        range=(0, len(places) + 1),
        colours=_colours(comparison, [it.series for it in reversed(places)]),
        show_legend=False,
    )
    chart.y_labels = [
        {"value": row, "label": it.series} for row, it in enumerate(reversed(places), 1)
    ]
    for row, it in enumerate(reversed(places), 1):
        ends = (it.ratio.low, it.ratio.value, it.ratio.high)
        chart.add(it.series, [(end, row) for end in ends])
    chart.add("reference", [(1, 0), (1, len(places) + 1)], show_dots=False)
    return _svg(chart)


def distributions(comparison: Comparison, kernel: str, name: str) -> str:
    """Return a plot of the share of trips that took no longer than a time, for each series.

    The times are on a logarithmic scale. Returns "" if no series has times.
    """
    found = [
        (series, it.mechanism)
        for series in comparison.series
        if (it := comparison.figure(kernel, series, name)) is not None and it.mechanism is not None
    ]
    if not found:
        return ""
    chart = _chart(
        f"{name}, Linux {kernel}: samples below a time in % (us, logarithmic)",
        height=360,
        colours=_colours(comparison, [series for series, _ in found]),
        show_dots=False,
        x_value_formatter=lambda exponent: f"{10**exponent / 1000:.3g}",
    )
    for series, times in found:
        chart.add(series, _points(times))
    return _svg(chart)


def _points(times: Times) -> list[tuple[float, float]]:
    return [(math.log10(it), part) for part, it in enumerate(times.percentiles)]


def _colours(comparison: Comparison, names: Sequence[str]) -> tuple[str, ...]:
    """Return the colours of the series ``names``, the same in every plot, and that of a line."""
    numbers = (comparison.series.index(name) for name in names)
    return (*(COLOURS[number % len(COLOURS)] for number in numbers), LINE)


def _chart(title: str, *, height: int, colours: tuple[str, ...], **more: Any) -> Any:
    import pygal
    from pygal.style import Style

    style = Style(
        background="#ffffff",
        plot_background="#ffffff",
        foreground="#1d2125",
        foreground_strong="#1d2125",
        foreground_subtle="#5a646e",
        font_family="sans-serif",
        colors=colours,
        stroke_width=2.5,
    )
    options = {
        "title": title,
        "width": WIDTH,
        "height": height,
        "style": style,
        "js": (),
        "disable_xml_declaration": True,
        "legend_at_bottom": True,
        "truncate_legend": -1,
        "truncate_label": -1,
    }
    return pygal.XY(**{**options, **more})


def _svg(chart: Any) -> str:
    return _UNWANTED.sub("", str(chart.render(is_unicode=True)))


def all_plots(comparison: Comparison, kernel: str) -> Sequence[str]:
    """Return every plot of one kernel."""
    names = [
        it
        for it in comparison.measurements()
        if it.split()[0] in ("loopback", "interrupt", "asleep")
    ]
    drawn = [ratios(comparison, kernel, name) for name in names]
    drawn += [distributions(comparison, kernel, name) for name in names if name.endswith(" 1")]
    return [plot for plot in drawn if plot]
