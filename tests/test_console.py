# SPDX-License-Identifier: GPL-2.0-only
"""The console reader, on golden consoles (see data/console/README.md)."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from kpatch.run import console
from kpatch.run.console import Console, Fault, Place
from tests.goldenconsoles import END, EXPECTED

DATA = Path(__file__).parent / "data" / "console"


def golden(name: str) -> bytes:
    return (DATA / f"{name}.log").read_bytes()


def message(line: str) -> str:
    """Return a console line without its time stamp and caller."""
    match = console._MESSAGE.search(line)
    return line if match is None else match["text"]


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
        for early, late in zip(some, whole, strict=False):
            if early.excerpt == late.excerpt:
                assert early == late
            else:  # the fault is still being written, like possibly another one
                assert late.excerpt.startswith(early.excerpt)
                assert END not in early.excerpt


def test_a_report_starts_at_its_cut_here() -> None:
    (fault,) = console.read(golden("real-7.3-warn"))
    assert "cut here" in fault.excerpt.splitlines()[0]
    assert len(fault.excerpt.splitlines()) == 38
    assert fault.time == 1.055578


def test_a_report_starts_at_its_rule() -> None:
    fault = console.read(golden("real-7.3-lockdep"))[0]
    assert message(fault.excerpt.splitlines()[0]).startswith("=====")
    assert "end test_crash" not in fault.excerpt


def test_a_rule_that_is_not_right_above_is_no_part_of_the_report() -> None:
    (fault,) = console.read(f"{STAMP} {'=' * 66}\n{STAMP} something else\n{STAMP} BUG: x\n")
    assert fault.excerpt == f"{STAMP} BUG: x\n"


def test_stalls_are_marked() -> None:
    assert all(fault.stall for fault in console.read(golden("7.3-stalls")))
    assert not any(fault.stall for fault in console.read(golden("real-7.3-lockdep")))


def test_only_the_last_word_is_fatal() -> None:
    assert [fault.fatal for fault in console.read(golden("7.3-null"))] == [False, True]


def test_the_running_test_is_known_while_reading() -> None:
    reader = Console()
    reader.feed(b"[    1.000000] vfio_acpi: begin test_x[a b]\r\n")
    assert reader.test == "test_x[a b]"
    reader.feed(b"[    1.000000] vfio_acpi: end test_x[a b]\r\n")
    assert reader.test is None


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


def test_messages_that_are_lost_in_a_loop_hide_no_fault() -> None:
    lost = "** 5 printk messages dropped **\n" * 999
    faults = console.read(f"{lost}[    1.000000] BUG: x\n")
    assert [fault.kind for fault in faults] == ["dropped"] * console.FAULTS_LIMIT + ["bug"]


def test_reports_of_many_tasks_are_bounded() -> None:
    start = time.process_time()
    faults = console.read(
        "".join(
            f"[    1.000000][{task:>6}] {'=' * 66}\n[    1.000000][{task:>6}] BUG: x\n"
            for task in (f"T{number}" for number in range(3000))
        )
    )
    assert len(faults) == console.FAULTS_LIMIT
    assert [fault.excerpt.count("\n") for fault in faults] == [2] * console.FAULTS_LIMIT
    assert time.process_time() - start < 2


def test_a_long_message_is_bounded() -> None:
    (fault,) = console.read(f"[    1.000000] BUG: {'x' * 5000}\n")
    assert len(fault.excerpt) == console.MESSAGE_LIMIT + 1


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


@pytest.mark.parametrize(
    "noise",
    ["INFO: task blocked ", "BUG: KASAN: a in ", " at: f+0x1/0x2 ", "[      ", "-safe -> a-"],
)
@pytest.mark.parametrize("head", ["", "INFO: task ", "BUG: KASAN: a in f"])
def test_a_hostile_kernel_cannot_hold_up_the_reader(noise: str, head: str) -> None:
    """Every pattern takes linear time; a hundred such lines once took 5 s."""
    line = noise * (console.LINE_LIMIT // len(noise) - 2)
    log = "".join(f"[    1.{number:06}] {head}{line}\n" for number in range(100))
    start = time.process_time()
    console.read(log)
    assert time.process_time() - start < 2


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
    assert fault == Fault(
        kind="bug",
        line="BUG: x",
        excerpt="[    1.000000] BUG: x\n",
        test=None,
        place=Place.BOOT,
        time=1.0,
        title="BUG: x",
        fingerprint=fault.fingerprint,
    )


# Formats from the kernel's source that no golden console has, filled in by hand.
HEADLINES = [
    ("kcsan", "BUG: KCSAN: data-race in vfio_pci_set_acpi / vfio_pci_acpi_notify"),
    ("kmsan", "BUG: KMSAN: uninit-value in vfio_pci_acpi_notify+0x1/0x2"),
    ("kasan", "BUG: KASAN: invalid-access"),
    ("kasan", "BUG:  KASAN: invalid-access"),
    ("kcsan", "BUG:  KCSAN: data-race in f / g"),
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
    ("oops", "segment-related general protection fault: beec [#2] PREEMPT SMP"),
    ("oops", "Oops: stack segment: 0000 [#1] SMP"),
    ("oops", "divide error: 0000 [#1] PREEMPT SMP NOPTI"),
    ("ubsan", "UBSAN: Undefined behaviour in drivers/vfio/vfio_main.c:5:7"),
    ("ubsan", "UBSAN: integer subtraction overflow at vfio_pci_acpi_notify+0x1/0x2"),
    ("ubsan", "UBSAN: divide/remainder overflow at vfio_pci_acpi_notify+0x1/0x2"),
    ("lockdep", "[ INFO: possible circular locking dependency detected ]"),
    ("hung-task", "INFO: task python3:121 can't die for more than 143 seconds."),
    (
        "acpi",
        "ACPI Warning: Obj 00000000c2b9fe4f, Reference Count is already zero, cannot decrement "
        "(20260408/utdelete-423)",
    ),
    ("vfs", "VFS: Close: file count is 0 (f_op=vfio_device_fops)"),
    ("vfs", "VFS: Busy inodes after unmount of sda1 (ext4)"),
    ("netdev", "unregister_netdevice: waiting for lo to become free. Usage count = 5"),
    ("irq", "__common_interrupt: 1.34 No irq handler for vector"),
    ("irq", "No irq handler for 1.34"),
    ("irq", "irq event 16: bogus return value ffffffea"),
    (
        "iommu",
        "DMAR: [DMA Write NO_PASID] Request device [00:10.0] fault addr 0xfee00000 [fault reason "
        "0x05] PTE Write access is not set",
    ),
    (
        "iommu",
        "DMAR: [INTR-REMAP] Request device [0000:00:10.0] fault index 0x2 [fault reason 0x22]",
    ),
    ("iommu", "DMAR: VT-d detected Invalidation Queue Error: Reason f"),
    (
        "iommu",
        "vfio-pci 0000:00:10.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0001 address=0x0",
    ),
    ("oom", "Memory cgroup out of memory: Killed process 41 (python3) total-vm:1120kB, UID:0"),
    ("oom", "Out of memory and no killable processes..."),
    ("unwind", "WARNING: kernel stack regs at ffff8801d100fea8 in a:16059 has bad 'bp' value 0"),
    (
        "kobject",
        "kobject_add_internal failed for x (error: -17 parent: y): something is seriously wrong",
    ),
    ("usercopy", "Kernel memory overwrite attempt detected to wrapped address (offset 0, size 9)!"),
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
    assert {row.name for row in console.KINDS} == golden | {kind for kind, _ in HEADLINES + INFRA}


@pytest.mark.parametrize("front", ["vfio_acpi: ", "python3[12]: ", "a tool said "])
def test_a_headline_quoted_in_a_message_is_none(front: str) -> None:
    for kind, headline in HEADLINES:
        if not (kind == "oops" and front.endswith(("]: ", "said "))):  # any text, then the [#1]
            assert console.read(f"[    1.000000] {front}{headline}\n") == ()


STAMP = "[    1.000000]"


def kinds(*lines: str) -> list[str]:
    return [fault.kind for fault in console.read("\n".join([*lines, ""]))]


# Headlines from the kernel's source that no golden console has and that do not blame a series: a
# detector has switched itself off, or messages are lost.
INFRA = [
    ("disabled-detector", "BUG: MAX_LOCKDEP_ENTRIES too low!"),
    ("disabled-detector", "BUG: MAX_LOCK_DEPTH too low!"),
    ("disabled-detector", "turning off the locking correctness validator."),
    ("disabled-detector", "kmemleak: Cannot allocate a kmemleak_object structure"),
    (
        "disabled-detector",
        "kmemleak: Memory pool empty, consider increasing CONFIG_DEBUG_KMEMLEAK_M",
    ),
    ("disabled-detector", "kmemleak: Kernel memory leak detector disabled"),
    ("disabled-detector", "ODEBUG: Out of memory. ODEBUG disabled"),
    ("disabled-detector", "DMA-API: debugging out of memory - disabling"),
    ("disabled-detector", "ref_tracker: memory allocation failure, unreliable refcount tracker."),
    (
        "disabled-detector",
        "Future hung task reports are suppressed, see sysctl kernel.hung_task_warnings",
    ),
]


@pytest.mark.parametrize(("kind", "headline"), INFRA)
def test_a_detector_that_is_off_is_infra(kind: str, headline: str) -> None:
    (fault,) = console.read(f"{STAMP} {headline}\n")
    assert (fault.kind, fault.infra) == (kind, True)


@pytest.mark.parametrize(("kind", "headline"), HEADLINES)
def test_a_complaint_is_not_infra(kind: str, headline: str) -> None:
    (fault,) = console.read(f"{STAMP} {headline}\n")
    assert not fault.infra


def test_lockdep_that_goes_off_with_its_report_is_one_fault() -> None:
    assert kinds(
        f"{STAMP} INFO: trying to register non-static key.",
        f"{STAMP} turning off the locking correctness validator.",
    ) == ["lockdep"]
    assert kinds(
        f"{STAMP} BUG: MAX_LOCKDEP_CHAINS too low!",
        f"{STAMP} turning off the locking correctness validator.",
    ) == ["disabled-detector"]


def test_a_detector_that_goes_off_cuts_no_report() -> None:
    off, report = sorted(
        console.read(
            f"{STAMP} BUG: KASAN: slab-use-after-free in f+0x1/0x2\n"
            f"{STAMP} kmemleak: Kernel memory leak detector disabled\n"
            f"{STAMP} Read of size 8 at addr ff11000004a1c2d8 by task python3/121\n"
        ),
        key=lambda fault: fault.kind,
    )
    assert off.excerpt == f"{STAMP} kmemleak: Kernel memory leak detector disabled\n"
    assert report.title == "KASAN: slab-use-after-free Read in f"
    assert report.excerpt.count("\n") == 3


def test_dropped_messages_are_infra_and_cut_no_report() -> None:
    report, dropped = console.read(
        f"{STAMP} BUG: KASAN: slab-use-after-free in f+0x1/0x2\n"
        "tests running ...** 57 printk messages dropped **\n"
        f"{STAMP} Read of size 8 at addr ff11000004a1c2d8 by task python3/121\n"
    )
    assert (report.kind, report.infra) == ("kasan", False)
    assert report.excerpt.count("\n") == 3
    assert (dropped.kind, dropped.infra) == ("dropped", True)
    assert dropped.line == "** 57 printk messages dropped **"


def test_dropped_messages_in_front_of_a_message() -> None:
    """The form of kernels before 4.15."""
    assert kinds(f"** 57 printk messages dropped ** {STAMP} BUG: x") == ["dropped", "bug"]


@pytest.mark.parametrize(
    "note", ["57 printk messages dropped", "replaying previous printk message"]
)
def test_a_program_that_writes_such_a_note_is_not_the_console(note: str) -> None:
    assert kinds(f"{STAMP} BUG: x", f"{STAMP} ** {note} **", f"{STAMP} BUG: x") == ["bug", "bug"]


REPLAY = "** replaying previous printk message **"


@pytest.mark.parametrize("length", range(0, 57, 4))
def test_a_message_that_comes_again_is_one(length: int) -> None:
    """Wherever the headline was cut off, also inside its time stamp."""
    headline = f"{STAMP}[  T121] BUG: KASAN: slab-use-after-free in f"
    lines = [f"{STAMP}[  T121] {'=' * 66}", headline[:length], REPLAY, headline]
    (fault,) = console.read("\n".join([*lines, ""]))
    assert fault.line == "BUG: KASAN: slab-use-after-free in f"
    assert fault.excerpt.splitlines() == [lines[0], headline]


def test_a_message_of_several_lines_that_comes_again() -> None:
    record = [f"{STAMP} BUG: x", f"{STAMP} more of it", f"{STAMP} and more"]
    (fault,) = console.read("\n".join([*record[:2], record[2][:20], REPLAY, *record, ""]))
    assert fault.excerpt.splitlines() == record


def test_a_line_of_a_report_that_comes_again() -> None:
    lines = [f"{STAMP} BUG: x", "[    1.100000] more of it"]
    (fault,) = console.read("\n".join([*lines, "[    1.200000] and m", REPLAY]) + "\n")
    assert fault.excerpt.splitlines() == [*lines, "[    1.200000] and m"]
    (fault,) = console.read("\n".join([lines[0], lines[1][:20], REPLAY, lines[1]]) + "\n")
    assert fault.excerpt.splitlines() == lines


def test_a_report_of_one_line_that_comes_again() -> None:
    line = f"{STAMP} kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"
    (fault,) = console.read("\n".join([line[:-20], REPLAY, line]) + "\n")
    assert fault.excerpt == line + "\n"


def test_a_message_that_comes_again_after_others_were_dropped() -> None:
    """The order is that of nbcon_emit_next_record() in kernel/printk/nbcon.c."""
    line = f"{STAMP} BUG: Bad page state in process python3"
    notes = f"{REPLAY}\n** 5 printk messages dropped **\n"
    dropped, bug = sorted(
        console.read(f"{line[:30]}\n{notes}{line}\n"), key=lambda one: one.infra, reverse=True
    )
    assert (dropped.kind, bug.line) == ("dropped", "BUG: Bad page state in process python3")
    assert [fault.kind for fault in console.read(f"{STAMP} x\n{notes}")] == ["dropped"]


def test_a_marker_that_comes_again_is_one() -> None:
    reader = Console()
    reader.feed(f"{STAMP} vfio_acpi: begin test_burst[2\n".encode())
    assert reader.test == "test_burst[2"
    reader.feed(f"{REPLAY}\n{STAMP} vfio_acpi: begin test_burst[256]\n".encode())
    assert reader.test == "test_burst[256]"
    reader.feed(f"{STAMP} vfio_acpi: end test_burst[256]\n{STAMP} BUG: x\n".encode())
    assert [fault.test for fault in reader.close()] == ["test_burst[256]"]


def test_a_replay_takes_nothing_else_back() -> None:
    """The message was cut off in its time stamp. The one before it is complete and stays."""
    assert kinds(f"{STAMP} BUG: x", "[    1.0", REPLAY, f"{STAMP} BUG: y") == ["bug", "bug"]
    assert kinds(f"{STAMP} BUG: x", "[    1.0", REPLAY, f"{STAMP} BUG: x") == ["bug", "bug"]
    assert kinds(f"{STAMP} BUG: x", REPLAY, f"{STAMP} something else") == ["bug"]
    assert kinds(REPLAY, f"{STAMP} BUG: x") == ["bug"]


def test_two_messages_on_a_line() -> None:
    (fault,) = console.read(
        f"{STAMP} demo: allocation failure[    1.100000][    C1] BUG: unable to handle page fault\n"
    )
    assert fault.excerpt == "[    1.100000][    C1] BUG: unable to handle page fault\n"


def test_a_number_in_brackets_is_no_time_stamp() -> None:
    assert kinds(f"{STAMP} x: took [12.345678] BUG: no message") == []
    assert kinds("a program took [12.345678] BUG: no message") == []


def test_reports_of_two_tasks_are_told_apart() -> None:
    one, two = console.read(golden("real-7.3-interleaved"))
    assert {line[14:22] for line in one.excerpt.splitlines()} == {"[   T43]"}
    assert {line[14:22] for line in two.excerpt.splitlines()} == {"[   T44]"}
    assert one.excerpt.count("\n") == two.excerpt.count("\n") == 26


def test_without_the_writers_names_reports_that_interleave_are_two_nevertheless() -> None:
    one, two = console.read(golden("real-6.1-interleaved"))
    assert one.title == two.title == "WARNING in warner"


def test_stacks_of_other_cpus_belong_to_the_report_that_asked_for_them() -> None:
    (fault,) = console.read(
        f"{STAMP}[    C0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n"
        f"{STAMP}[    C0] Sending NMI from CPU 0 to CPUs 1:\n"
        f"{STAMP}[    C1] NMI backtrace for cpu 1\n"
        f"{STAMP}[    C1]  </TASK>\n"
        f"{STAMP}[  T121] vfio-pci 0000:00:10.0: resetting\n"
        f"{STAMP}[    C0] rcu: rcu_preempt kthread starved for 2099 jiffies!\n"
    )
    assert fault.excerpt.count("\n") == 5
    assert "resetting" not in fault.excerpt


def test_a_report_that_is_just_being_written_outlives_a_marker() -> None:
    lockdep = "[    1.{}][  T121] {}\n"
    (fault,) = console.read(
        lockdep.format("000000", "WARNING: possible recursive locking detected")
        + "[    1.000100][   T90] vfio_acpi: end test_a\n"
        + lockdep.format("000200", "the report goes on")
    )
    assert fault.excerpt.count("\n") == 2


def test_a_report_that_rests_ends_at_a_marker() -> None:
    (fault,) = console.read(
        "[    1.000000][  T121] BUG: Bad rss-counter state\n"
        "[    1.900000][   T90] vfio_acpi: end test_a\n"
        "[    1.900100][  T121] vfio-pci 0000:00:10.0: resetting\n"
    )
    assert fault.excerpt.count("\n") == 1


def test_faults_stand_in_the_order_in_which_they_began() -> None:
    first, second = console.read(
        f"{STAMP}[    T1] ------------[ cut here ]------------\n"
        f"{STAMP}[    T1] WARNING: a.c:1 at f+0x1/0x2, CPU#0: a/1\n"
        f"{STAMP}[    T2] kmemleak: 2 new suspected memory leaks\n"
        f"{STAMP}[    T1] ---[ end trace 0000000000000000 ]---\n"
    )
    assert (first.kind, second.kind) == ("warning", "kmemleak")


@pytest.mark.parametrize("front", ["udevd[57]: ", "virtme-ng-init: ", "my-tool: ", "systemd: "])
@pytest.mark.parametrize("text", ["BUG: my assertion failed", "PANIC: out of disk", "INFO: task x"])
def test_what_a_program_writes_is_not_the_kernels(front: str, text: str) -> None:
    assert kinds(f"{STAMP} {front}{text}") == []


@pytest.mark.parametrize("front", ["watchdog: ", "NMI watchdog: ", "workqueue: ", ""])
def test_what_the_kernel_puts_in_front(front: str) -> None:
    assert kinds(f"{STAMP} {front}BUG: x") == ["bug"]


def test_a_task_with_a_newline_in_its_name() -> None:
    (fault,) = console.read(
        f"{STAMP}[   T31] INFO: task x\n{STAMP}[   T31] y:121 blocked for more than 30 seconds.\n"
    )
    assert (fault.kind, fault.title) == ("hung-task", "INFO: task hung")


def test_what_hung_task_adds_is_no_hung_task() -> None:
    """kernel/hung_task.c of 7.3 also prints the owner of the lock that the task waits for."""
    owner = "INFO: task a:1 is blocked on a mutex likely owned by task b:2."
    assert kinds(f"{STAMP} {owner}") == []


@pytest.mark.parametrize(
    "stamp", ["[    1.000000]", "[    1.000000][  T12]", "[    1.000000][ C1]"]
)
def test_with_and_without_the_caller(stamp: str) -> None:
    (fault,) = console.read(f"{stamp} BUG: x\n")
    assert (fault.line, fault.time) == ("BUG: x", 1.0)


def test_memory_that_cannot_be_had_is_no_fault() -> None:
    """A large kmalloc() may fail, as memory may be fragmented; the caller has to handle it."""
    text = "python3: page allocation failure: order:7, mode:0x40cc0(GFP_KERNEL|__GFP_COMP)"
    assert kinds(f"{STAMP} {text}") == []


def test_a_headline_behind_a_space() -> None:
    """Seen with CONFIG_PRINTK_CALLER: the lines of a report are indented by one space."""
    assert kinds(f"{STAMP}[    C4]  BUG: KCSAN: data-race in f+0x1/0x2") == ["kcsan"]
