# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A VFIO PCI device: its interrupt indices, and the notifications that ACPI has for it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from uapi import mirror, opening, pci
from uapi.closing import Closing
from uapi.errors import UapiError
from uapi.ioctl import Structure
from uapi.notifications import Notifications
from uapi.opening import ways

INTX: int = mirror.VFIO_PCI_INTX_IRQ_INDEX
MSI: int = mirror.VFIO_PCI_MSI_IRQ_INDEX
MSIX: int = mirror.VFIO_PCI_MSIX_IRQ_INDEX
ERR: int = mirror.VFIO_PCI_ERR_IRQ_INDEX
REQ: int = mirror.VFIO_PCI_REQ_IRQ_INDEX
ACPI: int = mirror.VFIO_PCI_ACPI_IRQ_INDEX

DATA_NONE: int = mirror.VFIO_IRQ_SET_DATA_NONE
DATA_BOOL: int = mirror.VFIO_IRQ_SET_DATA_BOOL
DATA_EVENTFD: int = mirror.VFIO_IRQ_SET_DATA_EVENTFD
TRIGGER: int = mirror.VFIO_IRQ_SET_ACTION_TRIGGER
PROBE: int = mirror.VFIO_DEVICE_FEATURE_PROBE

__all__ = [
    "ACPI",
    "ERR",
    "INTX",
    "MSI",
    "MSIX",
    "REQ",
    "Device",
    "DeviceInfo",
    "HasFileno",
    "IrqInfo",
    "Notifications",
    "ways",
]


class HasFileno(Protocol):
    """Anything with a descriptor."""

    def fileno(self) -> int:
        """The descriptor."""


@dataclass(frozen=True)
class DeviceInfo:
    """What VFIO_DEVICE_GET_INFO says. ``num_irqs`` is the highest interrupt index plus one."""

    flags: int
    num_regions: int
    num_irqs: int
    cap_offset: int


@dataclass(frozen=True)
class IrqInfo:
    """What VFIO_DEVICE_GET_IRQ_INFO says of an index. ``count`` 0: there is no such interrupt."""

    index: int
    flags: int
    count: int


class Device(Closing):
    """An open device, closed at the end of the ``with`` block.

    ``bdf`` is its name in sysfs ("" if it was handed over without), ``via`` the way it was
    opened. Every method raises UapiError if the kernel refuses, OverflowError if a number does
    not fit into its field.
    """

    def __init__(
        self, fd: int, bdf: str = "", via: str = "", release: Callable[[], None] | None = None
    ) -> None:
        self._fd = fd
        self._release = release
        self.bdf = bdf
        self.via = via

    @classmethod
    def open(cls, bdf: str, via: str | None = None) -> Self:
        """Open a device by its PCI address; ``via`` "cdev" or "group", the best there is if None.

        OpenError says why it cannot be opened, and what to do.
        """
        bdf = pci.canonical(bdf)
        opened = opening.open_device(bdf, via)
        return cls(opened.fd, bdf, opened.way, opened.release)

    @classmethod
    def from_fd(cls, fd: int, bdf: str = "") -> Self:
        """A device that somebody else opened and handed over; it is closed like any other."""
        return cls(fd, bdf)

    def __repr__(self) -> str:
        return f"Device({self.bdf!r}, {'closed' if self._fd < 0 else f'fd {self._fd}'})"

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._fd < 0

    def fileno(self) -> int:
        """The descriptor; ValueError if it is closed."""
        if self._fd < 0:
            raise ValueError("the device is closed")
        return self._fd

    def close(self) -> None:
        """Close the descriptor, and with the last device of its group the address space."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            if self._release is not None:
                self._release()

    # ---- what there is ----

    def info(self, *, argsz: int | None = None) -> DeviceInfo:
        """Ask for the number of regions and interrupt indices (VFIO_DEVICE_GET_INFO)."""
        request = Structure("vfio_device_info", argsz=argsz)
        request.call(self._fd, "VFIO_DEVICE_GET_INFO")
        view = request.view
        return DeviceInfo(view.flags, view.num_regions, view.num_irqs, view.cap_offset)

    def irq_info(self, index: int, *, argsz: int | None = None) -> IrqInfo:
        """Ask for an interrupt index (VFIO_DEVICE_GET_IRQ_INFO)."""
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
        """VFIO_DEVICE_SET_IRQS as it is; ``argsz`` None is the header and the data."""
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
        """Have the index signal an eventfd, instead of the one before if there is one."""
        number = fd if isinstance(fd, int) else fd.fileno()
        data = number.to_bytes(4, sys.byteorder, signed=True)
        self.set_irqs(index, DATA_EVENTFD | TRIGGER, count=1, data=data)

    def disarm(self, index: int = ACPI) -> None:
        """Have the index signal nobody (eventfd -1); fine if it did not."""
        self.arm(-1, index)

    def teardown(self, index: int = ACPI) -> None:
        """Have the index signal nobody (DATA_NONE, count 0); EINVAL if it did not."""
        self.set_irqs(index, DATA_NONE | TRIGGER)

    def loopback(self, index: int = ACPI) -> None:
        """Signal the eventfd as the hardware would (DATA_NONE, count 1); EINVAL if none is."""
        self.set_irqs(index, DATA_NONE | TRIGGER, count=1)

    def loopback_bool(self, value: int, index: int = ACPI) -> None:
        """Signal the eventfd, if one is set, if ``value`` (8 bits) is not 0 (DATA_BOOL)."""
        self.set_irqs(index, DATA_BOOL | TRIGGER, count=1, data=value.to_bytes(1, sys.byteorder))

    def notifications(self) -> Notifications:
        """Arm an eventfd of its own for ACPI notifications and read them from it."""
        return Notifications(self)

    # ---- features ----

    def feature(self, flags: int, data: bytes = b"", *, argsz: int | None = None) -> bytes:
        """VFIO_DEVICE_FEATURE as it is; what stands behind the header afterwards.

        ``flags`` is the feature's number with GET, SET or PROBE. To get something, ``data``
        makes the room for it.
        """
        request = Structure("vfio_device_feature", argsz=argsz, tail=data)
        request.view.flags = flags
        request.call(self._fd, "VFIO_DEVICE_FEATURE", {"flags": flags})
        return request.tail

    def has_feature(self, number: int) -> bool:
        """Whether the device knows a feature (VFIO_DEVICE_FEATURE_PROBE)."""
        try:
            self.feature(PROBE | number)
        except UapiError as error:
            if error.errno == errno.ENOTTY:
                return False
            raise
        return True

    # ---- what only matters once something failed ----

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
