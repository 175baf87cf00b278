# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Whether a device has ACPI notifications to give, and if not, why: for programs with users."""

from __future__ import annotations

import errno

from uapi.errors import OpenError, UapiError
from uapi.vfio import ACPI, Device

# The errnos that opening a device gives if somebody else has it open: those of BIND_IOMMUFD, and
# of a group.
_IN_USE = (errno.EBUSY, errno.EINVAL)


def open_device(bdf: str, via: str | None = None) -> Device:
    """`Device.open`, with an ioctl that fails as an OpenError that names the device as well."""
    try:
        return Device.open(bdf, via)
    except UapiError as error:
        mend = "close it in the VMM or tool that uses it" if error.errno in _IN_USE else ""
        raise OpenError(error.errno or errno.EIO, bdf, str(error), mend) from error


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
