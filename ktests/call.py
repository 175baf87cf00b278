# SPDX-License-Identifier: GPL-2.0-only
"""System calls as data, so that they can be timed without Python between them."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from uapi import mirror, vfio
from uapi.eventfd import SIZE, EventFd
from uapi.ioctl import Structure

# Room for the messages that one read(2) returns.
READ_SIZE = 1 << 12

# The ``request`` of a call that is no ioctl(2).
READ, WRITE = 0, 1


@dataclass(frozen=True)
class Call:
    """A call of ioctl(2) with ``request`` and the argument ``memory``, or of read(2) or write(2).

    It is a read(2) of up to len(``memory``) bytes if ``request`` is `READ`, and a write(2) of
    ``memory`` if it is `WRITE`. The kernel may write to ``memory``.
    """

    fd: int
    memory: bytearray
    request: int = READ


def read(fd: int, size: int = READ_SIZE) -> Call:
    """Return the call that reads up to ``size`` bytes from ``fd``."""
    return Call(fd, bytearray(size))


def signal(eventfd: EventFd) -> Call:
    """Return the call that adds 1 to the counter of ``eventfd``."""
    return Call(eventfd.fileno(), bytearray((1).to_bytes(SIZE, sys.byteorder)), WRITE)


def set_irqs(device: vfio.Device, index: int, flags: int, data: bytes = b"") -> Call:
    """Return a VFIO_DEVICE_SET_IRQS for the first interrupt of ``index``; see `Device.set_irqs`."""
    request = Structure("vfio_irq_set", tail=data)
    request.view.index, request.view.flags, request.view.count = index, flags, 1
    return Call(device.fileno(), request.memory, mirror.VFIO_DEVICE_SET_IRQS)


def loopback(device: vfio.Device, index: int) -> Call:
    """Return the VFIO_DEVICE_SET_IRQS that has the kernel signal ``index`` (DATA_BOOL)."""
    return set_irqs(device, index, vfio.DATA_BOOL | vfio.TRIGGER, b"\1")


def feature(device: vfio.Device, flags: int, data: bytes) -> Call:
    """Return a VFIO_DEVICE_FEATURE with ``flags`` (operation and number) and ``data``."""
    request = Structure("vfio_device_feature", tail=data)
    request.view.flags = flags
    return Call(device.fileno(), request.memory, mirror.VFIO_DEVICE_FEATURE)
