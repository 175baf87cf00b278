# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A VFIO PCI device: its interrupt indices and its ACPI notifications."""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from . import capabilities, doorbell, mirror, opening, pci, streams
from .closing import Closing
from .errors import ClosedError, UapiError
from .eventq import DEPTH, EventQueue
from .ioctl import Structure
from .notifications import (
    AckNotifications,
    DoorbellNotifications,
    Notifications,
    QueueNotifications,
    Stream,
)
from .opening import open_methods

INTX: int = mirror.VFIO_PCI_INTX_IRQ_INDEX
MSI: int = mirror.VFIO_PCI_MSI_IRQ_INDEX
MSIX: int = mirror.VFIO_PCI_MSIX_IRQ_INDEX
ERR: int = mirror.VFIO_PCI_ERR_IRQ_INDEX
REQ: int = mirror.VFIO_PCI_REQ_IRQ_INDEX
ACPI: int = mirror.VFIO_PCI_ACPI_IRQ_INDEX

DATA_NONE: int = mirror.VFIO_IRQ_SET_DATA_NONE
DATA_BOOL: int = mirror.VFIO_IRQ_SET_DATA_BOOL
DATA_EVENTFD: int = mirror.VFIO_IRQ_SET_DATA_EVENTFD
MASK: int = mirror.VFIO_IRQ_SET_ACTION_MASK
UNMASK: int = mirror.VFIO_IRQ_SET_ACTION_UNMASK
TRIGGER: int = mirror.VFIO_IRQ_SET_ACTION_TRIGGER
GET: int = mirror.VFIO_DEVICE_FEATURE_GET
SET: int = mirror.VFIO_DEVICE_FEATURE_SET
PROBE: int = mirror.VFIO_DEVICE_FEATURE_PROBE
ACPI_NOTIFY: int = mirror.VFIO_DEVICE_FEATURE_ACPI_NOTIFY
ACPI_PENDING: int = mirror.VFIO_DEVICE_FEATURE_ACPI_PENDING
NOTIFY_STRUCTURE = "vfio_device_feature_acpi_notify"

__all__ = [
    "ACPI",
    "ERR",
    "INTX",
    "MSI",
    "MSIX",
    "REQ",
    "AckNotifications",
    "Device",
    "DeviceInfo",
    "DoorbellNotifications",
    "HasFileno",
    "IrqInfo",
    "Notifications",
    "QueueNotifications",
    "Stream",
    "open_methods",
]


class HasFileno(Protocol):
    """An object with a file descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


@dataclass(frozen=True)
class DeviceInfo:
    """The answer of VFIO_DEVICE_GET_INFO, with the fields of struct vfio_device_info.

    ``num_irqs`` is the highest interrupt index plus one.
    """

    flags: int
    num_regions: int
    num_irqs: int
    cap_offset: int


@dataclass(frozen=True)
class IrqInfo:
    """The answer of VFIO_DEVICE_GET_IRQ_INFO, with the fields of struct vfio_irq_info.

    ``count`` is the number of interrupts of the index; if it is 0, the device lacks the index.
    """

    index: int
    flags: int
    count: int


class Device(Closing):
    """An open VFIO device, closed at the end of the ``with`` block.

    ``bdf`` is its name in sysfs, ``open_method`` "cdev" or "group"; after `from_fd` they may be "".
    ``release`` is called after the descriptor ``fd`` was closed.

    Every method raises UapiError if its ioctl fails, and OverflowError if a number does not fit
    into its field. ``argsz`` of some methods is the value of the field argsz; the default is the
    size of the structure and its data. Tests of kernels pass other sizes.
    """

    def __init__(
        self,
        fd: int,
        bdf: str = "",
        open_method: str = "",
        release: Callable[[], None] | None = None,
    ) -> None:
        self._fd = fd
        self._release = release
        self.bdf = bdf
        self.open_method = open_method

    @classmethod
    def open(cls, bdf: str, open_method: str | None = None) -> Self:
        """Open the device with the PCI address ``bdf`` and return it.

        ``open_method`` is "cdev" or "group"; None takes "cdev" if the kernel has it. Raises
        OpenError, which gives cause and remedy, UapiError if an ioctl fails, and ValueError if
        ``open_method`` is another word.
        """
        bdf = pci.canonical(bdf)
        opened = opening.open_device(bdf, open_method)
        return cls(opened.fd, bdf, opened.open_method, opened.release)

    @classmethod
    def from_fd(cls, fd: int, bdf: str = "") -> Self:
        """Return a `Device` for a descriptor that was opened elsewhere. `close` closes it."""
        return cls(fd, bdf)

    def __repr__(self) -> str:
        return f"Device({self.bdf!r}, {'closed' if self._fd < 0 else f'fd {self._fd}'})"

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._fd < 0

    def fileno(self) -> int:
        """Return the descriptor. Raises ValueError after `close`."""
        if self._fd < 0:
            raise ClosedError("the device is closed")
        return self._fd

    def close(self) -> None:
        """Close the descriptor. A second call does nothing.

        If this was the last open device of its IOMMU group, this also closes the I/O address space
        that `open` made.
        """
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            if self._release is not None:
                self._release()

    # ---- information ----

    def info(self, *, argsz: int | None = None) -> DeviceInfo:
        """Call VFIO_DEVICE_GET_INFO and return its answer."""
        request = Structure("vfio_device_info", argsz=argsz)
        request.call(self._fd, "VFIO_DEVICE_GET_INFO")
        view = request.view
        return DeviceInfo(view.flags, view.num_regions, view.num_irqs, view.cap_offset)

    def acpi_path(self) -> str | None:
        r"""Return the path of the device's ACPI companion in the namespace of the host's firmware.

        It is like ``\_SB_.PCI0.S80_``. None if the device has no companion, or if the kernel does
        not tell the path: it has no VFIO_DEVICE_INFO_CAP_ACPI_PATH, or the host's administrator has
        not set the parameter acpi_path of vfio-pci-core.
        """
        capability = self.capabilities().get(mirror.VFIO_DEVICE_INFO_CAP_ACPI_PATH)
        if capability is None:
            return None
        begin = mirror.ffi.offsetof("struct vfio_device_info_cap_acpi_path", "path")
        (size,) = struct.unpack_from("=I", capability, mirror.sizeof("vfio_info_cap_header"))
        return capability[begin : begin + size].partition(b"\0")[0].decode("ascii", "replace")

    def capabilities(self) -> dict[int, bytes]:
        """Return the capabilities of VFIO_DEVICE_GET_INFO by their numbers.

        Each value begins with struct vfio_info_cap_header. It may be longer than the capability.
        """
        request = Structure("vfio_device_info")
        request.call(self._fd, "VFIO_DEVICE_GET_INFO")
        missing = request.view.argsz - request.size
        if missing > 0:
            request = Structure("vfio_device_info", tail=bytes(missing))
            request.call(self._fd, "VFIO_DEVICE_GET_INFO")
        if not request.view.flags & mirror.VFIO_DEVICE_FLAGS_CAPS:
            return {}
        return capabilities.chain(bytes(request.memory), request.view.cap_offset)

    def irq_info(self, index: int, *, argsz: int | None = None) -> IrqInfo:
        """Call VFIO_DEVICE_GET_IRQ_INFO for the interrupt index ``index`` and return its answer."""
        request = Structure("vfio_irq_info", argsz=argsz)
        request.view.index = index
        request.call(self._fd, "VFIO_DEVICE_GET_IRQ_INFO", {"index": index}, self._known)
        return IrqInfo(request.view.index, request.view.flags, request.view.count)

    # ---- interrupts ----

    def set_irqs(
        self,
        index: int,
        flags: int,
        *,
        start: int = 0,
        count: int = 0,
        data: bytes = b"",
        argsz: int | None = None,
    ) -> None:
        """Call VFIO_DEVICE_SET_IRQS. The arguments are the fields of struct vfio_irq_set."""
        facts = {"index": index, "flags": flags, "start": start, "count": count}
        request = Structure("vfio_irq_set", argsz=argsz, tail=data)
        for name, value in facts.items():
            setattr(request.view, name, value)
        request.call(
            self._fd,
            "VFIO_DEVICE_SET_IRQS",
            facts | {"data": data},
            lambda: self._known() | self._known_of(index),
        )

    def arm(self, fd: int | HasFileno, index: int = ACPI) -> None:
        """Make the interrupt index signal the eventfd ``fd``, instead of the one set before."""
        self._set_eventfd(index, TRIGGER, fd)

    def disarm(self, index: int = ACPI) -> None:
        """Remove the index's eventfd by setting the descriptor -1. Succeeds also if none is set."""
        self.arm(-1, index)

    def teardown(self, index: int = ACPI) -> None:
        """Remove the index's eventfd (DATA_NONE, count 0). UapiError (EINVAL) if none is set."""
        self.set_irqs(index, DATA_NONE | TRIGGER)

    def loopback(self, index: int = ACPI) -> None:
        """Make the kernel signal the index's eventfd as for an interrupt (DATA_NONE, count 1).

        On the ACPI index it queues a notification with the flag LOOPBACK and the value 0. Raises
        UapiError (EINVAL) if no eventfd is set.
        """
        self.set_irqs(index, DATA_NONE | TRIGGER, count=1)

    def loopback_bool(self, value: int, index: int = ACPI) -> None:
        """Do the same as `loopback` if ``value`` (8 bits) is not 0, by DATA_BOOL.

        Does nothing if no eventfd is set.
        """
        self.set_irqs(index, DATA_BOOL | TRIGGER, count=1, data=value.to_bytes(1, sys.byteorder))

    def mask(self, index: int = ACPI) -> None:
        """Mask the index: it signals nothing until `unmask`. UapiError (EINVAL) if not armed."""
        self.set_irqs(index, DATA_NONE | MASK, count=1)

    def unmask(self, index: int = ACPI) -> None:
        """Unmask the index, which acknowledges its last signal if it is automasked.

        As any ioctl of the device, this resumes a suspended device. UapiError (EINVAL) if no
        eventfd is set.
        """
        self.set_irqs(index, DATA_NONE | UNMASK, count=1)

    def unmask_by(self, fd: int | HasFileno, index: int = ACPI) -> None:
        """Make each write to the eventfd ``fd`` unmask the index; -1: no more.

        It ends when ``fd`` is closed, and when the index is disarmed. UapiError (EBUSY) if another
        eventfd is set for that.
        """
        self._set_eventfd(index, UNMASK, fd)

    def _set_eventfd(self, index: int, action: int, fd: int | HasFileno) -> None:
        number = fd if isinstance(fd, int) else fd.fileno()
        data = number.to_bytes(4, sys.byteorder, signed=True)
        self.set_irqs(index, DATA_EVENTFD | action, count=1, data=data)

    def automasked(self, index: int = ACPI) -> bool:
        """Return whether each signal masks the index. False if the kernel or device lacks it."""
        known = index < self.info().num_irqs
        return known and bool(self.irq_info(index).flags & mirror.VFIO_IRQ_INFO_AUTOMASKED)

    def interrupts(self, index: int = ACPI) -> int | None:
        """Return the number of interrupts of the index, None if the kernel lacks the index."""
        return self.irq_info(index).count if index < self.info().num_irqs else None

    # ---- notifications ----

    def notifications(self, mechanism: str | None = None) -> Stream:
        """Return a stream of the ACPI notifications of the device.

        ``mechanism`` is a name in `uapi.streams.MECHANISMS`; None takes the first one there that
        the kernel has. Raises the errors of `uapi.streams.open_stream`.
        """
        return streams.open_stream(self, mechanism)

    def fetch(self) -> doorbell.Pending | None:
        """Fetch the oldest notification that was not fetched (VFIO_DEVICE_FEATURE_ACPI_PENDING).

        Returns None if there is none. As any ioctl of the device, this resumes a suspended device.
        UapiError: ENODEV if the device has no ACPI companion, ENOTTY if the kernel does not have
        the feature.
        """
        try:
            return doorbell.decode(self.feature(GET | ACPI_PENDING, bytes(doorbell.SIZE)))
        except UapiError as error:
            if error.errno == errno.ENOMSG:
                return None
            raise

    def notify_queue(self, depth: int = DEPTH, *, nonblocking: bool = True) -> EventQueue:
        """Return a new queue of the device's notifications (VFIO_DEVICE_FEATURE_ACPI_NOTIFY).

        The queue keeps ``depth`` unread notifications; the kernel rounds the number up to a power
        of two. UapiError: ENODEV if the device has no ACPI companion, EEXIST while a queue that was
        returned since the device was opened is open, EBUSY while another device with the same
        companion has an open queue, EINVAL if ``depth`` is not from 1 to `uapi.eventq.DEPTH_MAX`,
        ENOTTY if the kernel does not have the feature.
        """
        open_flags = os.O_CLOEXEC | (os.O_NONBLOCK if nonblocking else 0)
        return EventQueue(self._notify_feature(GET, open_flags=open_flags, depth=depth))

    def notify_loopback(self, value: int) -> None:
        """Put an event with ``value`` and the flag LOOPBACK into the device's queue.

        Raises UapiError: ENOENT if the device has no open queue.
        """
        self._notify_feature(SET, value=value)

    def _notify_feature(self, operation: int, **fields: int) -> int:
        request = Structure("vfio_device_feature", tail=bytes(mirror.sizeof(NOTIFY_STRUCTURE)))
        request.view.flags = operation | ACPI_NOTIFY
        view = mirror.ffi.cast(f"struct {NOTIFY_STRUCTURE} *", request.view.data)
        for name, value in fields.items():
            setattr(view, name, value)
        facts = {"flags": operation | ACPI_NOTIFY, **fields}
        return request.call(self._fd, "VFIO_DEVICE_FEATURE", facts)

    # ---- features ----

    def feature(self, flags: int, data: bytes = b"", *, argsz: int | None = None) -> bytes:
        """Call VFIO_DEVICE_FEATURE. Returns the data after the header, as the kernel left it.

        ``flags`` is the number of the feature, combined with GET, SET or PROBE. ``data`` is copied
        behind the header; for GET it has to be as long as the answer.
        """
        request = Structure("vfio_device_feature", argsz=argsz, tail=data)
        request.view.flags = flags
        request.call(self._fd, "VFIO_DEVICE_FEATURE", {"flags": flags})
        return request.tail

    def has_feature(self, number: int) -> bool:
        """Return whether the device has the feature ``number`` (VFIO_DEVICE_FEATURE_PROBE)."""
        try:
            self.feature(PROBE | number)
        except UapiError as error:
            if error.errno == errno.ENOTTY:
                return False
            raise
        return True

    # ---- facts for `uapi.rules`, which are only needed after a failure ----

    def _known(self) -> dict[str, int]:
        try:
            return {"num_irqs": self.info().num_irqs}
        except UapiError:
            return {}

    def _known_of(self, index: int) -> dict[str, int]:
        try:
            return {"available": self.irq_info(index).count}
        except UapiError:
            return {}
