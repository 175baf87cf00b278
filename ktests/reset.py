# SPDX-License-Identifier: GPL-2.0-only
"""Reset an open VFIO device: VFIO_DEVICE_RESET and VFIO_DEVICE_PCI_HOT_RESET."""

from __future__ import annotations

import fcntl
import struct

from uapi import ioctl, opening, vfio

# The ioctl, and struct vfio_pci_hot_reset: argsz, flags, count; descriptors of groups follow it.
HOT_RESET = 0x3B71
HEAD = struct.Struct("=III")


def reset(device: vfio.Device) -> None:
    """Reset ``device`` by a reset method of its own. UapiError (EINVAL) if it has none."""
    ioctl.call(device.fileno(), "VFIO_DEVICE_RESET")


def hot_reset(device: vfio.Device) -> None:
    """Reset the slot or the bus of ``device``, and with it all devices there.

    OSError (EINVAL, EPERM) if the caller does not have all of them open, or they cannot be reset.
    """
    # The caller shows that it has the devices: by their groups, or, if they were opened as
    # character devices, by having bound them to one iommufd.
    groups = [opening.group_fd(device.bdf)] if device.open_method == opening.GROUP else []
    data = struct.pack(f"={len(groups)}i", *groups)
    head = HEAD.pack(HEAD.size + len(data), 0, len(groups))
    fcntl.ioctl(device.fileno(), HOT_RESET, head + data)
