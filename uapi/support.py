# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Whether a device has ACPI notifications to give, and if not, why."""

from __future__ import annotations

import errno

from uapi.errors import OpenError
from uapi.vfio import ACPI, Device


def require_index(device: Device) -> None:
    """OpenError (ENOTSUP) if the kernel does not have VFIO_PCI_ACPI_IRQ_INDEX."""
    count = device.info().num_irqs
    if count <= ACPI:
        raise OpenError(
            errno.ENOTSUP,
            device.bdf,
            f"this kernel has {count} interrupt indices and no VFIO_PCI_ACPI_IRQ_INDEX ({ACPI})",
            "boot one with the eventfd series",
        )


def require_companion(device: Device) -> None:
    """OpenError (ENOTSUP) if firmware has no node for the device, so that it never notifies it."""
    require_index(device)
    if device.irq_info(ACPI).count == 0:
        raise OpenError(
            errno.ENOTSUP,
            device.bdf,
            "firmware does not describe this device (it has no ACPI companion)",
            "a device that it describes has firmware_node in its folder in /sys/bus/pci/devices",
        )
