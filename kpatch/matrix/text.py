# SPDX-License-Identifier: GPL-2.0-only
"""The merged result of a matrix as text: for a terminal, and for a mail."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from kpatch.lib import sanitize
from kpatch.matrix.merge import KILLS, LISTED, SURVIVED, CellResult, Flaky, Merged

# Seconds that a planted fault and a mutant may take, on a kernel that is built, two cores, TCG.
FAULT_SECONDS, MUTANT_SECONDS = 20.0, 25.0


def render(merged: Merged) -> str:
    """Return a line for each cell that is not ok, for each flaky test, and the summary."""
    lines = [line for it in merged.cells if not it.ok for line in _cell(it)]
    lines += [f"FLAKY {flaky_line(it)}" for it in merged.flaky]
    lines += _times("planted faults", [it for it in merged.cells if it.cell.fault], FAULT_SECONDS)
    lines += _times("mutants", [it for it in merged.cells if it.cell.mutant], MUTANT_SECONDS)
    lines += _mutants(merged)
    lines += [f"left out: {line}" for line in merged.left_out]
    return "".join(f"{sanitize.paragraph(line)}\n" for line in [*lines, summary(merged)])


def summary(merged: Merged) -> str:
    """Return the last line: the numbers of cells by outcome, flaky tests, and the cells' time."""
    counts = Counter(it.outcome for it in merged.cells)
    words = ", ".join(f"{number} {outcome}" for outcome, number in counts.most_common())
    seconds = sum(it.record.seconds for it in merged.cells if it.record)
    planted = [it for it in merged.cells if it.cell.fault]
    shown = f"; {sum(it.ok for it in planted)} of {len(planted)} planted faults show"
    return (
        f"matrix: {len(merged.cells)} cells: {words or 'none'}{shown if planted else ''}; "
        f"{len(merged.flaky)} flaky tests; {sanitize.duration(seconds)} in the cells"
    )


def _times(what: str, cells: Sequence[CellResult], aim: float) -> list[str]:
    """Return the line about the seconds of ``cells``, of which each should take at most ``aim``."""
    seconds = [it.record.seconds for it in cells if it.record]
    if not seconds:
        return []
    within = sum(one <= aim for one in seconds)
    return [
        f"{what}: median {statistics.median(seconds):.1f} s, slowest {max(seconds):.1f} s; "
        f"{within} of {len(seconds)} within the aim of {aim:.0f} s"
    ]


def _mutants(merged: Merged) -> list[str]:
    """Return the lines about mutants: the share of killed ones, and how many each test killed."""
    planted = [it for it in merged.cells if it.cell.mutant]
    killed = sum(it.outcome in KILLS for it in planted)
    judged = killed + sum(it.outcome == SURVIVED for it in planted)
    if not judged:
        return []
    killers = Counter(it.killer or it.outcome for it in planted if it.outcome in KILLS)
    by = ", ".join(f"{name} {number}" for name, number in killers.most_common())
    share = f"{killed} of the {judged} mutants that compile and differ are killed"
    return [f"{share} ({100 * killed / judged:.0f} %)", *([f"killed by: {by}"] if by else [])]


def flaky_line(flaky: Flaky) -> str:
    """Return the sentence about a flaky test: its outcomes, and the seeds of the rarer ones."""
    counts = Counter(flaky.outcomes).most_common()
    words = [f"{counts[0][0]} {counts[0][1]}x"]
    for outcome, number in counts[1:]:
        pairs = zip(flaky.seeds, flaky.outcomes, strict=True)
        seeds = [str(seed) for seed, found in pairs if found == outcome]
        words.append(f"{outcome} {number}x (seed {', '.join(seeds)})")
    return f"{flaky.group}: {flaky.test}: {', '.join(words)}"


def _cell(it: CellResult) -> list[str]:
    why = f": {it.why}" if it.why else ""
    more = [f"… and {len(it.bad) - LISTED} more tests"] if len(it.bad) > LISTED else []
    return [
        f"{it.outcome.upper()} {it.cell.name}{why}",
        *(f"    {line}" for line in [*it.bad[:LISTED], *more]),
    ]
