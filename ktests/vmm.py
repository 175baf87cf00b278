# SPDX-License-Identifier: GPL-2.0-only
"""A VMM with one device, reduced to what matters here: it hears of the device's notifications.

One class for each mechanism, with the same face, so that a test of what both promise is written
once.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Protocol

from ktests.acpi import Firmware
from ktests.exchange import take, take_all
from ktests.pci import Device
from uapi import acpi_event, probe, vfio
from uapi.closing import Closing
from uapi.eventfd import EventFd
from uapi.notification import Notification

BUFFER = 64 << 20


class Vmm(Protocol):
    """What the classes below have in common."""

    device: Device

    def values(self) -> list[int]:
        """Every value of the device since the last call; AssertionError if one was lost."""

    def close(self) -> None:
        """End it, as a VMM that exits does."""


class NetlinkVmm(Closing):
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


class EventfdVmm(Closing):
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

    def read(self) -> Notification:
        """Wait for the next notification; AssertionError if there is none."""
        return take(self.eventfd)

    def read_all(self) -> list[Notification]:
        """Everything up to now."""
        return take_all(self._firmware, self.vfio, self.eventfd)

    def values(self) -> list[int]:
        """See `Vmm.values`."""
        got = self.read_all()
        lost = sum(item.lost for item in got)
        assert not lost, f"{lost} notifications were lost"
        return [item.value for item in got]

    def close(self) -> None:
        """Close the device, and the eventfd."""
        self._stack.close()
