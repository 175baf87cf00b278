# SPDX-License-Identifier: GPL-2.0-only
"""What the console reader finds on the golden consoles (data/console/)."""

from __future__ import annotations

from kpatch.run.console import Place

A, B = "test_a", "test_b"
CRASH = "test_crash.py::test_"
END = "---[ end trace"
BOOT, DURING, AFTER = Place.BOOT, Place.DURING, Place.AFTER

# name: for each fault its kind, test, place, headline, and the last line of its excerpt
EXPECTED: dict[str, list[tuple[str, str | None, Place, str, str]]] = {
    "6.1-gpf-kasan": [
        ("oops", A, DURING, "general protection fault, probably", "---[ end trace"),
    ],
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
    "7.3-kmemleak": [
        (
            "kmemleak",
            "test_a",
            AFTER,
            "kmemleak: unreferenced object",
            "kmemleak:     vfio_pci_core_ioctl",
        ),
        ("kmemleak", "test_a", AFTER, "kmemleak: unreferenced object", "kmemleak: 3 new"),
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
    "real-7.3-group-without-memory": [
        (
            "warning",
            "test_failslab.py::test_bind[eventq]",
            DURING,
            "WARNING: drivers/vfio/group.c:510 at vfio_group_release",
            "---[ end trace",
        ),
    ],
    "real-7.3-table-leak": [
        (
            "kmemleak",
            "test_table.py::test_unloaded[netlink]",
            AFTER,
            "kmemleak: unreferenced object",
            "kmemleak: 1 new",
        ),
    ],
    "real-7.3-freed-companion": [
        (
            "lockdep",
            "test_failslab.py::test_bind_to_a_new_companion[netlink]",
            DURING,
            "WARNING: held lock freed!",
            " </TASK>",
        ),
    ],
    "real-7.3-unloaded-table": [
        (
            "warning",
            "test_table.py::test_unloaded[eventq]",
            DURING,
            "WARNING: fs/kernfs/dir.c:1785 at kernfs_remove_by_name_ns",
            "---[ end trace",
        ),
    ],
    "real-6.1-gpf": [
        ("oops", f"{CRASH}mod_gpf", DURING, "general protection fault, probably", END)
    ],
    "real-6.1-interleaved": [
        (
            "warning",
            f"{CRASH}mod_two",
            DURING,
            "WARNING: CPU: 1 PID: 33 at lk.c:23 warner",
            " <TASK>",
        ),
        ("warning", f"{CRASH}mod_two", DURING, "WARNING: CPU: 0 PID: 32 at lk.c:23 warner", END),
    ],
    "real-6.1-list": [("list", f"{CRASH}CORRUPT_LIST_ADD", DURING, "list_add corruption. ", END)],
    "real-6.1-null-panic": [
        ("null", f"{CRASH}mod_null", DURING, "BUG: kernel NULL pointer dereference", END),
        ("panic", f"{CRASH}mod_null", DURING, "Kernel panic - not syncing: Fatal", "Kernel Offset"),
    ],
    "real-6.1-rcu-stall": [
        ("rcu-stall", f"{CRASH}SOFTLOCKUP", DURING, "rcu: INFO: rcu_sched self-det", " </TASK>"),
        ("rcu-stall", f"{CRASH}SOFTLOCKUP", DURING, "rcu: INFO: rcu_sched self-det", " </TASK>"),
    ],
    "real-6.1-ubsan": [
        ("ubsan", f"{CRASH}ARRAY_BOUNDS", DURING, "UBSAN: array-index-out-of-bounds in ", "====="),
    ],
    "real-6.1-usercopy": [
        (
            "usercopy",
            f"{CRASH}USERCOPY_SLAB_SIZE_TO",
            DURING,
            "usercopy: Kernel memory exposure",
            END,
        ),
    ],
    "real-6.1-warn": [
        (
            "warning",
            f"{CRASH}WARNING_MESSAGE",
            DURING,
            "WARNING: CPU: 1 PID: 31 at drivers/misc/lkdtm/bugs.c:",
            END,
        ),
    ],
    "real-7.3-atomic": [
        (
            "atomic",
            f"{CRASH}mod_sleep",
            DURING,
            "BUG: scheduling while atomic: init/42",
            " </TASK>",
        ),
        ("warning", f"{CRASH}mod_sleep", DURING, "WARNING: kernel/sched/core.c:6038 at", END),
        (
            "atomic",
            f"{CRASH}mod_atomic",
            DURING,
            "BUG: scheduling while atomic: init/44",
            " </TASK>",
        ),
    ],
    "real-7.3-bug": [
        ("bug", f"{CRASH}BUG", DURING, "kernel BUG at drivers/misc/lkdtm/bugs.c:132!", END),
    ],
    "real-7.3-divide": [("oops", f"{CRASH}mod_div", DURING, "Oops: divide error: 0000 [#1]", END)],
    "real-7.3-dropped": [
        ("dropped", f"{CRASH}mod_emerg", DURING, "** 357 printk messages dropped **", "** 357"),
        ("dropped", f"{CRASH}mod_emerg", DURING, "** 1080 printk messages dropped **", "** 1080"),
        ("warning", f"{CRASH}mod_emerg", DURING, "WARNING: lk.c:53 at wr+0x6a3/0xec0", END),
    ],
    "real-7.3-dumps": [],
    "real-7.3-gpf": [
        ("oops", f"{CRASH}mod_gpf", DURING, "Oops: general protection fault, probably", END),
    ],
    "real-7.3-hard-lockup": [
        ("hard-lockup", f"{CRASH}HARDLOCKUP", DURING, "watchdog: CPU1: Watchdog detected hard", ""),
        ("hard-lockup", f"{CRASH}HARDLOCKUP", DURING, "watchdog: CPU1: Watchdog detected hard", ""),
    ],
    "real-7.3-hung-task": [
        ("hung-task", f"{CRASH}HUNG_TASK", DURING, "INFO: task init:41 blocked", " </TASK>"),
        ("hung-task", f"{CRASH}HUNG_TASK", DURING, "INFO: task init:41 blocked", " </TASK>"),
        ("disabled-detector", f"{CRASH}HUNG_TASK", DURING, "Future hung task reports", "Future"),
    ],
    "real-7.3-interleaved": [
        (
            "warning",
            f"{CRASH}mod_two",
            DURING,
            "WARNING: lk.c:23 at warner+0xa/0x20 [lk], CPU#0",
            END,
        ),
        (
            "warning",
            f"{CRASH}mod_two",
            DURING,
            "WARNING: lk.c:23 at warner+0xa/0x20 [lk], CPU#1",
            END,
        ),
    ],
    "real-7.3-kasan": [
        ("kasan", f"{CRASH}READ_AFTER_FREE", DURING, "BUG: KASAN: slab-use-after-free in", "===="),
    ],
    "real-7.3-kasan-double-free": [
        ("kasan", f"{CRASH}SLAB_FREE_DOUBLE", DURING, "BUG: KASAN: double-free in", "===="),
    ],
    "real-7.3-kfence": [
        ("kfence", f"{CRASH}KFENCE_READ_AFTER_FREE", DURING, "BUG: KFENCE: use-after-free", "===="),
    ],
    "real-7.3-kobject": [
        (
            "kobject",
            f"{CRASH}mod_kobj",
            DURING,
            "kobject: '(null)' ((____ptrval____)): is not",
            END,
        ),
        ("refcount", f"{CRASH}mod_kobj", DURING, "refcount_t: underflow; use-after-free.", END),
        ("kobject", f"{CRASH}mod_dup", DURING, "sysfs: cannot create duplicate", " </TASK>"),
    ],
    "real-7.3-list": [("list", f"{CRASH}CORRUPT_LIST_ADD", DURING, "list_add corruption. ", END)],
    "real-7.3-lockdep": [
        ("lockdep", f"{CRASH}mod_abba", DURING, "WARNING: possible circular locking", " </TASK>"),
    ],
    "real-7.3-lockdep-held": [
        ("lockdep", f"{CRASH}mod_held", DURING, "WARNING: lock held when returning", " #0: "),
    ],
    "real-7.3-lockdep-off": [
        ("disabled-detector", f"{CRASH}mod_depth", DURING, "BUG: MAX_LOCK_DEPTH too", " </TASK>"),
    ],
    "real-7.3-lockdep-recursive": [
        ("lockdep", f"{CRASH}mod_recursive", DURING, "WARNING: possible recursive", " </TASK>"),
    ],
    "real-7.3-lockdep-unlock": [
        ("lockdep", f"{CRASH}mod_unlock", DURING, "WARNING: bad unlock balance", " </TASK>"),
    ],
    "real-7.3-lockdep-wait-context": [
        ("warning", f"{CRASH}mod_irqlock", DURING, "WARNING: kernel/smp.c:", END),
        ("lockdep", f"{CRASH}mod_irqlock", DURING, "[ BUG: Invalid wait context ]", " </TASK>"),
    ],
    "real-7.3-null": [
        ("null", f"{CRASH}ACCESS_NULL", DURING, "BUG: kernel NULL pointer dereference", END),
    ],
    "real-7.3-odebug": [("odebug", f"{CRASH}mod_odebug", DURING, "ODEBUG: free active", END)],
    "real-7.3-oom": [
        (
            "oom",
            f"{CRASH}mod_oom",
            DURING,
            "Out of memory: Killed process 41 (init)",
            "Out of memory",
        ),
    ],
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
    "real-7.3-rcu": [
        ("rcu", f"{CRASH}mod_rcu", DURING, "WARNING: suspicious RCU usage", " </TASK>"),
    ],
    "real-7.3-refcount": [
        ("refcount", f"{CRASH}REFCOUNT_DEC_ZERO", DURING, "refcount_t: decrement hit 0; ", END),
    ],
    "real-7.3-sleep": [
        ("sleep", f"{CRASH}SPINLOCKUP", DURING, "BUG: sleeping function called from", " </TASK>"),
        ("atomic", f"{CRASH}SPINLOCKUP", DURING, "BUG: scheduling while atomic: init/", " </TASK>"),
    ],
    "real-7.3-stack-guard": [
        ("stack-guard", f"{CRASH}EXHAUST_STACK", DURING, "BUG: TASK stack guard page was hit", END),
        (
            "panic",
            f"{CRASH}EXHAUST_STACK",
            DURING,
            "Kernel panic - not syncing: Fatal",
            "Kernel Off",
        ),
    ],
    "real-7.3-ubsan": [
        ("ubsan", f"{CRASH}ARRAY_BOUNDS", DURING, "UBSAN: array-index-out-of-bounds in ", END),
    ],
    "real-7.3-usercopy": [
        (
            "usercopy",
            f"{CRASH}USERCOPY_SLAB_SIZE_TO",
            DURING,
            "usercopy: Kernel memory exposure",
            END,
        ),
    ],
    "real-7.3-workqueue": [
        ("bug", f"{CRASH}mod_wqleak", DURING, "BUG: workqueue leaked atomic, lock", " </TASK>"),
    ],
    "real-7.3-warn": [
        (
            "warning",
            f"{CRASH}WARNING_MESSAGE",
            DURING,
            "WARNING: drivers/misc/lkdtm/bugs.c:169",
            END,
        ),
    ],
    "unpack": [("halted", None, BOOT, "-- System halted", " -- System halted")],
}
