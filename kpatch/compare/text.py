# SPDX-License-Identifier: GPL-2.0-only
"""Write a comparison as text for a mail: no line is longer than `WIDTH` characters."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from kpatch.compare import findings, words
from kpatch.compare.comparison import Comparison
from kpatch.compare.conclusion import conclusion
from kpatch.compare.words import Table
from kpatch.lib import sanitize

WIDTH = 75
GAP = 2


def render(comparison: Comparison) -> str:
    """Return the comparison as text that ends with a newline."""
    lines = [line.rstrip() for line in _lines(comparison)]
    return "\n".join(sanitize.clean(line) for line in lines) + "\n"


def _lines(comparison: Comparison) -> Iterator[str]:
    yield "ACPI notifications of VFIO PCI devices: mechanisms compared"
    yield from ("", *wrapped(words.host(comparison.host)), "")
    titles = {size.series: size.title for size in comparison.sizes}
    for number, name in enumerate(comparison.series, 1):
        yield from wrapped(f"[{number}] {name}: {titles.get(name, '')}".rstrip(": "), "    ")
    for kernel in comparison.kernels:
        table = words.requirements(comparison, kernel, numbered=True)
        for one in (table, *words.tables(comparison, kernel)):
            yield from _table(one)
    yield from _limits(comparison)
    yield from _table(words.decision(comparison, numbered=True))
    yield from _paragraphs("What follows", conclusion(comparison))
    yield from _paragraphs("Goals", words.goal_lines(comparison))
    yield from _paragraphs("Failures", findings.failures(comparison))


def _limits(comparison: Comparison) -> Iterator[str]:
    for series in comparison.series:
        limits = [f"{name}: {reason}" for name, reason in words.limits(comparison, series)]
        yield from _paragraphs(f"What {series} does not do", limits)


def _paragraphs(title: str, paragraphs: Sequence[str]) -> Iterator[str]:
    if paragraphs:
        yield from ("", title, "-" * len(title))
        for paragraph in paragraphs:
            yield from wrapped(paragraph, "  ")


def _table(table: Table) -> Iterator[str]:
    """Yield the lines of a table. A last column that is too wide continues below its row."""
    if not table.rows:
        return
    yield from ("", table.title, "-" * len(table.title))
    yield from (*wrapped(table.note), "")
    every = (table.headers, *table.rows)
    widths = [max(len(row[column]) for row in every) for column in range(len(table.headers))]
    for row in every:
        line = (" " * GAP).join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        if len(line.rstrip()) <= WIDTH:
            yield line
        else:
            yield from wrapped("; ".join(_named(table.headers, row)), "    ")


def _named(headers: Sequence[str], row: Sequence[str]) -> list[str]:
    if row == headers:
        return [*headers]
    return [row[0], *(f"{head} {cell}" for head, cell in zip(headers[1:], row[1:], strict=True))]


def wrapped(text: str, indent: str = "") -> list[str]:
    """Return ``text`` on lines of at most `WIDTH`; all but the first begin with ``indent``."""
    return textwrap.wrap(sanitize.paragraph(text), WIDTH, subsequent_indent=indent)
