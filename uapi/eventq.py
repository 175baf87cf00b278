# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The queue of ACPI notifications: the file that VFIO_DEVICE_FEATURE_ACPI_NOTIFY returns.

read(2) returns an array of events of 16 bytes each, in the byte order of the host::

    offset  type
     0      u32   flags: bit 0 LOOPBACK, caused by the feature's SET; the others are reserved
     4      u32   sequence: 0 for the first event of a queue, one more for each further one
     8      u32   value that firmware passed to Notify; ACPICA keeps its lowest 16 bits
    12      u32   reserved, 0

If numbers are missing in the events that all readers of the queue have read, as many events were
lost there. Source: struct vfio_acpi_notify_event in include/uapi/linux/vfio.h of the eventq series.
"""

from __future__ import annotations

import os
import select
import struct
from dataclasses import dataclass

from . import mirror
from .errors import FormatError
from .notification import Notification
from .polling import Pollable

LOOPBACK: int = mirror.VFIO_ACPI_NOTIFY_EVENT_LOOPBACK
DEPTH_MAX: int = mirror.VFIO_ACPI_NOTIFY_DEPTH_MAX

# The default depth of a queue. The queue of the eventfd series has the same (fixed) depth.
DEPTH = 256

EVENT = struct.Struct("=IIII")
SIZE: int = mirror.sizeof("vfio_acpi_notify_event")
SEQUENCES = 1 << 32


@dataclass(frozen=True)
class Event:
    """One event of the queue. The fields are those of struct vfio_acpi_notify_event."""

    flags: int
    sequence: int
    value: int
    reserved: int = 0

    @property
    def loopback(self) -> bool:
        """Whether user space caused the event (SET of VFIO_DEVICE_FEATURE_ACPI_NOTIFY)."""
        return bool(self.flags & LOOPBACK)


def decode(data: bytes) -> list[Event]:
    """Decode the bytes that one read(2) returned.

    Raises FormatError if they are not a whole number of events.
    """
    if len(data) % SIZE:
        raise FormatError(f"{len(data)} bytes are no whole number of events of {SIZE} bytes")
    return [Event(*fields) for fields in EVENT.iter_unpack(data)]


class Gaps:
    """Computes how many events were lost, from the sequence numbers of a queue with one reader."""

    def __init__(self) -> None:
        self._expected = 0

    def take(self, event: Event) -> Notification:
        """Return ``event``, the next one that was read from the queue, as a notification.

        ``lost`` of the notification is the number of events lost just before it.
        """
        lost = (event.sequence - self._expected) % SEQUENCES
        self._expected = (event.sequence + 1) % SEQUENCES
        return Notification(event.value, loopback=event.loopback, lost=lost)


class EventQueue(Pollable):
    """An open queue, closed at the end of the ``with`` block. The device may be closed before it.

    ``fd`` is the descriptor that VFIO_DEVICE_FEATURE_ACPI_NOTIFY returned. `wait` returns True if
    there is an event to read, and also after the last descriptor of the device was closed.
    """

    what = "queue"
    wakes = select.POLLIN | select.POLLHUP

    def __init__(self, fd: int) -> None:
        super().__init__(fd)

    def read(self, room: int = 64) -> list[Event] | None:
        """Read up to ``room`` events and return them.

        Returns None if there is none now (EAGAIN), and an empty list if the device was closed and
        all its events were read. A queue without O_NONBLOCK waits instead of returning None.
        """
        try:
            return decode(os.read(self.fileno(), room * SIZE))
        except BlockingIOError:
            return None
