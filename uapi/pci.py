# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""PCI devices in sysfs: their names, drivers and IOMMU groups, and their files in /dev/vfio.

In this module ``bdf`` is a name as `canonical` returns it.

Source: Documentation/ABI/testing/sysfs-bus-pci, sysfs-devices-vfio-dev.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path

from .errors import OpenError

DEVICES = Path("/sys/bus/pci/devices")
VFIO = Path("/dev/vfio")
IOMMUFD = Path("/dev/iommu")

NAME = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[01][0-9a-f]\.[0-7])", re.IGNORECASE)


def canonical(bdf: str) -> str:
    """Return the name in sysfs of the device with the PCI address ``bdf``.

    It is "0000:00:1f.0" for "00:1F.0". Raises OpenError if ``bdf`` is not a PCI address.
    """
    match = NAME.fullmatch(bdf)
    if match is None:
        raise OpenError(
            errno.ENODEV,
            f"device {bdf!r}",
            "not a PCI address (domain:bus:device.function)",
            "lspci -D lists them",
        )
    return f"{match[1] or '0000'}:{match[2]}".lower()


def driver(bdf: str) -> str:
    """Return the name of the driver that the device is bound to, or "" if it is not bound."""
    try:
        return (DEVICES / bdf / "driver").readlink().name
    except OSError:
        return ""


def is_vfio(driver: str) -> bool:
    """Return whether the ``driver`` of this name is vfio-pci or a variant of it.

    The names of all variants in drivers/vfio/pci contain "vfio" ("mlx5_vfio_pci").
    """
    return "vfio" in driver


def group(bdf: str) -> str:
    """Return the number of the device's IOMMU group, or "" if it has none."""
    try:
        return (DEVICES / bdf / "iommu_group").readlink().name
    except OSError:
        return ""


def group_node(bdf: str) -> Path | None:
    """Return /dev/vfio/GROUP of the device; None if that file or /dev/vfio/vfio does not exist.

    The file exists with CONFIG_VFIO_GROUP, while any device of the group is bound to a VFIO driver.
    """
    number = group(bdf)
    node = VFIO / number
    return node if number and node.exists() and (VFIO / "vfio").exists() else None


def cdev_name(bdf: str) -> str:
    """Return the name of the device's own file, "vfioN", or "" if the kernel has none for it.

    It has one since Linux v6.6, with CONFIG_VFIO_DEVICE_CDEV, while the device is bound to a VFIO
    driver.
    """
    return next((entry.name for entry in (DEVICES / bdf / "vfio-dev").glob("vfio*")), "")


def cdev_node(bdf: str) -> Path | None:
    """Return /dev/vfio/devices/vfioN of the device; None if that file or /dev/iommu is missing."""
    name = cdev_name(bdf)
    node = VFIO / "devices" / name
    return node if name and node.exists() and IOMMUFD.exists() else None
