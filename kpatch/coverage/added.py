# SPDX-License-Identifier: GPL-2.0-only
"""The executable lines that a series adds, by diff-cover, with what the counters say of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from kpatch.coverage import history as commits
from kpatch.coverage import trace
from kpatch.coverage.figures import Line
from kpatch.coverage.history import History
from kpatch.coverage.trace import Count

JSON = "added.json"


def lines(history: History, counts: Mapping[tuple[str, int], Count]) -> list[Line]:
    """Return the executable lines that the series of ``history`` adds, sorted by place.

    ``counts`` are those of `trace.trace`, which has to have run. Raises the errors of `trace.run`.
    """
    folder = history.folder.parent
    trace.run(
        history,
        "diff-cover",
        str(folder / trace.COBERTURA),
        f"--compare-branch={commits.BASE}",
        f"--format=json:{folder / JSON}",
        "--quiet",
    )
    report = json.loads((folder / JSON).read_text())
    return sorted(_lines(history, counts, report), key=lambda line: (line.path, line.number))


def _lines(
    history: History,
    counts: Mapping[tuple[str, int], Count],
    report: Mapping[str, Mapping[str, Mapping[str, list[int]]]],
) -> Iterator[Line]:
    for path, stats in report["src_stats"].items():
        texts, patches = history.lines(path), history.patches(path)
        first = next((number for number in patches if number), 1)
        for number in (*stats["covered_lines"], *stats["violation_lines"]):
            count = counts[path, number]
            yield Line(
                path,
                number,
                # git blame and git diff may see a repeated line ("}") at different places.
                patches[number - 1] or first,
                count.function,
                texts[number - 1],
                count.hits,
                count.branches,
                count.taken,
            )
