# SPDX-License-Identifier: GPL-2.0-only
"""Bursts in which every single notification can be told from the others, for each mechanism.

An intake sends a burst that a `Reader` reads, and says what became of it. What is read is looked
at only afterwards, and without the decoders: they would be the slowest reader of all.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Protocol

from ktests.acpi import Firmware
from ktests.pci import Device
from ktests.reader import Reader
from ktests.tally import Tally, tally
from ktests.vmm import EventfdVmm
from uapi import acpi_event, probe

# Bits 32-47 of a notification (VALID, LOOPBACK, reserved), and the lost ones above them.
VALUE_MASK = 0xFFFFFFFF
FLAGS_SHIFT, FLAGS_MASK, LOST_SHIFT = 32, 0xFFFF, 48
VALID, LOOPBACK = 1, 2
# Where to look for what was read last: each of several threads may be late with one.
LAST = 8

# An acpi_event message: sequence number; device_class, bus_id and type of the payload.
EVENT = struct.Struct("=8xI12x20s15sxI4x")
NOT_SENT = -1
FIRST = 0x100


class Intake(Protocol):
    """What the classes below have in common."""

    def fileno(self) -> int:
        """What a reader reads."""

    def send(self, count: int) -> None:
        """Send a burst, the only one; it may not have been handled when this returns."""

    def finish(self, reader: Reader) -> Tally:
        """Wait until all of the burst was handled and read, and count; ends the reader."""


class EventfdIntake:
    """The values differ: they are counted up from `FIRST`."""

    def __init__(self, vmm: EventfdVmm, firmware: Firmware) -> None:
        self._vmm = vmm
        self._firmware = firmware
        self._sent = 0

    def fileno(self) -> int:
        """See `Intake`."""
        return self._vmm.eventfd.fileno()

    def send(self, count: int) -> None:
        """See `Intake`; 65279 at most, since ACPICA cuts values to 16 bits."""
        self._sent = count
        self._firmware.notify(self._vmm.device.method, FIRST, step=1, count=count)

    def finish(self, reader: Reader) -> Tally:
        """See `Intake`.

        A loopback comes after everything else. If it finds the queue full, one more is lost to
        it, and reported as the others are.
        """
        self._firmware.settle()
        self._vmm.vfio.loopback()
        reader.wait_until(
            lambda: any(flags(word) & LOOPBACK for word in words(reader.taken[-LAST:]))
        )
        reader.stop()
        return tally_words(self._sent, words(reader.taken))


class NetlinkIntake:
    """The sequence numbers differ, of which the kernel gives one to each event.

    The burst stands between two events whose numbers tell how many there were; the number of the
    missing ones is what the mechanism reports, provided that ENOBUFS has said so.
    """

    BEFORE, VALUE, AFTER = 0xFD, 0x81, 0xFE

    def __init__(self, device: Device, firmware: Firmware, listener: probe.Listener) -> None:
        self._device = device
        self._firmware = firmware
        self._listener = listener
        self._sent = 0

    def fileno(self) -> int:
        """See `Intake`."""
        return self._listener.fileno()

    def send(self, count: int) -> None:
        """See `Intake`."""
        self._sent = count
        self._firmware.notify(self._device.method, self.BEFORE)
        self._firmware.settle()
        self._firmware.notify(self._device.method, self.VALUE, count=count)

    def finish(self, reader: Reader) -> Tally:
        """See `Intake`; AssertionError if nothing comes at all."""
        self._firmware.settle()
        # A socket that has overrun takes nothing until it was read empty.
        reader.wait_idle()
        self._firmware.notify(self._device.method, self.AFTER)
        self._firmware.settle()
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
        return tally(self._sent, marks, gap if None in reader.taken else 0)

    def _event(self, raw: bytes) -> tuple[int, int]:
        """Sequence number and value; the latter no value of ours if it is of something else."""
        number, kind, bus, value = EVENT.unpack(raw)
        ours = (acpi_event.VFIO_CLASS.encode(), self._device.bdf.encode())
        return number, value if (kind.rstrip(b"\0"), bus.rstrip(b"\0")) == ours else NOT_SENT


def tally_words(sent: int, got: Sequence[int]) -> Tally:
    """Count what was read from eventfds, of a burst of values from `FIRST` on; no loopbacks."""
    marks = [
        # Two values added up show as bits that no notification has.
        (word & VALUE_MASK) - FIRST if flags(word) == VALID else NOT_SENT
        for word in got
        if flags(word) != VALID | LOOPBACK
    ]
    return tally(sent, marks, sum(word >> LOST_SHIFT for word in got))


def words(taken: Iterable[bytes | None]) -> list[int]:
    """What was read from an eventfd, as numbers."""
    return [int.from_bytes(raw, sys.byteorder) for raw in taken if raw is not None]


def flags(word: int) -> int:
    """VALID and LOOPBACK, and the reserved bits above, which are 0."""
    return word >> FLAGS_SHIFT & FLAGS_MASK
