# SPDX-License-Identifier: GPL-2.0-only
"""Known reports that do not blame a series, and reports that only look like them."""

from __future__ import annotations

import re

import pytest

from kpatch.run import console
from kpatch.tables import known_issues
from tests.test_console import DATA

REPORT = (DATA / "real-7.3-debugger.log").read_text()
PLACE = "acpi_aml_kern_readable+"


def test_the_debuggers_mutex() -> None:
    [fault] = console.read(REPORT)
    assert (fault.kind, fault.test) == ("warning", "test_format.py::test_word[0x80-alpha]")
    assert (
        fault.known == "the kernel's ACPI debugger takes a mutex in the condition of a wait_event()"
    )


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (f"  {PLACE}", "  vfio_pci_acpi_notify+"),
        (f"  {PLACE}", f"  ? {PLACE}"),
        ("Comm: aml ", "Comm: kworker/0:1 "),
        ("do not call blocking ops when !TASK_RUNNING", "refcount_t: underflow; use-after-free."),
        ("WARNING: kernel/sched", "BUG: KASAN: slab-use-after-free in kernel/sched"),
    ],
)
def test_what_looks_like_it(part: str, other: str) -> None:
    assert part in REPORT
    faults = console.read(REPORT.replace(part, other))
    assert faults and not any(fault.known for fault in faults)


@pytest.mark.parametrize(
    ("log", "why", "parts"),
    [
        (
            "real-7.3-unloaded-table.log",
            "the kernel removes a PCI device whose companion was unloaded",
            ("physical_node", "  acpi_unbind_one+"),
        ),
        (
            "real-7.3-table-leak.log",
            "the kernel does not free an entry of /config/acpi/table that is removed",
            ("acpi_table_make_item+",),
        ),
        (
            "real-7.3-freed-companion.log",
            "the kernel frees a companion that was unloaded under the companion's lock",
            ("(&device->physical_node_lock)", "  acpi_unbind_one+"),
        ),
        (
            "real-7.3-group-without-memory.log",
            "the kernel releases a VFIO group that it has no memory for, and warns of it",
            ("drivers/vfio/group.c:", "at vfio_group_release+", "  vfio_create_group+"),
        ),
    ],
)
def test_report_of_the_kernel_itself(log: str, why: str, parts: tuple[str, ...]) -> None:
    report = (DATA / log).read_text()
    assert [fault.known for fault in console.read(report)] == [why]
    for part in parts:
        assert part in report
        faults = console.read(report.replace(part, "x"))
        assert faults and not any(fault.known for fault in faults)


def test_what_comes_with_it_counts() -> None:
    [one, other] = console.read(REPORT + "[  190.000000] BUG: x\n")
    assert one.known and not other.known


@pytest.mark.parametrize("row", known_issues.KNOWN, ids=lambda row: row.why)
def test_every_row_says_why_and_names_a_place(row: known_issues.Known) -> None:
    assert row.why
    assert row.kind in {kind.name for kind in console.KINDS}
    assert any(pattern.pattern.startswith("^") for pattern in row.patterns), "a line of the stack"


def test_with_the_writer_of_each_message() -> None:
    """The form with CONFIG_PRINTK_CALLER."""
    [fault] = console.read(re.sub(r"^(\[ *[\d.]+\])", r"\1[   T63]", REPORT, flags=re.MULTILINE))
    assert fault.known
