# SPDX-License-Identifier: GPL-2.0-only
"""A VMM with one device, reduced to what matters here: it hears of the device's notifications.

One class for each mechanism, with the same face, so that a test of what both promise is written
once.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Protocol, Self

from ktests.acpi import Firmware
from ktests.pci import Device
from uapi import acpi_event, probe, vfio
from uapi.eventfd import EventFd
from uapi.notification import Notification, decode

# A limit, no figure: what is queued comes at once, and emulation may be slow.
READ_SECONDS = 10.0
BUFFER = 64 << 20


class Vmm(Protocol):
    """What the classes below have in common."""

    device: Device

    def values(self) -> list[int]:
        """Every value of the device since the last call; AssertionError if one was lost."""

    def close(self) -> None:
        """End it, as a VMM that exits does."""


class NetlinkVmm:
    """Listens to ``acpi_event``, and picks out what is about its device."""

    def __init__(self, device: Device, firmware: Firmware, family: probe.Family) -> None:
        self.device = device
        self._firmware = firmware
        self.listener = probe.Listener(buffer=BUFFER, known=family)

    def events(self) -> list[acpi_event.Event]:
        """Everything that came, whoever it is about."""
        self._firmware.settle()
        got = list(self.listener.pending())
        events = [item.event for item in got if isinstance(item, probe.Received)]
        assert len(events) == len(got), "the listener's buffer overran"
        return events

    def values(self) -> list[int]:
        """See `Vmm.values`."""
        mine = (acpi_event.VFIO_CLASS, self.device.bdf)
        return [e.type for e in self.events() if (e.device_class, e.bus_id) == mine]

    def close(self) -> None:
        """Leave the group."""
        self.listener.close()


class EventfdVmm:
    """Has its device open, and an eventfd on VFIO_PCI_ACPI_IRQ_INDEX.

    UapiError where the kernel does not have the index.
    """

    def __init__(self, device: Device, firmware: Firmware, via: str | None) -> None:
        self.device = device
        self._firmware = firmware
        with ExitStack() as stack:
            self.vfio = stack.enter_context(vfio.Device.open(device.bdf, via))
            self.eventfd = stack.enter_context(EventFd())
            self.vfio.arm(self.eventfd)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self) -> Notification:
        """Wait for the next notification; AssertionError if there is none."""
        assert self.eventfd.wait(READ_SECONDS), "nothing to read"
        word = self.eventfd.read()
        assert word is not None, "readable, and nothing to read"
        return decode(word)

    def read_all(self) -> list[Notification]:
        """Everything up to now.

        The next notification becomes readable a moment after the previous one was read, so that
        an empty eventfd does not tell that there is no more. A loopback, which is queued behind
        everything else, does; it is left out.
        """
        self._firmware.settle()
        self.vfio.loopback()
        return list(iter(self.read, Notification(value=0, loopback=True, lost=0)))

    def values(self) -> list[int]:
        """See `Vmm.values`."""
        got = self.read_all()
        lost = sum(item.lost for item in got)
        assert not lost, f"{lost} notifications were lost"
        return [item.value for item in got]

    def close(self) -> None:
        """Close the device, and the eventfd."""
        self._stack.close()
