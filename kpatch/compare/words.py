# SPDX-License-Identifier: GPL-2.0-only
"""The tables of a comparison as rows of short texts, which every form for a reader uses."""

from __future__ import annotations

from dataclasses import dataclass

from kpatch.compare import findings
from kpatch.compare.comparison import Comparison, Host
from kpatch.compare.measured import Measured
from kpatch.compare.outcomes import Held, Row
from kpatch.compare.patches import Size
from kpatch.compare.times import Interval
from kpatch.lib import sanitize
from kpatch.tables.outcomes import Outcome

SIGNS: dict[Held, str] = {
    Held.PASS: "pass",
    Held.LIMIT: "limit",
    Held.SKIP: "skip",
    Held.FAIL: "FAIL",
    Held.NOT_CLAIMED: "-",
    Held.NOT_TESTED: "?",
}
TOTALS: dict[Held, str] = {
    Held.PASS: "passed",
    Held.LIMIT: "at a limit",
    Held.FAIL: "failed",
    Held.NOT_CLAIMED: "not claimed",
}
LEGEND = (
    "pass: every test passes. limit: a documented limit, the tests fail as the table of"
    " requirements says. skip: cannot be tested with the mechanism. FAIL: a test has another"
    " outcome. -: the mechanism does not promise it. ?: promised and not tested."
)


@dataclass(frozen=True)
class Table:
    """A table for a reader: a title, a sentence that explains it, headers and rows of texts."""

    title: str
    note: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def host(it: Host) -> str:
    """Return the machine in one line."""
    if not it.accel:
        return f"{it.cpu}, {it.cores} cores; nothing was measured"
    how = {"tcg": "TCG: the processor is simulated, so that only ratios mean something"}
    return f"{it.cpu}, {it.cores} cores; QEMU {it.qemu}, {how.get(it.accel, it.accel)}"


def requirements(comparison: Comparison, kernel: str, *, numbered: bool = False) -> Table:
    """Return the table requirement × series of one kernel.

    With ``numbered``, the columns are headed by numbers of the series, which is narrower.
    """
    series = [name for name in comparison.series if _of(comparison, kernel, name)]
    held = {
        (row.requirement, row.series): row for row in comparison.outcomes if row.kernel == kernel
    }
    ids = [name for name in comparison.requirements if any((name, it) in held for it in series)]
    rows = [(name, *(_sign(held.get((name, it))) for it in series)) for name in ids]
    totals = [
        (text, *(str(_count(comparison, kernel, it, kind)) for it in series))
        for kind, text in TOTALS.items()
    ]
    heads = [f"[{1 + comparison.series.index(it)}]" if numbered else it for it in series]
    title = f"Requirements, Linux {kernel}"
    return Table(title, LEGEND, ("requirement", *heads), (*rows, *totals))


def _of(comparison: Comparison, kernel: str, series: str) -> list[Row]:
    return [row for row in comparison.outcomes if (row.kernel, row.series) == (kernel, series)]


def _sign(row: Row | None) -> str:
    return "" if row is None else SIGNS[row.held]


def _count(comparison: Comparison, kernel: str, series: str, held: Held) -> int:
    return sum(row.held is held for row in _of(comparison, kernel, series))


TIMED = {
    "loopback": "Loopback: the system calls that cause one and receive it, on N devices in turn;"
    " reference: the same with REQ's eventfd in the same boot.",
    "firmware": "Notification by firmware: from the command that runs AML to the end of the read,"
    " N devices in turn; reference: the event of an AC adapter in the same boot.",
    "listeners": "The same, with N listeners to one device.",
}


def timed(comparison: Comparison, kernel: str, kind: str) -> Table:
    """Return the table of the times of one ``kind`` (a key of `TIMED`)."""
    rows = []
    for name in (it for it in comparison.measurements() if it.split()[0] == kind):
        ranks = {it.series: it.rank for it in findings.ranking(comparison, kernel, name)}
        for series in comparison.series:
            found = comparison.figure(kernel, series, name)
            if found is not None and found.mechanism is not None and found.reference is not None:
                rows.append((name.split()[1], series, *_times(found), str(ranks[series])))
    headers = ("N", "series", "p50 us", "p99 us", "max us", "ratio p50 (95 %)", "p99", "rank")
    note = f"{TIMED[kind]} Equal ranks: the intervals do not tell them apart."
    return Table(f"{kind.capitalize()}, Linux {kernel}", note, headers, tuple(rows))


def _times(found: Measured) -> tuple[str, ...]:
    assert found.mechanism is not None and found.reference is not None
    mine, other = found.mechanism, found.reference
    times = (mine.p50.value, mine.p99.value, mine.largest)
    tail = mine.p99.value / other.p99.value
    ratio = findings.interval(findings.ratio(found))
    return (*(f"{it / 1000:.4g}" for it in times), ratio, f"{tail:.2f}")


def counted(comparison: Comparison, kernel: str, name: str) -> Table:
    """Return the table of a counting measurement, "count" or "overrun"."""
    keys = ("sent", *findings.FAULTS, "reported")
    rows = []
    facts: dict[str, object] = {}
    for series in comparison.series:
        found = comparison.figure(kernel, series, name)
        counts = findings.counts(found)
        if found is not None and counts:
            facts = dict(found.values)
            kept = str(found.values["kept"])
            rows.append((series, *(f"{counts[key]:,}" for key in keys), kept))
    heads = ("series", "sent", *(findings.WORDS[key] for key in findings.FAULTS), "told", "kept")
    if name == findings.COUNT:
        title = f"A reader that keeps up, Linux {kernel}"
        pace = facts.get("pace")
        note = f"Firmware sends {pace} notifications, and goes on when the reader has read them."
    else:
        title = f"A reader that is too slow, Linux {kernel}"
        note = f"It pauses for {facts.get('pause')} s after each read; firmware does not wait."
    note += " told: reported to the reader as lost. kept: what the kernel keeps for a reader."
    return Table(title, note, heads, tuple(rows))


def costs(comparison: Comparison, kernel: str) -> Table:
    """Return the table of CPU time, wake-ups and memory."""
    rows = []
    for series in comparison.series:
        memory = comparison.figure(kernel, series, "memory")
        if memory is not None:
            loop = comparison.figure(kernel, series, findings.LOOPBACK)
            wake = comparison.figure(kernel, series, "wake-ups")
            rows.append((series, _cpu(loop), _wake(wake), *_memory(memory)))
    headers = ("series", "CPU us", "wake-ups", "open", "registered", "pending")
    note = (
        "CPU us: the median trip of a loopback, which does not sleep. wake-ups: how often a reader"
        " that waits has slept for one loopback. Bytes of slab memory for each open device, each"
        " registered VMM, each pending notification: differences over all devices. The allocator"
        " takes whole slabs, and may have free memory of before, so that a figure for a device is"
        " right to about 2 KiB."
    )
    return Table(f"Costs, Linux {kernel}", note, headers, tuple(rows))


def _cpu(found: Measured | None) -> str:
    if found is None or found.mechanism is None:
        return "-"
    return f"{found.mechanism.p50.value / 1000:.4g}"


def _wake(found: Measured | None) -> str:
    if found is None or found.absent or found.outcome is not Outcome.PASS:
        return "-"
    values = {key: float(it) for key, it in found.values.items()}
    return f"{values['mechanism sleeps'] / values['events']:.2f}"


def _memory(found: Measured) -> tuple[str, ...]:
    if found.outcome is not Outcome.PASS:
        return ("-",) * 3
    return tuple(f"{float(found.values[key]):,.0f}" for key in ("open", "registered", "pending"))


def sizes(comparison: Comparison, kernel: str) -> Table:
    """Return the table of the patches of each series."""
    found = {it.series: it for it in comparison.sizes if it.kernel == kernel}
    rows = [
        (it.series, *map(str, (it.patches, it.added, it.removed, it.beside)), *_names(it))
        for it in (found[name] for name in comparison.series if name in found)
    ]
    headers = ("series", "patches", "added", "removed", "tests, docs", "exports", "entry points")
    note = (
        "Lines of the kernel's code added and removed; lines added to selftests and documents."
        " Entry points: what user space can call through a member of struct file_operations, a"
        " feature or interrupt index of VFIO, a command or group of netlink, as the patches add it."
    )
    return Table(f"Patches, Linux {kernel}", note, headers, tuple(rows))


def _names(size: Size) -> tuple[str, str]:
    return ", ".join(size.exports) or "none", str(len(size.entries))


def tables(comparison: Comparison, kernel: str) -> list[Table]:
    """Return all tables of one kernel that have rows, except that of the requirements."""
    every = [
        *(timed(comparison, kernel, kind) for kind in TIMED),
        counted(comparison, kernel, findings.COUNT),
        counted(comparison, kernel, findings.OVERRUN),
        costs(comparison, kernel),
        sizes(comparison, kernel),
    ]
    return [table for table in every if table.rows]


def limits(comparison: Comparison, series: str) -> list[tuple[str, str]]:
    """Return id and reason of each requirement that the series does not meet.

    Then follow the kinds of measurements that it does not have, with their reasons.
    """
    held = (Held.LIMIT, Held.SKIP, Held.FAIL)
    rows = [row for kind in held for row in findings.rows_of(comparison, series, kind)]
    missing = {
        it.absent: it.name.split()[0]
        for it in reversed(comparison.measured)
        if it.series == series and it.absent
    }
    return [(row.requirement, sanitize.line(row.reason)) for row in rows] + [
        (kind, sanitize.line(reason)) for reason, kind in reversed(missing.items())
    ]


def goal_lines(comparison: Comparison) -> list[str]:
    """Return a line for each goal of the recommended mechanism: whether it is met, the figure."""
    words = {True: "met", False: "MISSED", None: "not measured"}
    return [
        f"{goal.kernel}: {words[goal.met]}: {goal.text}: {goal.figure}"
        for goal in findings.goals(comparison)
    ]


def conclusion(comparison: Comparison) -> list[str]:
    """Return the sentences that follow from the figures, one paragraph each."""
    lines = []
    for series in comparison.series:
        tested = [row for row in comparison.outcomes if row.series == series]
        if not tested:
            continue
        number = {held: len(findings.rows_of(comparison, series, held)) for held in Held}
        fails = f", {number[Held.FAIL]} fail" if number[Held.FAIL] else ""
        lines.append(
            f"{series} meets {number[Held.PASS]} requirements, {number[Held.LIMIT]} are at a"
            f" documented limit{fails}, and {number[Held.NOT_CLAIMED]} are not claimed."
        )
    for kernel in comparison.kernels:
        lines += _ranked(comparison, kernel)
    return lines


def _ranked(comparison: Comparison, kernel: str) -> list[str]:
    """Return a sentence for each measurement that several series have made on ``kernel``."""
    lines = []
    for name in comparison.measurements():
        places = findings.ranking(comparison, kernel, name)
        if len(places) < 2:
            continue
        ranks = sorted({place.rank for place in places})
        groups = [
            " = ".join(f"{it.series} {_short(it.ratio)}" for it in places if it.rank == rank)
            for rank in ranks
        ]
        lines.append(f"Linux {kernel}, {name}, ratio of medians: {' < '.join(groups)}.")
    return lines


def _short(found: Interval) -> str:
    return f"{found.value:.2f}"
