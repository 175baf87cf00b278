# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Open a device and check that its eventfd can be tested; errors give cause and remedy."""

from __future__ import annotations

import errno

from .errors import OpenError, UapiError
from .vfio import ACPI, ACPI_PENDING, Device

# The errnos of VFIO_DEVICE_BIND_IOMMUFD if another process has the device's group (EBUSY) or the
# device itself (EINVAL) open.
_IN_USE = (errno.EBUSY, errno.EINVAL)


def open_device(bdf: str, open_method: str | None = None) -> Device:
    """Open a device with `Device.open`, and return it.

    Raises OpenError also if an ioctl fails, where `Device.open` raises UapiError.
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
            "boot one with the eventfd series",
        )


def require_word(device: Device) -> None:
    """Raise OpenError (ENOTSUP) if reading the eventfd of VFIO_PCI_ACPI_IRQ_INDEX is not enough.

    With VFIO_DEVICE_FEATURE_ACPI_PENDING it counts, and its word is no notification. If the index
    is automasked, each notification has to be acknowledged.
    """
    cause = ""
    if device.has_feature(ACPI_PENDING):
        cause = f"the eventfd of this kernel counts, and feature {ACPI_PENDING} fetches the values"
    elif device.automasked():
        cause = "the index of this kernel is automasked, so that each word has to be acknowledged"
    if cause:
        raise OpenError(
            errno.ENOTSUP,
            device.bdf,
            cause,
            "boot a kernel with the eventfd series, which the checks are for",
        )
