# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism "eventfd": an eventfd on VFIO_PCI_ACPI_IRQ_INDEX, whose counter is the message.

A read(2) returns a 64-bit word: bits 0-31 are the notification value, bit 32 is VALID, bit 33 is
LOOPBACK, bits 34-47 are 0, and bits 48-63 are the number of notifications that were lost directly
before this one; 65535 means "65535 or more". The kernel keeps `KEPT` notifications for a VMM that
does not read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from ktests import acpi_index
from ktests.acpi import Firmware
from ktests.burst_result import BurstResult, count_burst
from ktests.burst_source import FIRST, NOT_SENT
from ktests.confined_process import ConfinedProcess
from ktests.device_mechanism import DeviceBurstSource, IndexMechanism, IndexVmm
from ktests.mechanism import Heard, Sign
from ktests.ordered_notify import one_by_one
from ktests.pci import PciDevice
from ktests.reader import Reader
from uapi import vfio
from uapi.eventfd import SIZE, EventFd
from uapi.notification import Notification, decode

# The kernel keeps one readable notification in the eventfd, and QUEUE more in a queue behind it.
QUEUE = 256
KEPT = QUEUE + 1

# A generous limit: a queued notification becomes readable at once, but emulation may be slow.
READ_SECONDS = 10.0

# Bits 0-31 of a word: the value. Bits 32-47: the flags VALID and LOOPBACK, and reserved bits.
# Bits 48-63: the number of lost notifications.
VALUE_MASK = 0xFFFFFFFF
FLAGS_SHIFT, FLAGS_MASK, LOST_SHIFT = 32, 0xFFFF, 48
VALID, LOOPBACK = 1, 2
# The loopback is searched for among this many last words: with several reading threads, each may
# append a word after it that was read before it.
LAST = 8


# ---- filling and reading the queue -------------------------------------------------------------


def overflow(firmware: Firmware, device: PciDevice, count: int) -> None:
    """Send ``count`` notifications, at least `KEPT`, and wait until they are handled.

    They are 0x80 once, then 0x81 ``count`` - `KEPT` times, then each of 0x100 to 0x1ff once. The
    last 256 may be handled in any order. If nobody reads, the kernel keeps these and 0x80.
    """
    one_by_one(firmware, device, [0x80])
    firmware.notify(device.method, 0x81, count=count - KEPT)
    firmware.flush_handlers()
    firmware.notify(device.method, 0x100, step=1, count=QUEUE)
    firmware.flush_handlers()


def take(eventfd: EventFd) -> Notification:
    """Wait for the next notification, read it and return it decoded.

    AssertionError if the kernel does not wake up the test within `READ_SECONDS`; FormatError if the
    word is no notification.
    """
    assert eventfd.wakes_up(READ_SECONDS), "nothing to read"
    word = eventfd.read()
    assert word is not None, "readable, and nothing to read"
    return decode(word)


def take_all(firmware: Firmware, device: vfio.Device, eventfd: EventFd) -> list[Notification]:
    """Return all notifications that were sent before the call and are not read yet.

    ``eventfd`` has to be the eventfd that is set on ``device``. The kernel makes the next
    notification readable a moment after the previous one was read, so that an empty eventfd does
    not prove that the queue is empty. Therefore this function queues a loopback behind all
    notifications, and reads until the loopback comes. The loopback is not returned. AssertionError
    if it does not come within `READ_SECONDS` after the last notification. If the queue may be full,
    use `take_full`.
    """
    firmware.flush_handlers()
    device.loopback()
    return list(iter(lambda: take(eventfd), Notification(0, loopback=True)))


def take_full(firmware: Firmware, device: vfio.Device, eventfd: EventFd) -> list[Notification]:
    """Do the same as `take_all` with a queue that may be full.

    In a full queue the loopback would replace the oldest queued notification. Therefore this
    function first reads the notification that is readable, and waits until the next one is: then
    the queue has room for the loopback. AssertionError if fewer than two are unread.
    """
    firmware.flush_handlers()
    first = take(eventfd)
    assert eventfd.wakes_up(READ_SECONDS), "the second one does not come"
    return [first, *take_all(firmware, device, eventfd)]


# ---- a VMM -------------------------------------------------------------------------------------


class EventfdVmm(IndexVmm):
    """A VMM whose eventfd gives one notification at a time, as a word."""

    def read(self) -> Notification:
        """Wait for the next notification and return it; AssertionError after `READ_SECONDS`."""
        return take(self.eventfd)

    def read_all(self) -> list[Notification]:
        """Return all notifications that were sent before the call and are not read yet.

        The queue must not be full (`take_all`).
        """
        return take_all(self._firmware, self.vfio, self.eventfd)

    def values(self) -> list[int]:
        """Return the values of all notifications since the last call, in the order of arrival.

        AssertionError if notifications were lost.
        """
        got = self.read_all()
        lost = sum(item.lost for item in got)
        assert not lost, f"{lost} notifications were lost"
        return [item.value for item in got]


# ---- bursts ------------------------------------------------------------------------------------


class EventfdBurstSource(DeviceBurstSource[EventfdVmm]):
    """A burst source that counts the words of an eventfd."""

    def _wait(self, reader: Reader) -> None:
        """Wait until ``reader`` has read a loopback, which the kernel queues behind the burst.

        If the queue is full, the loopback replaces one more notification, which the kernel reports
        as lost like the others.
        """
        self._vmm.vfio.loopback()
        reader.wait_until(
            lambda: any(flags(word) & LOOPBACK for word in words(reader.taken[-LAST:]))
        )

    def _count(self, taken: Sequence[bytes | None]) -> BurstResult:
        return count_words(self._sent, words(taken))


def count_words(sent: int, got: Sequence[int]) -> BurstResult:
    """Return the counts of a burst of ``sent`` notifications from the words ``got`` that were read.

    The values of the burst are `FIRST`, `FIRST` + 1 and so on. Loopbacks are not counted, but
    the notifications that they report as lost are.
    """
    marks = [
        # If two notifications were added into one word, it has flags that no notification has.
        (word & VALUE_MASK) - FIRST if flags(word) == VALID else NOT_SENT
        for word in got
        if flags(word) != VALID | LOOPBACK
    ]
    return count_burst(sent, marks, sum(word >> LOST_SHIFT for word in got))


def words(taken: Iterable[bytes | None]) -> list[int]:
    """Convert the bytes that were read from an eventfd to 64-bit words, as integers.

    Each item of ``taken`` (`Reader.taken`) is the 8 bytes of one read(2) in the CPU's byte order.
    None, which stands for ENOBUFS, is left out.
    """
    return [int.from_bytes(raw, sys.byteorder) for raw in taken if raw is not None]


def flags(word: int) -> int:
    """Return bits 32-47 of a word.

    Bit 0 of the result is `VALID` and bit 1 is `LOOPBACK`. The others are reserved, and 0 in every
    word that only the kernel has written.
    """
    return word >> FLAGS_SHIFT & FLAGS_MASK


# ---- the record --------------------------------------------------------------------------------


class Eventfd(IndexMechanism):
    """The mechanism in which a VMM sets an eventfd on its open device, whose words are messages."""

    sign = Sign(
        acpi_index.look,
        text="index 5 has flags 0x9 and count 1, and its loopback reads 0x300000000",
        absent=acpi_index.ABSENT,
        rank=0,
    )
    vmm_type = EventfdVmm
    burst_source_type = EventfdBurstSource
    kept = f"{KEPT} notifications"
    queue_size = SIZE * KEPT
    selftest = "vfio_pci_acpi_test"

    def listen(self, devices: Sequence[PciDevice]) -> tuple[str, ...]:
        """Return an option ``--device BDF`` of ``python -m uapi listen`` for each device."""
        return tuple(word for device in devices for word in ("--device", device.bdf))

    def received(
        self, confined_process: ConfinedProcess, device: vfio.Device, since: int
    ) -> list[bytes]:
        """Wait until the confined process has received all notifications.

        Causes a loopback on ``device``, which the kernel queues behind all notifications, and waits
        until the confined process has read it. Returns the messages from index ``since`` on; the
        last one is the loopback.
        """
        device.loopback()
        return confined_process.wait_for(_ends_with_loopback, since)

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode the words that the VMM of the device ``bdf`` has read, without loopbacks.

        All are notifications of this device. AssertionError if a word reports lost notifications.
        """
        got = [decode(int.from_bytes(message, sys.byteorder)) for message in messages]
        assert not sum(item.lost for item in got), "notifications were lost"
        return [Heard(bdf, item.value) for item in got if not item.loopback]


def _ends_with_loopback(messages: list[bytes]) -> bool:
    return bool(messages) and decode(int.from_bytes(messages[-1], sys.byteorder)).loopback


RECORD = Eventfd()
