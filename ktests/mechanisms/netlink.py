# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism "netlink": vfio-pci forwards notifications to the ``acpi_event`` multicast.

A message has the class vfio_pci, the BDF and the value, 8 bits of it. It goes to every listener.
A listener that does not read has a socket's buffer of them; what does not fit is lost, which
ENOBUFS tells, and how many shows in the gap of the sequence numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from ktests.acpi import Firmware
from ktests.burst_result import Tally, burst_result
from ktests.burst_source import NOT_SENT, Intake
from ktests.confined_process import Cell, Source
from ktests.mechanism import Heard, Mechanism, Sign, Site, Vmm
from ktests.pci import Device
from ktests.reader import Reader
from uapi import acpi_event, probe, vfio

# Bytes of a VMM's socket: room for every event of the largest burst.
BUFFER = 64 << 20

# What firmware sends to tell a driver to look at its device; device-specific, above 0x7f.
VALUE = 0x81

# An acpi_event message: sequence number; device_class, bus_id and type of the payload.
EVENT = struct.Struct("=8xI12x20s15sxI4x")


# ---- the sign ----------------------------------------------------------------------------------


def look(site: Site) -> str:
    """Describe the event that a Notify of the device causes in the acpi_event family."""
    firmware = site.firmware()
    with probe.Listener() as listener:
        firmware.notify(site.device.method, VALUE)
        firmware.flush_handlers()
        events = [it.event for it in listener.pending() if isinstance(it, probe.Received)]
    mine = [event for event in events if event.bus_id == site.device.bdf]
    return "; ".join(
        f"acpi_event has class {event.device_class} and type {event.type:#x}" for event in mine
    )


# ---- a VMM -------------------------------------------------------------------------------------


class NetlinkVmm(Vmm):
    """Listens to ``acpi_event``, and picks out what is about its device."""

    def __init__(self, device: Device, firmware: Firmware, family: probe.Family | None) -> None:
        self.device = device
        self._firmware = firmware
        self.listener = probe.Listener(buffer=BUFFER, known=family)

    def fileno(self) -> int:
        """Return the socket."""
        return self.listener.fileno()

    def events(self) -> list[acpi_event.Event]:
        """Everything that came, whoever it is about."""
        self._firmware.flush_handlers()
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


def listening(family: probe.Family) -> Callable[[], Source]:
    """Register at acpi_event, by the numbers of ``family``: a cell's own network may not have it.

    No buffer is asked for, since that would take a capability.
    """
    return lambda: probe.Listener(known=family)


def events(messages: list[bytes]) -> list[Heard]:
    """Decode messages; the source is the BDF, or the class of an event that is not for a VMM."""
    decoded = [acpi_event.decode(message) for message in messages]
    return [
        Heard(
            event.bus_id if event.device_class == acpi_event.VFIO_CLASS else event.device_class,
            event.type,
        )
        for event in decoded
    ]


# ---- bursts ------------------------------------------------------------------------------------


class NetlinkIntake(Intake):
    """The sequence numbers differ, of which the kernel gives one to each event.

    The burst stands between two events whose numbers tell how many there were; the number of the
    missing ones is what the mechanism reports, provided that ENOBUFS has said so.
    """

    BEFORE, VALUE, AFTER = 0xFD, 0x81, 0xFE

    def __init__(self, device: Device, firmware: Firmware, buffer: int | None) -> None:
        self._device = device
        self._firmware = firmware
        self._listener = probe.Listener(buffer=buffer)
        self._sent = 0

    def fileno(self) -> int:
        """See `Intake`."""
        return self._listener.fileno()

    def send(self, count: int) -> None:
        """See `Intake`."""
        self._sent = count
        self._firmware.notify(self._device.method, self.BEFORE)
        self._firmware.flush_handlers()
        self._firmware.notify(self._device.method, self.VALUE, count=count)

    def finish(self, reader: Reader) -> Tally:
        """See `Intake`; AssertionError if nothing comes at all."""
        self._firmware.flush_handlers()
        # A socket that has overrun takes nothing until it was read empty.
        reader.wait_idle()
        self._firmware.notify(self._device.method, self.AFTER)
        self._firmware.flush_handlers()
        reader.wait_idle()
        reader.stop()
        events = [self._event(raw) for raw in reader.taken if raw is not None]
        found = {value: number for number, value in events}
        assert {self.BEFORE, self.AFTER} <= found.keys(), "no event of the device"
        first = found[self.BEFORE] + 1
        marks = [
            number - first if value == self.VALUE else NOT_SENT
            for number, value in events
            if value not in (self.BEFORE, self.AFTER)
        ]
        gap = found[self.AFTER] - first - len(marks)
        return burst_result(self._sent, marks, gap if None in reader.taken else 0)

    def close(self) -> None:
        """Leave the group."""
        self._listener.close()

    def _event(self, raw: bytes) -> tuple[int, int]:
        """Sequence number and value; the latter no value of ours if it is of something else."""
        number, kind, bus, value = EVENT.unpack(raw)
        ours = (acpi_event.VFIO_CLASS.encode(), self._device.bdf.encode())
        return number, value if (kind.rstrip(b"\0"), bus.rstrip(b"\0")) == ours else NOT_SENT


# ---- the record --------------------------------------------------------------------------------


class Netlink(Mechanism):
    """The VMM joins a multicast group, and needs no descriptor of its device for that."""

    sign = Sign(
        look,
        text=f"acpi_event has class {acpi_event.VFIO_CLASS} and type {VALUE:#x}",
        absent=f"a Notify of {VALUE:#x} causes no event of the device",
        rank=1,
    )
    registered_by_binding = True
    refusal = None

    def vmm(
        self,
        device: Device,
        firmware: Firmware,
        family: probe.Family | None = None,
        *,
        via: str | None = None,
    ) -> NetlinkVmm:
        """Join the group."""
        return NetlinkVmm(device, firmware, family)

    def burst_source(
        self, device: Device, firmware: Firmware, *, buffer: int | None = None
    ) -> NetlinkIntake:
        """Open a burst source that tells notifications apart by their sequence numbers."""
        return NetlinkIntake(device, firmware, buffer)

    def listen(self, devices: Sequence[Device]) -> tuple[str, ...]:
        """Name the group alone: it carries the events of all devices."""
        return ("--netlink",)

    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Join the group."""
        return listening(family)

    def received(self, confined_process: Cell, device: vfio.Device, since: int) -> list[bytes]:
        """Return the messages from ``since`` on, once the cell has read all that its socket holds.

        An event is in the socket when its handler has run; the caller waits for the handlers.
        """
        confined_process.drain()
        return confined_process.messages(since)

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode all messages, whichever device they are about."""
        return events(messages)


RECORD = Netlink()
