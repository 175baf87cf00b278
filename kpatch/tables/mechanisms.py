# SPDX-License-Identifier: GPL-2.0-only
"""The mechanisms by which a value can reach user space: data, no logic.

The guest's side of a mechanism, and the sign by which a kernel with it is recognized, are in its
record, ktests/mechanisms/NAME.py.
"""

from __future__ import annotations

MECHANISMS: dict[str, str] = {
    "netlink": "vfio-pci forwards notifications to the acpi_event family of generic netlink",
    "eventfd": "an eventfd on VFIO_PCI_ACPI_IRQ_INDEX, whose counter holds the value",
    "eventq": "a queue of events, which VFIO_DEVICE_FEATURE_ACPI_NOTIFY returns",
}
"""Name of each mechanism, and a description in one line."""
