# SPDX-License-Identifier: GPL-2.0-only
"""Titles and fingerprints: equal for the same fault, whatever else differs between two runs."""

from __future__ import annotations

import re

import pytest

from kpatch.run import console, title
from tests.test_console import DATA

# The titles of the faults in each golden console.
TITLES = {
    "6.1-gpf-kasan": ["general protection fault in vfio_pci_acpi_close"],
    "6.12-list-bug": ["BUG: corrupted list in vfio_pci_acpi_close"],
    "6.12-warn-after": ["WARNING in acpi_scan_drop_device"],
    "7.3-null": [
        "BUG: unable to handle kernel NULL pointer dereference in vfio_pci_acpi_close",
        "kernel panic: Fatal exception",
    ],
    "7.3-kmemleak": [
        "memory leak in vfio_pci_set_ctx_trigger_single",
        "memory leak in vfio_pci_acpi_notify",
    ],
    "7.3-single": ["memory leak", "BUG: Bad rss-counter state", "irq: nobody cared"],
    "early": ["PANIC: early exception"],
    "real-6.1-gpf": ["general protection fault in wr"],
    "real-6.1-interleaved": ["WARNING in warner", "WARNING in warner"],
    "real-6.1-list": ["BUG: corrupted list in lkdtm_CORRUPT_LIST_ADD"],
    "real-6.1-null-panic": [
        "BUG: unable to handle kernel NULL pointer dereference in nul",
        "kernel panic: Fatal exception",
    ],
    "real-6.1-rcu-stall": ["INFO: rcu detected stall in lkdtm_SOFTLOCKUP"] * 2,
    "real-6.1-ubsan": ["UBSAN: array-index-out-of-bounds in lkdtm_ARRAY_BOUNDS"],
    "real-6.1-usercopy": ["BUG: bad usercopy in direct_entry"],
    "real-6.1-warn": ["WARNING in lkdtm_WARNING_MESSAGE"],
    "real-7.3-atomic": [
        "BUG: scheduling while atomic in msleep",
        "WARNING in preempt_count_sub",
        "BUG: scheduling while atomic in wr",
    ],
    "real-7.3-bug": ["kernel BUG in lkdtm_BUG"],
    "real-7.3-debugger": ["WARNING in acpi_aml_kern_readable"],
    "real-7.3-group-without-memory": ["WARNING in vfio_group_release"],
    "real-7.3-table-leak": ["memory leak in acpi_table_make_item"],
    "real-7.3-freed-companion": ["WARNING: held lock freed in acpi_unbind_one"],
    "real-7.3-unloaded-table": ["WARNING in kernfs_remove_by_name_ns"],
    "real-7.3-divide": ["divide error in wr"],
    "real-7.3-dropped": [
        "printk messages dropped",
        "printk messages dropped",
        "WARNING in wr",
    ],
    "real-7.3-gpf": ["general protection fault in wr"],
    "real-7.3-hard-lockup": ["BUG: hard lockup in lkdtm_HARDLOCKUP"] * 2,
    "real-7.3-hung-task": [
        "INFO: task hung in lkdtm_HUNG_TASK",
        "INFO: task hung in lkdtm_HUNG_TASK",
        "Future hung task reports are suppressed, see sysctl kernel.hung_task_warnings",
    ],
    "real-7.3-interleaved": ["WARNING in warner", "WARNING in warner"],
    "real-7.3-kasan": ["KASAN: slab-use-after-free Read in lkdtm_READ_AFTER_FREE"],
    "real-7.3-kasan-double-free": ["KASAN: invalid-free in lkdtm_do_action"],
    "real-7.3-kfence": ["KFENCE: use-after-free read in lkdtm_KFENCE_READ_AFTER_FREE"],
    "real-7.3-kobject": [
        "WARNING: kobject bug in wr",
        "WARNING: refcount bug in wr",
        "sysfs: cannot create duplicate filename in wr",
    ],
    "real-7.3-list": ["BUG: corrupted list in lkdtm_CORRUPT_LIST_ADD"],
    "real-7.3-lockdep": ["possible deadlock in ba"],
    "real-7.3-lockdep-held": ["WARNING: lock held when returning to user space in wr"],
    "real-7.3-lockdep-off": ["BUG: MAX_LOCK_DEPTH too low!"],
    "real-7.3-lockdep-recursive": ["possible deadlock in wr"],
    "real-7.3-lockdep-unlock": ["WARNING: bad unlock balance in wr"],
    "real-7.3-lockdep-wait-context": [
        "WARNING in __smp_call_function_single",
        "WARNING: locking bug in irqfn",
    ],
    "real-7.3-null": ["BUG: unable to handle kernel NULL pointer dereference in lkdtm_ACCESS_NULL"],
    "real-7.3-odebug": ["WARNING: ODEBUG bug in wr"],
    "real-7.3-oom": ["out of memory: killed process"],
    "real-7.3-panic-root": ["kernel panic: VFS: Unable to mount root fs on unknown-block(NUM,NUM)"],
    "real-7.3-panic-sysrq": ["kernel panic: sysrq triggered crash"],
    "real-7.3-rcu": ["WARNING: suspicious RCU usage in wr"],
    "real-7.3-refcount": ["WARNING: refcount bug in lkdtm_REFCOUNT_DEC_ZERO"],
    "real-7.3-sleep": [
        "BUG: sleeping function called from invalid context in __fput",
        "BUG: scheduling while atomic in do_task_dead",
    ],
    "real-7.3-stack-guard": [
        "BUG: stack guard page was hit in recursive_loop",
        "kernel panic: Fatal exception in interrupt",
    ],
    "real-7.3-ubsan": ["UBSAN: array-index-out-of-bounds in lkdtm_ARRAY_BOUNDS"],
    "real-7.3-usercopy": ["BUG: bad usercopy in lkdtm_do_action"],
    "real-7.3-workqueue": ["BUG: workqueue leaked atomic, lock or RCU in leaky"],
    "real-7.3-warn": ["WARNING in lkdtm_WARNING_MESSAGE"],
    "unpack": ["-- System halted"],
}


@pytest.mark.parametrize("name", sorted(TITLES))
def test_golden(name: str) -> None:
    faults = console.read((DATA / f"{name}.log").read_bytes())
    assert [fault.title for fault in faults] == TITLES[name]


def test_every_real_console_has_its_titles() -> None:
    silent = {"real-7.3-dumps"}
    assert {path.stem for path in DATA.glob("real-*.log")} - silent <= set(TITLES)


def changed(log: str) -> str:
    """Return the log with other addresses, offsets, times, tasks, CPUs and compiler."""
    log = re.sub(r"^\[ *(\d+)\.(\d{6})\]", r"[   9\1.\2]", log, flags=re.MULTILINE)
    log = re.sub(r"\[ *T\d+\]", "[  T977]", log)
    log = re.sub(r"\b(PID: |[a-z]/|task )\d+", r"\g<1>977", log)
    log = re.sub(r"\b(CPU: |CPU#)\d", r"\g<1>3", log)
    log = re.sub(r"\bffff[0-9a-f]{12}\b", "ffff8880deadbeef", log)
    log = re.sub(r"\b([A-Z0-9]{2,3}): [0-9a-f]{16}\b", r"\1: 00000000deadbeef", log)
    return re.sub(r"\b([a-z]\w+)\+0x[0-9a-f]+/0x", r"\1.constprop.0+0x7/0x", log)


@pytest.mark.parametrize("name", sorted(set(TITLES) - {"real-7.3-interleaved"}))
def test_another_run_has_the_same(name: str) -> None:
    log = (DATA / f"{name}.log").read_text()
    first, second = console.read(log), console.read(changed(log))
    assert [fault.title for fault in first] == [fault.title for fault in second]
    assert [fault.fingerprint for fault in first] == [fault.fingerprint for fault in second]


def test_a_fingerprint_tells_the_way_apart() -> None:
    log = (DATA / "real-7.3-warn.log").read_text()
    (one,) = console.read(log)
    (other,) = console.read(log.replace("full_proxy_write", "another_way"))
    assert one.title == other.title
    assert one.fingerprint != other.fingerprint
    assert re.fullmatch(r"[0-9a-f]{12}", one.fingerprint)


def test_a_fingerprint_tells_kinds_and_functions_apart() -> None:
    faults = [
        fault
        for path in sorted(DATA.glob("real-7.3-*.log"))
        for fault in console.read(path.read_bytes())
        if path.stem != "real-7.3-interleaved"
    ]
    assert len({fault.fingerprint for fault in faults}) == len({fault.title for fault in faults})


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("vfio_pci_acpi_notify", "vfio_pci_acpi_notify"),
        ("vfio_pci_acpi_notify.constprop.0", "vfio_pci_acpi_notify"),
        ("vfio_pci_acpi_notify.isra.0.cold", "vfio_pci_acpi_notify"),
        ("vfio_pci_acpi_notify.part.3", "vfio_pci_acpi_notify"),
        ("__x64_sys_ioctl", "ioctl"),
        ("__do_sys_ioctl", "ioctl"),
        ("sys_", "sys_"),
    ],
)
def test_name(function: str, name: str) -> None:
    assert title.name(function) == name


STACK = ["Call Trace:", " <TASK>", " ? guess+0x1/0x2", " f.cold+0x1/0x2", " g+0x1/0x2", " </TASK>"]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (["BUG: KASAN: double-free in kfree+0x1/0x2", *STACK], "KASAN: invalid-free in f"),
        (["BUG:  KASAN: wild-memory-access in f+0x1/0x2"], "KASAN: wild-memory-access in f"),
        (["BUG: KCSAN: data-race in f / g"], "KCSAN: data-race in f / g"),
        (["UBSAN: Undefined behaviour in a.c:1:2", *STACK], "UBSAN: undefined-behaviour in f"),
        (["UBSAN: shift out of bounds at f+0x1/0x2"], "UBSAN: shift out of bounds in f"),
        (
            [
                "WARNING: possible circular locking dependency detected",
                "python3/1 is trying to acquire lock:",
                "ff11000004a1c2d8 (&a){+.+.}-{4:4}, at: h+0x1/0x2",
                "but task is already holding lock:",
                "ff11000004a1c2d8 (&b){+.+.}-{4:4}, at: g+0x1/0x2",
            ],
            "possible deadlock in h",
        ),
        (["WARNING: inconsistent lock state", *STACK], "inconsistent lock state in f"),
        (["WARNING: suspicious RCU usage", *STACK], "WARNING: suspicious RCU usage in f"),
        (["[ BUG: Invalid wait context ]", *STACK], "WARNING: locking bug in f"),
        (["WARNING: bad unlock balance detected!", *STACK], "WARNING: bad unlock balance in f"),
        (
            ["WARNING: python3/1 still has locks held!", "#0: x (&a), at: g+0x1/0x2"],
            "WARNING: still has locks held in g",
        ),
        (
            [
                "rcu: INFO: rcu_preempt self-detected stall on CPU",
                "Call Trace:",
                " <IRQ>",
                " rcu_sched_clock_irq+0x1/0x2",
                " </IRQ>",
                " vfio_pci_acpi_notify+0x1/0x2",
                " acpi_ev_notify_dispatch+0x1/0x2",
                " process_one_work+0x1/0x2",
            ],
            "INFO: rcu detected stall in vfio_pci_acpi_notify",
        ),
        (
            ["watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [a:1]", "RIP: 0010:f+0x1/0x2"],
            "BUG: soft lockup in f",
        ),
        (
            [
                "INFO: task python3:1 blocked for more than 30 seconds.",
                "Call Trace:",
                " __schedule+0x1/0x2",
                " schedule+0x1/0x2",
                " __mutex_lock+0x1/0x2",
                " g+0x1/0x2",
            ],
            "INFO: task hung in g",
        ),
        (
            [
                "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[9]",
                "     preempt=0x00000000 lock=0->1 RCU=0->0 workfn=f",
            ],
            "BUG: workqueue leaked atomic, lock or RCU in f",
        ),
        (
            ["BUG: using smp_processor_id() in preemptible [00000000] code: python3/1", *STACK],
            "BUG: using smp_processor_id() in preemptible code in f",
        ),
        (
            ["BUG: spinlock bad magic on CPU#0, python3/1", *STACK],
            "BUG: spinlock bad magic in f",
        ),
        (["general protection fault, probably for non-canonical address 0x1: 0000 [#1]"],
         "general protection fault"),
        (["BUG kmalloc-64 (Not tainted): Poison overwritten", *STACK],
         "BUG kmalloc-64: Poison overwritten in f"),
        (["unregister_netdevice: waiting for lo to become free. Usage count = 5"],
         "unregister_netdevice: waiting for DEV to become free"),
        (["DMAR: [DMA Write NO_PASID] Request device [00:10.0] fault addr 0xfee00000"],
         "DMAR: DMA Write fault"),
        (["No irq handler for 1.34"], "No irq handler for vector"),
        (["BUG: something at 0xffffffff81000000 of 17 in 0123456789abcdef"],
         "BUG: something at ADDR of NUM in ADDR"),
        ([], ""),
    ],
)  # fmt: skip
def test_title(messages: list[str], expected: str) -> None:
    assert title.title(messages) == expected
