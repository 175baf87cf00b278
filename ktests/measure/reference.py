# SPDX-License-Identifier: GPL-2.0-only
"""The reference of the measured kernels: a second Notify handler, which only signals an eventfd.

kpatch/compare/reference.patch adds it to the driver of Generic Event Devices, together with the
time of their latest interrupt.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ktests import call
from ktests.call import Call
from uapi.closing import Closing
from uapi.eventfd import EventFd

DEVICE = Path("/dev/acpi_reference")

# struct acpi_reference_request: an eventfd and a path in the ACPI namespace.
REQUEST = struct.Struct("=i60s")
TIME = struct.Struct("=Q")


class InterruptClock(Closing):
    """The time of the latest interrupt of a Generic Event Device.

    FileNotFoundError if the kernel is not a measured one.
    """

    def __init__(self) -> None:
        self._file = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)

    def read(self) -> int:
        """Return the time of the latest interrupt: nanoseconds of CLOCK_MONOTONIC, 0 for none."""
        [time] = TIME.unpack(os.read(self._file, TIME.size))
        return int(time)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Reference(Closing):
    """A second Notify handler on the ACPI device with the path ``path``.

    ACPICA calls the handlers of a device one after the other, the latest first: this one before the
    mechanism's (acpi_ev_notify_dispatch(), drivers/acpi/acpica/evmisc.c). Closing removes it, and
    waits until every queued Notify handler has run.
    """

    def __init__(self, path: str) -> None:
        self._eventfd = EventFd()
        self._file = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        os.write(self._file, REQUEST.pack(self._eventfd.fileno(), path.encode()))

    def receive(self) -> tuple[Call, ...]:
        """Return the system call that receives one notification."""
        return (call.read(self._eventfd.fileno(), 8),)

    def close(self) -> None:
        """Remove the handler, and close the eventfd."""
        os.close(self._file)
        self._eventfd.close()
