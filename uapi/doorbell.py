# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The notifications that VFIO_DEVICE_FEATURE_ACPI_PENDING fetches, one by one.

The data of its GET has 16 bytes, in the byte order of the host::

    offset  type
     0      u32   flags, 0
     4      u32   value that firmware passed to Notify; ACPICA keeps its lowest 16 bits
     8      u32   sequence: 0 for the first notification since an eventfd was set, and so on
    12      u32   number of notifications lost just before this one

Source: struct vfio_device_feature_acpi_pending in include/uapi/linux/vfio.h of the doorbell series.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from . import mirror
from .errors import FormatError
from .notification import Notification

# The number of notifications that the kernel keeps to be fetched.
KEPT: int = mirror.VFIO_ACPI_PENDING_MAX

PENDING = struct.Struct("=IIII")
SIZE: int = mirror.sizeof("vfio_device_feature_acpi_pending")


@dataclass(frozen=True)
class Pending:
    """A fetched notification, with the fields of struct vfio_device_feature_acpi_pending."""

    flags: int
    value: int
    sequence: int
    lost: int

    def notification(self) -> Notification:
        """Return it as a notification. The mechanism has no loopback with a value."""
        return Notification(self.value, lost=self.lost)


def decode(data: bytes) -> Pending:
    """Decode the data of the feature's GET. Raises FormatError if they are not `SIZE` bytes."""
    if len(data) != SIZE:
        raise FormatError(f"{len(data)} bytes are no notification of {SIZE} bytes")
    return Pending(*PENDING.unpack(data))
