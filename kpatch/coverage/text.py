# SPDX-License-Identifier: GPL-2.0-only
"""The coverage of series as text: for a terminal, and for a mail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kpatch.coverage.figures import Coverage, Line, Totals, runs
from kpatch.lib import sanitize

HEADS = ("added", "executable", "run", "%", "branches", "taken")
SUBJECT = 46


def render(found: Sequence[Coverage]) -> str:
    """Return, for each series, the table of its patches and the list of lines that were not run."""
    return "\n".join("".join(f"{line}\n" for line in _lines(one)) for one in found)


def title(one: Coverage) -> str:
    """Return the sentence above the table."""
    return f"Lines that {one.series} adds to C files of {one.kernel}, as run by the suite"


def rows(one: Coverage) -> list[tuple[str, Totals]]:
    """Return the rows of the table: one for each patch with lines in C files, and all together."""
    count = len(one.patches)
    by_patch = [
        (f"{it.number}/{count} {sanitize.line(it.subject)}", one.totals(it.number))
        for it in one.patches
        if it.added
    ]
    return [*by_patch, ("the series", one.totals())]


def cells(totals: Totals) -> list[str]:
    """Return the words of a row of the table, in the order of HEADS."""
    numbers = (totals.added, totals.executable, totals.run)
    percent = f"{totals.percent:.1f}" if totals.executable else "-"
    return [*map(str, numbers), percent, str(totals.branches), str(totals.taken)]


def notes(one: Coverage) -> list[str]:
    """Return what the reader has to know of the measurement itself."""
    found = []
    if one.silent:
        found.append(
            f"{one.silent} of {one.vms} VMs ended without counters: the lines that only they ran "
            "count as not run"
        )
    if one.unbuilt:
        found.append(f"not compiled with this config: {', '.join(one.unbuilt)}")
    found += [f"explained as not run, and run or gone: {text}" for text in one.stale]
    return [sanitize.paragraph(text) for text in found]


def head(group: Sequence[Line]) -> str:
    """Return the words above a group of `kpatch.coverage.figures.runs`: place and patch."""
    first = group[0]
    function = f", {first.function}()" if first.function else ""
    return sanitize.line(f"{first.path}{function}, patch {first.patch}")


def reason(line: Line) -> str:
    """Return why ``line`` was not run, "not explained" if nobody has said."""
    return sanitize.paragraph(line.reason) or "not explained"


def source(line: Line) -> str:
    """Return the text of ``line`` for printing, with its white space at the begin."""
    return sanitize.clean(line.text.expandtabs(8)).rstrip()[: sanitize.LINE_LIMIT]


def _lines(one: Coverage) -> Iterator[str]:
    yield title(one)
    yield ""
    yield _row("patch", list(HEADS))
    for name, totals in rows(one):
        yield _row(name, cells(totals))
    yield ""
    yield from notes(one)
    for group in runs(one.missed):
        yield f"not run: {head(group)}: {reason(group[0])}"
        yield from (f"{line.number:6}  {source(line)}" for line in group)


def _row(name: str, words: Sequence[str]) -> str:
    short = name if len(name) <= SUBJECT else f"{name[: SUBJECT - 1]}…"
    pairs = zip(HEADS, words, strict=True)
    return f"{short:{SUBJECT}}" + "".join(f"  {word:>{max(len(it), 5)}}" for it, word in pairs)
