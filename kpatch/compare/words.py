# SPDX-License-Identifier: GPL-2.0-only
"""The tables of a comparison as rows of short texts, which every form for a reader uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kpatch.compare import criteria, figures, findings
from kpatch.compare.comparison import Comparison, Host
from kpatch.compare.measured import Measured
from kpatch.compare.outcomes import Held, Row
from kpatch.compare.patches import Size
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
    " reference: the same with REQ's eventfd, a plain eventfd_signal().",
    "interrupt": "Notification by firmware: from the interrupt to the end of the system calls that"
    " receive it, N devices in turn; reference: a second Notify handler on the same device, which"
    " does no more than eventfd_signal().",
    "listeners": "The same, with N listeners to one device.",
}


def timed(comparison: Comparison, kernel: str, kind: str) -> Table:
    """Return the table of the times of one ``kind`` (a key of `TIMED`)."""
    rows = []
    for name in (it for it in comparison.measurements() if it.split()[0] == kind):
        ranks = {it.series: it.rank for it in figures.ranking(comparison, kernel, name)}
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
    ratio = figures.interval(figures.ratio(found))
    return (*(f"{it / 1000:.4g}" for it in times), ratio, f"{tail:.2f}")


def counted(comparison: Comparison, kernel: str, name: str) -> Table:
    """Return the table of a counting measurement, "count" or "overrun"."""
    keys = ("sent", *figures.FAULTS, "reported")
    rows = []
    facts: dict[str, object] = {}
    for series in comparison.series:
        found = comparison.figure(kernel, series, name)
        counts = figures.counts(found)
        if found is not None and counts:
            facts = dict(found.values)
            kept = str(found.values["kept"])
            rows.append((series, *(f"{counts[key]:,}" for key in keys), kept))
    heads = ("series", "sent", *(figures.WORDS[key] for key in figures.FAULTS), "told", "kept")
    if name == figures.COUNT:
        title = f"A reader that keeps up, Linux {kernel}"
        pace = facts.get("pace")
        note = f"Firmware sends {pace} notifications, and goes on when the reader has read them."
    else:
        title = f"A reader that begins after the last notification, Linux {kernel}"
        note = "Firmware does not wait."
    note += " told: reported to the reader as lost. kept: what the kernel keeps for a reader."
    return Table(title, note, heads, tuple(rows))


def throughput(comparison: Comparison, kernel: str) -> Table:
    """Return the table of the loopbacks a second, one after the other."""
    rows = []
    for name in (it for it in comparison.measurements() if it.split()[0] == "loopback"):
        found = {it: comparison.figure(kernel, it, name) for it in comparison.series}
        ratios = {it: figures.throughput(measured) for it, measured in found.items()}
        for series, measured in found.items():
            if measured is not None and measured.mechanism is not None:
                each = f"{1e9 / measured.mechanism.mean.value:,.0f}"
                rows.append((name.split()[1], series, each, figures.interval(ratios[series])))
    note = "Loopbacks a second, each after the one before, and the ratio to those of REQ's eventfd."
    headers = ("N", "series", "a second", "ratio (95 %)")
    return Table(f"Throughput of the loopback, Linux {kernel}", note, headers, tuple(rows))


def costs(comparison: Comparison, kernel: str) -> Table:
    """Return the table of wake-ups, CPU time, and of a sleeping device."""
    rows = []
    for series in comparison.series:
        wake = figures.counts(comparison.figure(kernel, series, figures.WAKE_UPS))
        asleep = comparison.figure(kernel, series, figures.ASLEEP)
        if wake or figures.counts(asleep):
            rows.append((series, *_wake(wake), *_asleep(asleep)))
    headers = ("series", "wake-ups", "CPU us", "of reference", "asleep us", "ratio (95 %)", "woken")
    note = (
        "For each notification that an interrupt sends to a reader that waits: how often it has"
        " slept, the median of its CPU time, and that of a reader of the reference. Then for a"
        " device in D3hot: the median latency, its ratio to that of the same device in D0, and how"
        " often receiving the notification has woken the device."
    )
    return Table(f"Costs of a notification, Linux {kernel}", note, headers, tuple(rows))


def _wake(found: Mapping[str, int]) -> tuple[str, ...]:
    if not found:
        return ("-",) * 3
    events = found["events"]
    cpu = (found[f"{it} cpu"] / 1000 for it in ("mechanism", "reference"))
    return (f"{found['mechanism sleeps'] / events:.2f}", *(f"{it:.4g}" for it in cpu))


def _asleep(found: Measured | None) -> tuple[str, ...]:
    counts = figures.counts(found)
    if found is None or not counts or found.mechanism is None:
        return ("-",) * 3
    median = f"{found.mechanism.p50.value / 1000:.4g}"
    return median, figures.interval(figures.ratio(found)), f"{counts['woken']}/{counts['events']}"


def memory(comparison: Comparison, kernel: str) -> Table:
    """Return the table of slab memory."""
    rows = []
    for series in comparison.series:
        found = comparison.figure(kernel, series, figures.MEMORY)
        if found is not None and found.outcome is Outcome.PASS:
            rows.append((series, *(f"{float(found.values[it]):,.0f}" for it in HELD)))
    note = (
        "Bytes of slab memory for each open device, each registered VMM of an idle device, each"
        " pending notification: differences over all devices. The allocator takes whole slabs, and"
        " may have free memory of before, so that a figure for a device is right to about 2 KiB. 0"
        " for a pending notification: its memory is that of the registered VMM."
    )
    return Table(f"Memory, Linux {kernel}", note, ("series", *HELD), tuple(rows))


HELD = ("open", "registered", "pending")
"""The values of the measurement "memory"."""


def sizes(comparison: Comparison, kernel: str) -> Table:
    """Return the table of the patches of each series."""
    found = {it.series: it for it in comparison.sizes if it.kernel == kernel}
    rows = [
        (it.series, *map(str, (it.patches, it.added, it.removed, it.beside)), *_names(it))
        for it in (found[name] for name in comparison.series if name in found)
    ]
    headers = (
        "series",
        "patches",
        "added",
        "removed",
        "beside",
        "exports",
        "entries",
        "functions",
    )
    note = (
        "Lines of the kernel's code added and removed; beside: added to selftests and documents."
        " Entries: what user space can call through a member of struct file_operations, a"
        " feature or interrupt index of VFIO, a command or group of netlink, as the patches add it."
        " Functions: added, and of these reachable from such a table or an ioctl, also as a handler"
        " that it installs."
    )
    return Table(f"Patches, Linux {kernel}", note, headers, tuple(rows))


def _names(size: Size) -> tuple[str, str, str]:
    reached = f"{size.functions}, {len(size.reachable)} reachable"
    return ", ".join(size.exports) or "none", str(len(size.entries)), reached


def tables(comparison: Comparison, kernel: str) -> list[Table]:
    """Return all tables of one kernel that have rows, except that of the requirements."""
    every = [
        *(timed(comparison, kernel, kind) for kind in TIMED),
        throughput(comparison, kernel),
        counted(comparison, kernel, figures.COUNT),
        counted(comparison, kernel, figures.OVERRUN),
        costs(comparison, kernel),
        memory(comparison, kernel),
        sizes(comparison, kernel),
    ]
    return [table for table in every if table.rows]


def limits(comparison: Comparison, series: str) -> list[tuple[str, str]]:
    """Return id and reason of each requirement that the series does not meet.

    Then follow the kinds of measurements that it does not have, with their reasons, and the
    criteria that its figures do not reach.
    """
    held = (Held.LIMIT, Held.SKIP, Held.FAIL)
    rows = [row for kind in held for row in findings.rows_of(comparison, series, kind)]
    missing = {
        it.absent: it.name.split()[0]
        for it in reversed(comparison.measured)
        if it.series == series and it.absent
    }
    return (
        [(row.requirement, sanitize.paragraph(row.reason)) for row in rows]
        + [(kind, sanitize.paragraph(reason)) for reason, kind in reversed(missing.items())]
        + _below(comparison, series)
    )


def _below(comparison: Comparison, series: str) -> list[tuple[str, str]]:
    """Return name and figure of each criterion that the figures of the series do not reach."""
    below = [
        (it, kernel, it.figure(comparison, kernel, series))
        for it in criteria.CRITERIA
        for kernel in comparison.kernels
        if it.figure is not None and it.holds(comparison, kernel, series) is False
    ]
    return [
        (it.name, f"it is not so that {it.text} ({kernel}: {figure})")
        for it, kernel, figure in below
        if figure != figures.NOT_MEASURED
    ]


JUDGED = {True: "yes", False: "no", None: "?"}


def decision(comparison: Comparison, *, numbered: bool = False) -> Table:
    """Return the table criterion × series; for ``numbered`` see `requirements`."""
    judged = {name: criteria.judged(comparison, name) for name in comparison.series}
    rows = [
        (it.name, *(JUDGED[each[it.name]] for each in judged.values())) for it in criteria.CRITERIA
    ]
    held = ("held", *(str(sum(it is True for it in each.values())) for each in judged.values()))
    heads = [f"[{number}]" if numbered else it for number, it in enumerate(judged, 1)]
    each = "; ".join(f"{it.name}: {it.text}" for it in criteria.CRITERIA)
    note = f"On all kernels that it was judged on: {each}. ?: not judged."
    return Table("Criteria", note, ("criterion", *heads), (*rows, held))


def goal_lines(comparison: Comparison) -> list[str]:
    """Return a line for each goal of the recommended mechanism: whether it is met, the figure."""
    words = {True: "met", False: "MISSED", None: "not measured"}
    return [
        f"{goal.kernel}: {words[goal.met]}: {goal.text}: {goal.figure}"
        for goal in findings.goals(comparison)
    ]
