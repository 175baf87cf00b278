# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Check that a device supports ACPI notifications; errors give the reason for users."""

from __future__ import annotations

import errno

from uapi.errors import OpenError, UapiError
from uapi.vfio import ACPI, ACPI_NOTIFY, Device

# The errnos of VFIO_DEVICE_BIND_IOMMUFD and VFIO_GROUP_GET_DEVICE_FD if another process has the
# device open.
_IN_USE = (errno.EBUSY, errno.EINVAL)


def open_device(bdf: str, open_method: str | None = None) -> Device:
    """Return the device that `Device.open` opens.

    Raises OpenError with the device's name, also if an ioctl fails.
    """
    try:
        return Device.open(bdf, open_method)
    except UapiError as error:
        hint = "close it in the VMM or tool that uses it" if error.errno in _IN_USE else ""
        raise OpenError(error.errno or errno.EIO, bdf, str(error), hint) from error


def require_index(device: Device) -> None:
    """Raise OpenError (ENOTSUP) if the kernel does not have VFIO_PCI_ACPI_IRQ_INDEX."""
    count = device.info().num_irqs
    if count <= ACPI:
        raise OpenError(
            errno.ENOTSUP,
            device.bdf,
            f"this kernel has {count} interrupt indices and no VFIO_PCI_ACPI_IRQ_INDEX ({ACPI})",
            "boot one with the eventq or the eventfd series",
        )


def require_notifications(device: Device) -> None:
    """Raise OpenError (ENOTSUP) if the kernel lacks feature and index, or the device a companion.

    Of a device without a companion whose kernel has the feature, getting the queue tells.
    """
    if device.has_feature(ACPI_NOTIFY):
        return
    require_index(device)
    if device.irq_info(ACPI).count == 0:
        raise OpenError(
            errno.ENOTSUP,
            device.bdf,
            "firmware does not describe this device (it has no ACPI companion)",
            "a device that it describes has firmware_node in its folder in /sys/bus/pci/devices",
        )
