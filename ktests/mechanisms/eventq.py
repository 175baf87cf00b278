# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism "eventq": VFIO_DEVICE_FEATURE_ACPI_NOTIFY returns a queue of events.

A read(2) returns whole events of 16 bytes: flags, sequence number, value and 0, 32 bits each. The
kernel keeps as many events as the VMM has asked for, rounded up to a power of two. If the queue is
full, the oldest event is dropped. When the queue is empty, the sequence numbers that no reader has
read are those of dropped events.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from ktests import call
from ktests.acpi import Firmware
from ktests.burst_result import BurstResult, count_burst
from ktests.burst_source import FIRST, NOT_SENT
from ktests.call import Call
from ktests.confined_process import Source
from ktests.device_mechanism import DeviceBurstSource, DeviceMechanism, DeviceVmm
from ktests.mechanism import Heard, Sign, Site
from ktests.pci import PciDevice
from uapi import probe, vfio
from uapi.errors import UapiError
from uapi.eventq import Event, EventQueue

# The number of the feature, and the number of events that a VMM's queue keeps.
FEATURE = 14
DEPTH = 256

# The size in bytes of an event in the queue: the kernel keeps flags and value.
KEPT_SIZE = 8

# The value of the sign's loopback.
VALUE = 0x81

# A generous limit: an event is readable at once, but emulation may be slow.
READ_SECONDS = 10.0

# An event: flags, sequence number, value, reserved.
EVENT = struct.Struct("=IIII")
LOOPBACK = 1
# struct vfio_device_feature_acpi_notify: flags, open_flags, depth, value, fd, reserved.
SETTING = struct.Struct("=IIIIiI")


# ---- the sign ----------------------------------------------------------------------------------


def look(site: Site) -> str:
    """Describe VFIO_DEVICE_FEATURE_ACPI_NOTIFY (14) of the device, for `Sign.look`.

    Returns a text with the events that are in a new queue after a loopback ("nothing" for none), or
    with the error of getting the queue or of the loopback. Returns "" if the device does not have
    the feature.
    """
    with vfio.Device.open(site.device.bdf) as device:
        if not device.has_feature(FEATURE):
            return ""
        seen = f"feature {FEATURE} is there"
        try:
            with device.notify_queue() as queue:
                device.notify_loopback(VALUE)
                events = queue.read() or []
        except UapiError as error:
            return f"{seen}, and gives no queue: {error}"
        return f"{seen}, and its loopback reads {', '.join(map(described, events)) or 'nothing'}"


def described(event: Event) -> str:
    """Return the event in words: "flags 0x1, sequence 0, value 0x81"."""
    return f"flags {event.flags:#x}, sequence {event.sequence}, value {event.value:#x}"


# ---- a VMM -------------------------------------------------------------------------------------


class EventqVmm(DeviceVmm):
    """A VMM that has got a queue that keeps ``depth`` events from its device.

    The kernel rounds ``depth`` up to a power of two. UapiError: ENOTTY if the kernel lacks the
    feature, ENODEV if the device has no companion.
    """

    def __init__(
        self,
        device: PciDevice,
        firmware: Firmware,
        open_method: str | None,
        *,
        depth: int = DEPTH,
    ) -> None:
        self._depth = depth
        super().__init__(device, firmware, open_method)

    def _register(self, stack: ExitStack) -> None:
        self.queue = stack.enter_context(self.vfio.notify_queue(self._depth))
        # The sequence number that the first event of the next call of `values` has to have.
        self._next = 0

    def fileno(self) -> int:
        """Return the queue's descriptor."""
        return self.queue.fileno()

    def events(self) -> list[Event]:
        """Wait until all queued Notify handlers have run; return all events that can be read."""
        self._firmware.flush_handlers()
        got: list[Event] = []
        while events := self.queue.read():
            got += events
        return got

    def values(self) -> list[int]:
        """Return the values of all events since the last call, in the order of arrival.

        Loopbacks are events too. AssertionError if a sequence number is missing, since an event was
        lost.
        """
        events = self.events()
        expected = range(self._next, self._next + len(events))
        assert [event.sequence for event in events] == list(expected), "events were lost"
        self._next = expected.stop
        return [event.value for event in events]

    def loopback(self) -> Call:
        """Return the feature's SET, which queues an event with the flag LOOPBACK."""
        return call.feature(self.vfio, vfio.SET | FEATURE, SETTING.pack(0, 0, 0, VALUE, 0, 0))

    def pauses(self) -> Sequence[AbstractContextManager[None]]:
        """Return one context manager, which closes the queue, and gets a new one at the end.

        The new queue has the same depth.
        """
        return (self._without(),)

    @contextmanager
    def _without(self) -> Iterator[None]:
        self.queue.close()
        yield
        self._register(self._stack)


# ---- bursts ------------------------------------------------------------------------------------


class EventqBurstSource(DeviceBurstSource[EventqVmm]):
    """A burst source that counts the events of a queue.

    When all Notify handlers have run, all events are in the queue, so that the burst is read when
    the reader finds nothing more.
    """

    def _count(self, taken: Sequence[bytes | None]) -> BurstResult:
        return count_events(self._sent, split(taken))


def split(taken: Sequence[bytes | None]) -> list[Event]:
    """Decode the events that were read from a queue.

    Each item of ``taken`` (`Reader.taken`) is the bytes of one read(2): any number of whole events.
    None is left out.
    """
    return [Event(*fields) for raw in taken if raw for fields in EVENT.iter_unpack(raw)]


def count_events(sent: int, events: Sequence[Event]) -> BurstResult:
    """Return the counts of a burst of ``sent`` notifications from the ``events`` that were read.

    The values of the burst are `FIRST`, `FIRST` + 1 and so on, and its first event is the first of
    the queue. The kernel never drops the newest event, so that the highest sequence number tells
    how many events there were. Those of them that were not read count as reported.
    """
    marks = [event.value - FIRST if event.flags == 0 else NOT_SENT for event in events]
    total = max((event.sequence + 1 for event in events), default=0)
    return count_burst(sent, marks, total - len(events))


# ---- the record --------------------------------------------------------------------------------


class Eventq(DeviceMechanism):
    """The mechanism in which a VMM gets a queue of events from its open device."""

    sign = Sign(
        look,
        text=f"feature {FEATURE} is there, and its loopback reads "
        f"flags {LOOPBACK:#x}, sequence 0, value {VALUE:#x}",
        absent=f"feature {FEATURE} is not there",
        rank=0,
    )
    vmm_type = EventqVmm
    burst_source_type = EventqBurstSource
    refusal = errno.ENODEV
    kept = f"{DEPTH} events"
    queue_size = KEPT_SIZE * DEPTH
    selftest = "vfio_pci_acpi_notify_test"

    def listen(self, devices: Sequence[PciDevice]) -> tuple[str, ...]:
        """Return an option ``--device BDF`` of ``python -m uapi listen`` for each device."""
        return tuple(word for device in devices for word in ("--device", device.bdf))

    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Return a function that gets a queue from the device with the descriptor ``fd``.

        The function returns the queue. ``family`` is not used.
        """

        def register() -> EventQueue:
            return vfio.Device.from_fd(fd).notify_queue(DEPTH)

        return register

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode the events that the VMM of the device ``bdf`` has read, without loopbacks.

        All are notifications of this device. AssertionError if a sequence number is missing between
        two events.
        """
        events = split(messages)
        numbers = [event.sequence for event in events]
        assert not events or numbers == [*range(numbers[0], numbers[0] + len(events))], "lost"
        return [Heard(bdf, event.value) for event in events if not event.flags & LOOPBACK]


RECORD = Eventq()
