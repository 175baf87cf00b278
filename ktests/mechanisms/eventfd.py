# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism "eventfd": an eventfd on VFIO_PCI_ACPI_IRQ_INDEX, whose counter is the message.

A read(2) gives a word of 64 bits: the value in bits 0-31, VALID, LOOPBACK, and in bits 48-63 how
many were lost before this one. The kernel keeps `KEPT` notifications for a VMM that does not read.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from ktests.acpi import Firmware
from ktests.burst_result import Tally, burst_result
from ktests.burst_source import FIRST, NOT_SENT, Intake
from ktests.confined_process import Cell, Source
from ktests.mechanism import Heard, Mechanism, Sign, Site, Vmm
from ktests.ordered_notify import one_by_one
from ktests.pci import Device
from ktests.reader import Reader
from uapi import probe, vfio
from uapi.errors import UapiError
from uapi.eventfd import EventFd
from uapi.notification import Notification, decode

# What is kept for a reader that does not read: the readable one, and those that are queued.
QUEUE = 256
KEPT = QUEUE + 1

# A limit, no figure: what is queued comes at once, and emulation may be slow.
READ_SECONDS = 10.0
# A loopback is readable at once; emulation may be slow.
LOOPBACK_SECONDS = 5.0

# Bits 32-47 of a notification (VALID, LOOPBACK, reserved), and the lost ones above them.
VALUE_MASK = 0xFFFFFFFF
FLAGS_SHIFT, FLAGS_MASK, LOST_SHIFT = 32, 0xFFFF, 48
VALID, LOOPBACK = 1, 2
# Where to look for what was read last: each of several threads may be late with one.
LAST = 8


# ---- the sign ----------------------------------------------------------------------------------


def look(site: Site) -> str:
    """Describe VFIO_PCI_ACPI_IRQ_INDEX (5): GET_IRQ_INFO, and the word that a loopback gives."""
    with vfio.Device.open(site.device.bdf) as device, EventFd() as eventfd:
        if device.info().num_irqs <= vfio.ACPI:
            return ""
        info = device.irq_info(vfio.ACPI)
        if info.count == 0:  # not implemented, by include/uapi/linux/vfio.h
            return ""
        seen = f"index {vfio.ACPI} has flags {info.flags:#x} and count {info.count}"
        try:
            device.arm(eventfd)
            device.loopback()
        except UapiError as error:
            return f"{seen}, and refuses an eventfd: {error}"
        if not eventfd.wait(LOOPBACK_SECONDS):
            return f"{seen}, and its loopback gives nothing"
        return f"{seen}, and its loopback reads {eventfd.read():#x}"


# ---- all that an eventfd has to give -----------------------------------------------------------


def overflow(firmware: Firmware, device: Device, count: int) -> None:
    """Notify 0x80 once, 0x81 often, then 0x100 to 0x1ff, these in any order: ``count`` times."""
    one_by_one(firmware, device, [0x80])
    firmware.notify(device.method, 0x81, count=count - KEPT)
    firmware.flush_handlers()
    firmware.notify(device.method, 0x100, step=1, count=QUEUE)
    firmware.flush_handlers()


def take(eventfd: EventFd) -> Notification:
    """Wait for the next notification; AssertionError if there is none."""
    assert eventfd.wait(READ_SECONDS), "nothing to read"
    word = eventfd.read()
    assert word is not None, "readable, and nothing to read"
    return decode(word)


def take_all(firmware: Firmware, device: vfio.Device, eventfd: EventFd) -> list[Notification]:
    """All that the eventfd, which has to be the one that is set, has to give up to now.

    The next notification becomes readable a moment after the previous one was read, so that
    an empty eventfd does not tell that there is no more. A loopback, which is queued behind
    everything else, does; it is left out.
    """
    firmware.flush_handlers()
    device.loopback()
    return list(iter(lambda: take(eventfd), Notification(0, loopback=True)))


def take_full(firmware: Firmware, device: vfio.Device, eventfd: EventFd) -> list[Notification]:
    """The same, of a queue that may be full: the loopback alone would push one out."""
    firmware.flush_handlers()
    first = take(eventfd)
    assert eventfd.wait(READ_SECONDS), "the second one does not come"
    return [first, *take_all(firmware, device, eventfd)]


# ---- a VMM -------------------------------------------------------------------------------------


class EventfdVmm(Vmm):
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

    def fileno(self) -> int:
        """Return the eventfd's descriptor."""
        return self.eventfd.fileno()

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

    def pauses(self) -> Sequence[AbstractContextManager[None]]:
        """Set -1, or DATA_NONE with count 0; then set the eventfd again."""
        return self._without(self.vfio.disarm), self._without(self.vfio.teardown)

    @contextmanager
    def _without(self, end: Callable[[], None]) -> Iterator[None]:
        end()
        yield
        self.vfio.arm(self.eventfd)

    def close(self) -> None:
        """Close the device, and the eventfd."""
        self._stack.close()


# ---- bursts ------------------------------------------------------------------------------------


class EventfdIntake(Intake):
    """The values of a burst differ: they are counted up from `FIRST`."""

    def __init__(self, vmm: EventfdVmm, firmware: Firmware) -> None:
        self._vmm = vmm
        self._firmware = firmware
        self._sent = 0

    def fileno(self) -> int:
        """See `Intake`."""
        return self._vmm.fileno()

    def send(self, count: int) -> None:
        """See `Intake`; 65279 at most, since ACPICA cuts values to 16 bits."""
        self._sent = count
        self._firmware.notify(self._vmm.device.method, FIRST, step=1, count=count)

    def finish(self, reader: Reader) -> Tally:
        """See `Intake`.

        A loopback comes after everything else. If it finds the queue full, one more is lost to
        it, and reported as the others are.
        """
        self._firmware.flush_handlers()
        self._vmm.vfio.loopback()
        reader.wait_until(
            lambda: any(flags(word) & LOOPBACK for word in words(reader.taken[-LAST:]))
        )
        reader.stop()
        return tally_words(self._sent, words(reader.taken))

    def close(self) -> None:
        """End the VMM."""
        self._vmm.close()


def tally_words(sent: int, got: Sequence[int]) -> Tally:
    """Count what was read from eventfds, of a burst of values from `FIRST` on; no loopbacks."""
    marks = [
        # Two values added up show as bits that no notification has.
        (word & VALUE_MASK) - FIRST if flags(word) == VALID else NOT_SENT
        for word in got
        if flags(word) != VALID | LOOPBACK
    ]
    return burst_result(sent, marks, sum(word >> LOST_SHIFT for word in got))


def words(taken: Iterable[bytes | None]) -> list[int]:
    """What was read from an eventfd, as numbers."""
    return [int.from_bytes(raw, sys.byteorder) for raw in taken if raw is not None]


def flags(word: int) -> int:
    """VALID and LOOPBACK, and the reserved bits above, which are 0."""
    return word >> FLAGS_SHIFT & FLAGS_MASK


# ---- the record --------------------------------------------------------------------------------


class Eventfd(Mechanism):
    """The VMM sets an eventfd on its open device; only whoever has the device can register."""

    sign = Sign(
        look,
        text="index 5 has flags 0x9 and count 1, and its loopback reads 0x300000000",
        absent="index 5 is not there",
        rank=0,
    )
    registered_by_binding = False
    refusal = errno.EINVAL

    def vmm(
        self,
        device: Device,
        firmware: Firmware,
        family: probe.Family | None = None,
        *,
        via: str | None = None,
    ) -> EventfdVmm:
        """Open the device and set an eventfd."""
        return EventfdVmm(device, firmware, via)

    def burst_source(
        self,
        device: Device,
        firmware: Firmware,
        *,
        buffer: int | None = None,
    ) -> EventfdIntake:
        """Open a burst source that tells notifications apart by their values."""
        return EventfdIntake(EventfdVmm(device, firmware, None), firmware)

    def listen(self, devices: Sequence[Device]) -> tuple[str, ...]:
        """Name each device."""
        return tuple(word for device in devices for word in ("--device", device.bdf))

    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Arm a new eventfd on the device that was handed over."""

        def register() -> Source:
            eventfd = EventFd()
            vfio.Device.from_fd(fd).arm(eventfd)
            return eventfd

        return register

    def received(self, confined_process: Cell, device: vfio.Device, since: int) -> list[bytes]:
        """Wait for a loopback, which is queued behind everything else."""
        device.loopback()
        return confined_process.wait_for(_ends_with_loopback, since)

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode the words, each a notification of the VMM's own device; leave out loopbacks."""
        got = [decode(int.from_bytes(message, sys.byteorder)) for message in messages]
        assert not sum(item.lost for item in got), "notifications were lost"
        return [Heard(bdf, item.value) for item in got if not item.loopback]


def _ends_with_loopback(messages: list[bytes]) -> bool:
    return bool(messages) and decode(int.from_bytes(messages[-1], sys.byteorder)).loopback


RECORD = Eventfd()
