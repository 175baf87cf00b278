# SPDX-License-Identifier: GPL-2.0-only
"""A VMM in a cell: confined, handed its open device, and hearing what the mechanism lets it hear.

`ktests.vmm` has the same within the test's own process, where nothing is confined.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from ktests.acpi import Firmware
from ktests.cell import Cell, Source
from ktests.confinement import NOBODY, Confinement
from ktests.pci import Device
from uapi import acpi_event, probe, vfio
from uapi.closing import Closing
from uapi.eventfd import EventFd
from uapi.notification import decode


@dataclass(frozen=True)
class Heard:
    """Something that reached a process: of whom, as far as it can tell, and the value."""

    source: str
    value: int


class ConfinedVmm(Closing):
    """A VMM of one device, confined; a context manager.

    The device is opened here, as a privileged broker does, and handed over; the VMM registers by
    itself. CellError if it cannot.
    """

    def __init__(
        self,
        mechanism: str,
        device: Device,
        firmware: Firmware,
        family: probe.Family,
        confined: Confinement,
        *,
        via: str | None = None,
    ) -> None:
        self.device = device
        self._firmware = firmware
        self._mechanism = mechanism
        self._heard = 0
        with ExitStack() as stack:
            # Kept open here for the loopback alone, the sign that there is no more to read.
            self._vfio = stack.enter_context(vfio.Device.open(device.bdf, via))
            fd = self._vfio.fileno()
            register = _registered(fd) if mechanism == "eventfd" else listening(family)
            self.cell = stack.enter_context(Cell(register, confined, handed=(fd,)))
            self._stack = stack.pop_all()

    def heard(self) -> list[Heard]:
        """All that reached the VMM since the last call, whoever it is about."""
        self._firmware.settle()
        return self._words() if self._mechanism == "eventfd" else self._events()

    def _events(self) -> list[Heard]:
        self.cell.drain()
        messages = self.cell.messages(self._heard)
        self._heard += len(messages)
        return events(messages)

    def _words(self) -> list[Heard]:
        """Up to a loopback, which is queued behind everything else; it is left out."""
        self._vfio.loopback()
        messages = self.cell.wait_for(_ends_with_loopback, self._heard)
        self._heard += len(messages)
        got = [decode(int.from_bytes(message, sys.byteorder)) for message in messages]
        assert not sum(item.lost for item in got), "notifications were lost"
        return [Heard(self.device.bdf, item.value) for item in got if not item.loopback]

    def close(self) -> None:
        """End it, and let go of the device."""
        self._stack.close()


def listening(family: probe.Family) -> Callable[[], Source]:
    """Register at acpi_event, by the numbers of ``family``: a cell's own network may not have it.

    No buffer is asked for, since that would take a capability.
    """
    return lambda: probe.Listener(known=family)


def events(messages: list[bytes]) -> list[Heard]:
    """What netlink messages tell; the source is the BDF, or the class where it is not a VMM's."""
    decoded = [acpi_event.decode(message) for message in messages]
    return [
        Heard(
            event.bus_id if event.device_class == acpi_event.VFIO_CLASS else event.device_class,
            event.type,
        )
        for event in decoded
    ]


def privileges(cell: Cell) -> str:
    """In words what the kernel says that the cell's process has, for a test's record."""
    status = cell.status
    capabilities = any(int(status[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Bnd", "Amb"))
    own = ", ".join(sorted(cell.own_namespaces)) or "none"
    return (
        f"uid {status['Uid'].split()[1]}, {'some' if capabilities else 'no'} capability, "
        f"own namespaces: {own}, seccomp mode {status['Seccomp']}"
    )


def expected_privileges(confined: Confinement) -> str:
    """`privileges` of a cell that is confined like this."""
    own = ", ".join(sorted(confined.namespaces)) or "none"
    mode = 0 if confined.calls is None else 2
    return f"uid {NOBODY}, no capability, own namespaces: {own}, seccomp mode {mode}"


def _registered(fd: int) -> Callable[[], Source]:
    """Arm a new eventfd on the device that was handed over."""

    def register() -> Source:
        eventfd = EventFd()
        vfio.Device.from_fd(fd).arm(eventfd)
        return eventfd

    return register


def _ends_with_loopback(messages: list[bytes]) -> bool:
    return bool(messages) and decode(int.from_bytes(messages[-1], sys.byteorder)).loopback
