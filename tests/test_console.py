# SPDX-License-Identifier: GPL-2.0-only
"""The console reader, on golden consoles (see data/console/README.md)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kpatch import console
from kpatch.console import Console, Fault, Place

DATA = Path(__file__).parent / "data" / "console"

A, B = "test_a", "test_b"
BOOT, DURING, AFTER = Place.BOOT, Place.DURING, Place.AFTER

# name: the kind, test, place and headline of each fault, and the end of its excerpt
EXPECTED: dict[str, list[tuple[str, str | None, Place, str, str]]] = {
    "6.1-gpf-kasan": [
        ("oops", A, DURING, "general protection fault, probably", "---[ end trace"),
    ],
    "6.1-ubsan": [("ubsan", A, DURING, "UBSAN: array-index-out-of-bounds in drivers/", "=====")],
    "6.12-list-bug": [("list", A, DURING, "list_del corruption. prev->next", "---[ end trace")],
    "6.12-warn-after": [
        (
            "warning",
            "test_netlink.py::test_unbind",
            AFTER,
            "WARNING: CPU: 1 PID: 0 at drivers/acpi/scan.c:641 acpi_scan_drop_device",
            "---[ end trace",
        ),
    ],
    "7.3-double-fault": [
        ("stack-guard", A, DURING, "BUG: TASK stack guard page was hit at", "---[ end trace"),
        ("double-fault", A, DURING, "traps: PANIC: double fault", "---[ end trace"),
    ],
    "7.3-kasan": [
        ("kasan", A, DURING, "BUG: KASAN: slab-use-after-free in vfio_pci_acpi_notify", "====="),
        ("kfence", B, DURING, "BUG: KFENCE: use-after-free read in", "====="),
    ],
    "7.3-lockdep": [
        ("lockdep", A, DURING, "WARNING: possible circular locking dependency", " </TASK>"),
        ("lockdep", B, DURING, "[ BUG: Invalid wait context ]", " </TASK>"),
        ("rcu", B, DURING, "WARNING: suspicious RCU usage", " </TASK>"),
        ("sleep", B, DURING, "BUG: sleeping function called from invalid context", " </TASK>"),
        ("atomic", B, DURING, "BUG: scheduling while atomic: kworker/0:1/9", " </TASK>"),
    ],
    "7.3-null": [
        (
            "null",
            "test_netlink.py::test_unbind",
            DURING,
            "BUG: kernel NULL pointer dereference, address: 0000000000000018",
            "---[ end trace",
        ),
        (
            "panic",
            "test_netlink.py::test_unbind",
            DURING,
            "Kernel panic - not syncing: Fatal exception",
            "---[ end Kernel panic",
        ),
    ],
    "7.3-refcount": [
        ("refcount", A, DURING, "refcount_t: underflow; use-after-free.", "---[ end trace"),
    ],
    "7.3-single": [
        ("kmemleak", A, DURING, "kmemleak: 2 new suspected memory leaks", "kmemleak: 2 new"),
        ("bug", A, DURING, "BUG: Bad rss-counter state", "BUG: Bad rss-counter state"),
        ("irq", B, DURING, "irq 16: nobody cared", "Disabling IRQ #16"),
    ],
    "7.3-stalls": [
        ("rcu-stall", "test_hang", DURING, "rcu: INFO: rcu_preempt self-detected", " </TASK>"),
        ("soft-lockup", "test_hang", DURING, "watchdog: BUG: soft lockup - CPU#0", " </TASK>"),
        ("hard-lockup", "test_hang", DURING, "watchdog: CPU1: Watchdog detected", " </TASK>"),
        ("hung-task", "test_hang", DURING, "INFO: task python3:122 blocked", " </TASK>"),
    ],
    "7.3-ubsan": [
        ("ubsan", A, DURING, "UBSAN: array-index-out-of-bounds in drivers/", "---[ end trace ]"),
    ],
    "7.3-warn": [
        (
            "warning",
            "test_netlink.py::test_layout[0x81]",
            DURING,
            "WARNING: drivers/vfio/pci/vfio_pci_acpi.c:52 at vfio_pci_acpi_notify",
            "---[ end trace",
        ),
    ],
    "early": [("early", None, BOOT, "PANIC: early exception 0x0e", "PANIC: early exception")],
    "harmless": [],
    "real-7.3-debugger": [
        (
            "warning",
            "test_format.py::test_word[0x80-alpha]",
            DURING,
            "WARNING: kernel/sched/core.c:9187 at __might_sleep",
            "---[ end trace",
        ),
    ],
    "real-7.3-dumps": [],
    "real-7.3-panic-root": [
        ("panic", None, BOOT, "Kernel panic - not syncing: VFS: Unable to mount", "Kernel Offset"),
    ],
    "real-7.3-panic-sysrq": [
        (
            "panic",
            "test_crash.py::test_sysrq[a b]",
            DURING,
            "Kernel panic - not syncing: sysrq triggered crash",
            "Kernel Offset",
        ),
    ],
    "unpack": [("halted", None, BOOT, "-- System halted", " -- System halted")],
}


def golden(name: str) -> bytes:
    return (DATA / f"{name}.log").read_bytes()


def message(line: str) -> str:
    """A console line without its time stamp and caller."""
    match = console._MESSAGE.search(line)
    return line if match is None else match[2]


def test_every_golden_console_has_an_expectation() -> None:
    assert {path.stem for path in DATA.glob("*.log")} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_golden(name: str) -> None:
    faults = console.read(golden(name))
    assert [(fault.kind, fault.test, fault.place) for fault in faults] == [
        (kind, test, place) for kind, test, place, _, _ in EXPECTED[name]
    ]
    for fault, (_, _, _, line, end) in zip(faults, EXPECTED[name], strict=True):
        assert fault.line.startswith(line)
        assert message(fault.excerpt.splitlines()[-1]).startswith(end)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_pieces_of_any_size_give_the_same(name: str) -> None:
    data, whole = golden(name), console.read(golden(name))
    for seed in range(3):
        chance, reader, rest = random.Random(seed), Console(), data  # noqa: S311
        while rest:
            cut = chance.randint(1, 200)
            reader.feed(rest[:cut])
            rest = rest[cut:]
        assert reader.close() == whole


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_console_cut_anywhere_never_loses_a_fault_that_was_whole(name: str) -> None:
    whole = console.read(golden(name))
    lines = golden(name).splitlines(keepends=True)
    step = max(1, len(lines) // 40)
    for count in range(0, len(lines), step):
        some = console.read(b"".join(lines[:count]))
        assert len(some) <= len(whole)
        for early, late in zip(some[:-1], whole, strict=False):
            assert early == late


def test_a_report_starts_at_its_cut_here() -> None:
    (fault,) = console.read(golden("7.3-warn"))
    assert "cut here" in fault.excerpt.splitlines()[0]
    assert len(fault.excerpt.splitlines()) == 15
    assert fault.time == 3.21


def test_a_report_starts_at_its_rule() -> None:
    fault = console.read(golden("7.3-lockdep"))[0]
    assert message(fault.excerpt.splitlines()[0]).startswith("=====")
    assert "no part of the report" not in fault.excerpt


def test_stalls_are_marked() -> None:
    assert all(fault.stall for fault in console.read(golden("7.3-stalls")))
    assert not any(fault.stall for fault in console.read(golden("7.3-lockdep")))


def test_only_the_last_word_is_fatal() -> None:
    assert [fault.fatal for fault in console.read(golden("7.3-null"))] == [False, True]


def test_dead_is_known_while_reading() -> None:
    reader = Console()
    reader.feed(b"[    1.000000] fine\n")
    assert not reader.dead
    reader.feed(b"[    1.100000] Kernel panic - not syncing: sysrq triggered crash\n")
    assert reader.dead


def test_the_running_test_is_known_while_reading() -> None:
    reader = Console()
    reader.feed(b"[    1.000000] vfio_acpi: begin test_x[a b]\r\n")
    assert reader.test == "test_x[a b]"
    reader.feed(b"[    1.000000] vfio_acpi: end test_x[a b]\r\n")
    assert reader.test is None
    assert reader.seen == ["test_x[a b]"]


def test_a_report_that_breaks_off_is_a_fault() -> None:
    (fault,) = console.read(
        "[    1.000000] ------------[ cut here ]------------\n[    1.000001] vfio: what WARN sa"
    )
    assert (fault.kind, fault.line) == ("cut", "vfio: what WARN sa")


def test_user_space_in_front_of_a_message_does_not_hide_it() -> None:
    (fault,) = console.read("tests running .....[    1.000000][    C0] BUG: Bad page state\n")
    assert fault.kind == "bug"
    assert fault.excerpt == "[    1.000000][    C0] BUG: Bad page state\n"


def test_a_gap_in_time_ends_a_report() -> None:
    (fault,) = console.read(
        "[    1.000000] BUG: Bad page state in process python3\n[    1.100000] page dumped\n"
        "[    7.000000] vfio-pci 0000:00:10.0: resetting\n"
    )
    assert fault.excerpt.count("\n") == 2


def test_a_report_is_bounded() -> None:
    lines = [f"[    1.{number:06}] more" for number in range(5000)]
    (fault,) = console.read("\n".join(["[    1.000000] BUG: endless", *lines]))
    assert len(fault.excerpt.splitlines()) == console.EXCERPT_LINES


def test_a_kernel_that_complains_in_a_loop_is_bounded() -> None:
    loop = "".join(
        f"[    1.{number:06}] kmemleak: 1 new suspected memory leaks\n" for number in range(999)
    )
    faults = console.read(loop + "[    2.000000] Kernel panic - not syncing: x\n")
    assert len(faults) == console.FAULTS_LIMIT + 1
    assert faults[-1].kind == "panic"


def test_a_line_without_end_is_bounded() -> None:
    reader = Console()
    for _ in range(100):
        reader.feed(b"x" * 10_000)
    reader.feed(b"\n[    1.000000] BUG: after it\n")
    (fault,) = reader.close()
    assert fault.line == "BUG: after it"


def test_escape_sequences_never_come_through() -> None:
    (fault,) = console.read(b"\x1b[2J\x1b]0;title\x07[    1.000000] BUG: \x1b[31mred\xc2\x9b\x00\n")
    assert fault.line == "BUG: red"
    assert fault.excerpt == "[    1.000000] BUG: red\n"


def test_noise_is_survived() -> None:
    chance = random.Random(7)  # noqa: S311
    for _ in range(50):
        assert isinstance(console.read(chance.randbytes(2000)), tuple)


@pytest.mark.parametrize("kind", console.KINDS, ids=lambda kind: f"{kind.name}-{kind.meaning}")
def test_every_row_says_what_it_means(kind: console.Kind) -> None:
    names = {row.name for row in console.KINDS}
    assert kind.meaning
    assert kind.part_of <= names


def test_a_fault_is_plain_data() -> None:
    (fault,) = console.read("[    1.000000] BUG: x\n")
    assert fault == Fault("bug", "BUG: x", "[    1.000000] BUG: x\n", None, Place.BOOT, 1.0)


# Formats of the kernel's source that no golden console holds, filled in by hand.
HEADLINES = [
    ("kcsan", "BUG: KCSAN: data-race in vfio_pci_set_acpi / vfio_pci_acpi_notify"),
    ("kmsan", "BUG: KMSAN: uninit-value in vfio_pci_acpi_notify+0x1/0x2"),
    ("kasan", "BUG: KASAN: invalid-access"),
    ("lockdep", "WARNING: possible recursive locking detected"),
    ("lockdep", "WARNING: possible irq lock inversion dependency detected"),
    ("lockdep", "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected"),
    ("lockdep", "WARNING: inconsistent lock state"),
    ("lockdep", "WARNING: Nested lock was not taken"),
    ("lockdep", "WARNING: chain_key collision"),
    ("lockdep", "WARNING: bad unlock balance detected!"),
    ("lockdep", "WARNING: bad contention detected!"),
    ("lockdep", "WARNING: held lock freed!"),
    ("lockdep", "WARNING: python3/121 still has locks held!"),
    ("lockdep", "WARNING: lock held when returning to user space!"),
    ("lockdep", "INFO: trying to register non-static key."),
    ("rcu-stall", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"),
    ("rcu-stall", "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-...D }"),
    ("rcu-stall", "INFO: rcu_tasks detected stalls on tasks:"),
    ("hard-lockup", "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1"),
    ("hung-task", "INFO: task kworker/u8:1:33 blocked for more than 120 seconds."),
    ("workqueue", "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 43s!"),
    ("bug", "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[9]"),
    ("bug", "BUG: spinlock bad magic on CPU#0, python3/121"),
    ("bug", "BUG: using __this_cpu_add() in preemptible [00000000] code: python3/121"),
    ("bug", "BUG: Bad page state in process python3  pfn:04a1c"),
    ("bug", "kernel BUG at drivers/vfio/vfio_main.c:100!"),
    ("atomic", "BUG: scheduling in a non-blocking section: python3/121/1"),
    ("page-fault", "BUG: unable to handle page fault for address: ffffc90000000000"),
    (
        "oops",
        "Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
    ),
    ("oops", "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI"),
    ("list", "list_add double add: new=ffff888004a1c2d8, prev=ffff888004a1c2d8, next=0."),
    ("odebug", "ODEBUG: free active (active state 0) object: 0 object type: timer_list"),
    (
        "usercopy",
        "Kernel memory exposure attempt detected from SLUB object 'x' (offset 0, size 9)!",
    ),
    ("ref-tracker", "ref_tracker: reference already released."),
    ("slub", "BUG kmalloc-64 (Not tainted): Poison overwritten"),
    ("slub", "BUG vfio cache (Tainted: G    B             ): Object already free"),
    ("kobject", "sysfs: cannot create duplicate filename '/devices/pci0000:00'"),
    (
        "kobject",
        "kobject: 'x' (00000000c2b9fe4f): is not initialized, yet kobject_put() is called.",
    ),
    ("warning", "WARNING: at vfio_pci_acpi_notify+0x52/0x60, CPU#1: kworker/1:1/39"),
    ("warning", "WARNING: CPU: 0 PID: 1 at 0xffffffff81000000"),
    ("panic", "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009"),
]


@pytest.mark.parametrize(("kind", "headline"), HEADLINES)
def test_headline(kind: str, headline: str) -> None:
    (fault,) = console.read(f"[    1.000000] {headline}\n")
    assert (fault.kind, fault.line) == (kind, " ".join(headline.split()))


def test_every_kind_has_an_example() -> None:
    golden = {fault[0] for faults in EXPECTED.values() for fault in faults}
    assert {row.name for row in console.KINDS} == golden | {kind for kind, _ in HEADLINES}


@pytest.mark.parametrize("front", ["vfio_acpi: ", "python3[12]: ", "a tool said "])
def test_a_headline_quoted_in_a_message_is_none(front: str) -> None:
    for kind, headline in HEADLINES:
        if not (kind == "oops" and front.endswith(("]: ", "said "))):  # any text, then the [#1]
            assert console.read(f"[    1.000000] {front}{headline}\n") == ()
