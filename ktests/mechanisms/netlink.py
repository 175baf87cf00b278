# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism "netlink": vfio-pci sends notifications to the multicast group of ``acpi_event``.

A message has the device class "vfio_pci", the BDF and the low 8 bits of the value. Every listener
receives it. The receive buffer of a listener's socket holds the messages that it has not read. If
the buffer is full, the kernel drops further messages: a read(2) fails with ENOBUFS, and the gap in
the sequence numbers is the number of dropped messages.

The VMM of this record needs no privilege, so it does not join the second group, ``acpi_notify``,
which takes CAP_NET_ADMIN. ktests/test_acpi_notify.py tests that group.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from ktests.acpi import Firmware
from ktests.burst_result import BurstResult, count_burst
from ktests.burst_source import NOT_SENT, BurstSource
from ktests.confined_process import ConfinedProcess, Source
from ktests.mechanism import Heard, Mechanism, Sign, Site, Vmm
from ktests.pci import PciDevice
from ktests.reader import Reader
from uapi import acpi_event, probe, vfio

# The receive buffer of a VMM's socket in bytes: room for every event of the largest burst.
BUFFER = 64 << 20

# The value of the notification that `look` sends. Values above 0x7f are device-specific.
VALUE = 0x81

# An acpi_event message. Unpacks to the sequence number of the netlink header, and to device_class,
# bus_id and type of struct acpi_genl_event.
EVENT = struct.Struct("=8xI12x20s15sxI4x")


# ---- the sign ----------------------------------------------------------------------------------


def look(site: Site) -> str:
    """Notify the device and describe the acpi_event events that this causes, for `Sign.look`.

    Returns a text with the device class and the value of each event that has the device's BDF, ""
    if there is none.
    """
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
    """A VMM that listens to ``acpi_event`` and selects the events of its device.

    ``family`` is that of `Mechanism.vmm`.
    """

    def __init__(self, device: PciDevice, firmware: Firmware, family: probe.Family | None) -> None:
        self.device = device
        self._firmware = firmware
        self.listener = probe.Listener(buffer=BUFFER, known=family)

    def fileno(self) -> int:
        """Return the descriptor of the netlink socket."""
        return self.listener.fileno()

    def events(self) -> list[acpi_event.Event]:
        """Return all acpi_event events, of all devices, since the last call of this or `values`.

        Waits first until all queued Notify handlers have run. AssertionError if the socket's buffer
        overran.
        """
        self._firmware.flush_handlers()
        got = list(self.listener.pending())
        events = [item.event for item in got if isinstance(item, probe.Received)]
        assert len(events) == len(got), "the listener's buffer overran"
        return events

    def values(self) -> list[int]:
        """Return the low 8 bits of the values of the device's events since the last call.

        They are in the order of arrival. AssertionError if the socket's buffer overran.
        """
        mine = (acpi_event.VFIO_CLASS, self.device.bdf)
        return [e.type for e in self.events() if (e.device_class, e.bus_id) == mine]

    def close(self) -> None:
        """Close the socket, which leaves the multicast group."""
        self.listener.close()


def listening(family: probe.Family) -> Callable[[], Source]:
    """Return a function that opens a listener of acpi_event and returns it.

    The listener uses the ids in ``family``: in a network namespace of its own, a confined process
    cannot resolve them, since the family exists only in the initial one. The socket's receive
    buffer keeps its default size, since a larger one takes a capability.
    """
    return lambda: probe.Listener(known=family)


def events(messages: list[bytes]) -> list[Heard]:
    """Decode acpi_event messages of all devices.

    `Heard.source` is the BDF for an event of the class "vfio_pci", and the class for any other
    event.
    """
    decoded = [acpi_event.decode(message) for message in messages]
    return [
        Heard(
            event.bus_id if event.device_class == acpi_event.VFIO_CLASS else event.device_class,
            event.type,
        )
        for event in decoded
    ]


# ---- bursts ------------------------------------------------------------------------------------


class NetlinkBurstSource(BurstSource):
    """A burst source that distinguishes notifications by the sequence numbers of their events.

    ``listener`` is a member of the group to which the device's notifications are sent; it is closed
    with the burst source. One more notification is sent before and one after the burst. Their
    sequence numbers tell how many events the kernel has created in between. Those of them that did
    not arrive count as reported if a read(2) has failed with ENOBUFS, else as not reported.
    """

    BEFORE, VALUE, AFTER = 0xFD, 0x81, 0xFE

    def __init__(self, device: PciDevice, firmware: Firmware, listener: probe.Membership) -> None:
        self._device = device
        self._firmware = firmware
        self._listener = listener
        self._sent = 0

    def fileno(self) -> int:
        """Return the descriptor of the netlink socket, which a `Reader` has to read."""
        return self._listener.fileno()

    def send(self, count: int) -> None:
        """Send the notification that marks the begin, then a burst of ``count`` notifications.

        Returns when the AML has run; the burst's Notify handlers may run later.
        """
        self._sent = count
        self._firmware.notify(self._device.method, self.BEFORE)
        self._firmware.flush_handlers()
        self._firmware.notify(self._device.method, self.VALUE, count=count)

    def finish(self, reader: Reader) -> BurstResult:
        """Wait until ``reader`` has read the whole burst, then stop it. Returns the counts.

        Sends the notification that marks the end of the burst. AssertionError if its event, or the
        event that marks the begin, is lost.
        """
        self._firmware.flush_handlers()
        # After an overrun the socket drops every event until its buffer has been read empty. So the
        # last notification is sent only then.
        reader.wait_idle()
        self._firmware.notify(self._device.method, self.AFTER)
        self._firmware.flush_handlers()
        reader.wait_idle()
        reader.stop()
        events = [self._event(raw) for raw in reader.taken if raw is not None]
        numbers = {value: number for number, value in events}
        assert {self.BEFORE, self.AFTER} <= numbers.keys(), "no event of the device"
        first = numbers[self.BEFORE] + 1
        marks = [
            number - first if value == self.VALUE else NOT_SENT
            for number, value in events
            if value not in (self.BEFORE, self.AFTER)
        ]
        gap = numbers[self.AFTER] - first - len(marks)
        return count_burst(self._sent, marks, gap if None in reader.taken else 0)

    def close(self) -> None:
        """Close the socket, which leaves the multicast group."""
        self._listener.close()

    def _event(self, raw: bytes) -> tuple[int, int]:
        """Return the sequence number and the value of the event in a message.

        The value is `NOT_SENT` if the event is not one of the burst source's device.
        """
        number, kind, bus, value = EVENT.unpack(raw)
        ours = (acpi_event.VFIO_CLASS.encode(), self._device.bdf.encode())
        return number, value if (kind.rstrip(b"\0"), bus.rstrip(b"\0")) == ours else NOT_SENT


# ---- the record --------------------------------------------------------------------------------


class Netlink(Mechanism):
    """The mechanism in which a VMM joins the multicast group of acpi_event.

    Every process in the initial network namespace can join it, also without an open device.
    """

    sign = Sign(
        look,
        text=f"acpi_event has class {acpi_event.VFIO_CLASS} and type {VALUE:#x}",
        absent=f"a Notify of {VALUE:#x} causes no event of the device",
        rank=2,
    )
    registered_by_binding = True
    refusal = None
    kept = "what fits into the socket's buffer"
    shared = True
    of_all_devices = True

    def vmm(
        self,
        device: PciDevice,
        firmware: Firmware,
        family: probe.Family | None = None,
        *,
        open_method: str | None = None,
    ) -> NetlinkVmm:
        """Open a socket, join the multicast group and return the VMM.

        ``open_method`` is not used: the VMM does not open the device.
        """
        return NetlinkVmm(device, firmware, family)

    def burst_source(
        self, device: PciDevice, firmware: Firmware, *, buffer: int | None = None
    ) -> NetlinkBurstSource:
        """Return a burst source that distinguishes notifications by their sequence numbers."""
        return NetlinkBurstSource(device, firmware, probe.Listener(buffer=buffer))

    def listen(self, devices: Sequence[PciDevice]) -> tuple[str, ...]:
        """Return the option ``--netlink`` of ``python -m uapi listen``.

        ``devices`` is not used: the multicast group carries the events of all devices.
        """
        return ("--netlink",)

    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Return a function that opens a listener in the multicast group (`listening`).

        ``fd`` is not used.
        """
        return listening(family)

    def received(
        self, confined_process: ConfinedProcess, device: vfio.Device, since: int
    ) -> list[bytes]:
        """Wait until the confined process has emptied its socket.

        Returns the messages from index ``since`` on. The caller has to wait first until the Notify
        handlers have run: they put the events into the socket. ``device`` is not used.
        """
        confined_process.drain()
        return confined_process.messages(since)

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode the messages, also those of other devices. ``bdf`` is not used."""
        return events(messages)


RECORD = Netlink()
