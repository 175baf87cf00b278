# SPDX-License-Identifier: GPL-2.0-only
"""The mechanisms by which a value can reach user space: data, no logic.

How each is recognised in a running kernel stands in ktests/detection.py.
"""

from __future__ import annotations

MECHANISMS: dict[str, str] = {
    "netlink": "vfio-pci forwards notifications to the acpi_event family of generic netlink",
    "eventfd": "an eventfd on VFIO_PCI_ACPI_IRQ_INDEX, whose counter holds the value",
}
"""Name and one line on each."""
