# SPDX-License-Identifier: GPL-2.0-only
"""The table explained.toml: lines of carried series that the suite does not run, and why.

A row is an array ``[[not-run]]`` with ``series`` (a list), ``file``, ``function``, ``lines`` (their
texts without white space at the ends) and ``reason``. A text stands for each line of the function
that has it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kpatch.coverage.figures import Line

TABLE = Path(__file__).with_name("explained.toml")


@dataclass(frozen=True)
class Row:
    """The ``lines`` of ``function`` in ``file`` that are not run, for one ``reason``."""

    series: tuple[str, ...]
    file: str
    function: str
    lines: tuple[str, ...]
    reason: str

    def has(self, line: Line) -> bool:
        """Return whether ``line`` is one of the row."""
        place = line.path, line.function
        return place == (self.file, self.function) and line.text.strip() in self.lines


def load(table: Path = TABLE) -> tuple[Row, ...]:
    """Return the rows of ``table``; TypeError if one has a wrong key or lacks one."""
    rows = tomllib.loads(table.read_text()).get("not-run", [])
    return tuple(
        Row(**row | {"series": tuple(row["series"]), "lines": tuple(row["lines"])}) for row in rows
    )


def explain(
    lines: Sequence[Line], series: str, rows: Sequence[Row]
) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    """Return ``lines`` with the reasons in ``rows``, and what ``rows`` have of lines that all ran.

    Only rows of ``series`` count. The second value has a sentence for each text of a row for which
    there is no line that was not run.
    """
    own = [row for row in rows if series in row.series]
    told = tuple(
        replace(line, reason=next((row.reason for row in own if row.has(line)), ""))
        if not line.hits
        else line
        for line in lines
    )
    found = {(line.path, line.function, line.text.strip()) for line in told if line.reason}
    stale = tuple(
        f"{row.file}, {row.function}(): {text}"
        for row in own
        for text in row.lines
        if (row.file, row.function, text) not in found
    )
    return told, stale
