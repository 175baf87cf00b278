# SPDX-License-Identifier: GPL-2.0-only
"""Kernel reports that the harness itself causes, also on unpatched kernels.

Such a report does not count against a series: it is shown and recorded with its cause, but the
outcome is not "crash". The patterns of a row have to identify one place in the kernel so exactly
that they match no report about the code of a series.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A known report: its kind (kpatch/run/console.py), and its cause in one line (``why``).

    All of the ``patterns`` have to match in the text of a report.
    """

    kind: str
    patterns: tuple[re.Pattern[str], ...]
    why: str


def _frame(function: str) -> re.Pattern[str]:
    """Return a pattern for a line of a stack, with time stamp, that is of this ``function``."""
    return re.compile(rf"^\[ *[\d.]+\](?:\[.*\])? +{function}\+", re.MULTILINE)


KNOWN: tuple[Known, ...] = (
    # acpi_aml_kern_readable() and acpi_aml_kern_writable() in drivers/acpi/acpi_dbg.c take a mutex,
    # and wait_event() calls them as its condition. CONFIG_DEBUG_ATOMIC_SLEEP reports that once
    # after a boot.
    Known(
        "warning",
        (
            re.compile(r"do not call blocking ops when !TASK_RUNNING"),
            re.compile(r"Comm: aml "),
            _frame(r"acpi_aml_kern_(?:read|writ)able"),
        ),
        "the kernel's ACPI debugger takes a mutex in the condition of a wait_event()",
    ),
    # ktests/late_table.py unloads a table of the firmware, and with it the companion of a PCI
    # device. When the device is removed later, acpi_unbind_one() in drivers/acpi/glue.c removes a
    # link in the folder of the companion, which sysfs does not have any more.
    Known(
        "warning",
        (
            re.compile(r"kernfs: can not remove 'physical_node', no directory"),
            _frame(r"acpi_unbind_one"),
        ),
        "the kernel removes a PCI device whose companion was unloaded",
    ),
    # The same function drops its reference to the companion while it holds the companion's lock. If
    # that is the last reference, because the table was unloaded, it unlocks freed memory.
    Known(
        "lockdep",
        (
            re.compile(r"WARNING: held lock freed!"),
            re.compile(r"\(&device->physical_node_lock\)"),
            _frame(r"acpi_unbind_one"),
        ),
        "the kernel frees a companion that was unloaded under the companion's lock",
    ),
    # acpi_table_make_item() and acpi_table_aml_write() in drivers/acpi/acpi_configfs.c allocate
    # what no function frees: the type of the item has no release().
    Known(
        "kmemleak",
        (
            re.compile(r"kmemleak: unreferenced object"),
            _frame(r"kmemleak: +acpi_table_(?:make_item|aml_write)"),
        ),
        "the kernel does not free an entry of /config/acpi/table that is removed",
    ),
    # ktests/test_failslab.py lets allocations fail while a device is bound. If vfio_create_group()
    # in drivers/vfio/group.c (7.3) has no memory for the name or the files of a group, it releases
    # the group with the reference to its IOMMU group, and vfio_group_release() warns of that.
    Known(
        "warning",
        (
            re.compile(r"WARNING: .*\bdrivers/vfio/group\.c:\d+ at vfio_group_release\+"),
            _frame(r"vfio_create_group"),
        ),
        "the kernel releases a VFIO group that it has no memory for, and warns of it",
    ),
)


def why(kind: str, excerpt: str) -> str:
    """Return the cause of a report of ``kind`` with the text ``excerpt``; "" if it is not known."""
    for known in KNOWN:
        if known.kind == kind and all(pattern.search(excerpt) for pattern in known.patterns):
            return known.why
    return ""
