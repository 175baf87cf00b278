# SPDX-License-Identifier: GPL-2.0-only
"""The mechanisms by which a value can reach user space: data, no logic.

The module ktests/mechanisms/NAME.py has the guest's side of the mechanism NAME, with "_" for "-":
how a test receives values, and the sign by which the guest detects a kernel with this mechanism.
"""

from __future__ import annotations

MECHANISMS: dict[str, str] = {
    "netlink": "vfio-pci forwards notifications to the acpi_event family of generic netlink",
    "netlink-device": "vfio-pci sends notifications to a generic netlink family of the device",
    "eventfd": "an eventfd on VFIO_PCI_ACPI_IRQ_INDEX, whose counter holds the value",
    "eventq": "a queue of events, which VFIO_DEVICE_FEATURE_ACPI_NOTIFY returns",
    "doorbell": "an eventfd on VFIO_PCI_ACPI_IRQ_INDEX that counts; an ioctl fetches the values",
    "eventfd-count": "an eventfd on VFIO_PCI_ACPI_IRQ_INDEX that counts, without values",
    "ack": "an eventfd on VFIO_PCI_ACPI_IRQ_INDEX that holds a value, acknowledged by unmasking",
}
"""Maps the name of each mechanism to a description in one line."""

RECOMMENDED = "eventq"
"""The mechanism that the project recommends; `compare` prints whether it reaches its goals."""
