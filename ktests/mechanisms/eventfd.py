# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism "eventfd": an eventfd on VFIO_PCI_ACPI_IRQ_INDEX, whose counter is the message.

A read(2) returns a 64-bit word: bits 0-31 are the notification value, bit 32 is VALID, bit 33 is
LOOPBACK, bits 34-47 are 0, and bits 48-63 are the number of notifications that were lost directly
before this one; 65535 means "65535 or more". The kernel keeps `KEPT` notifications for a VMM that
does not read.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from ktests import acpi_index, call
from ktests.acpi import Firmware
from ktests.burst_result import BurstResult, count_burst
from ktests.burst_source import FIRST, NOT_SENT, BurstSource
from ktests.call import Call
from ktests.confined_process import ConfinedProcess, Source
from ktests.mechanism import Heard, Mechanism, Sign, Vmm
from ktests.ordered_notify import one_by_one
from ktests.pci import PciDevice
from ktests.reader import Reader
from uapi import probe, vfio
from uapi.eventfd import EventFd
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


class EventfdVmm(Vmm):
    """A VMM that has its device open, and has set an eventfd on VFIO_PCI_ACPI_IRQ_INDEX.

    ``open_method`` is that of `Mechanism.vmm`. UapiError (EINVAL) if the kernel does not have the
    index, or the device has no companion.
    """

    def __init__(self, device: PciDevice, firmware: Firmware, open_method: str | None) -> None:
        self.device = device
        self._firmware = firmware
        with ExitStack() as stack:
            self.vfio = stack.enter_context(vfio.Device.open(device.bdf, open_method))
            self.eventfd = stack.enter_context(self._new_eventfd())
            self._arm()
            self._stack = stack.pop_all()

    def _new_eventfd(self) -> EventFd:
        return EventFd()

    def _arm(self) -> None:
        self.vfio.arm(self.eventfd)

    def fileno(self) -> int:
        """Return the eventfd's descriptor."""
        return self.eventfd.fileno()

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

    def opened(self) -> AbstractContextManager[vfio.Device]:
        """Return a context manager for the VMM's device, which stays open at its end."""
        return nullcontext(self.vfio)

    def loopback(self) -> Call:
        """Return the loopback of the ACPI index (DATA_BOOL)."""
        return call.loopback(self.vfio, vfio.ACPI)

    def pauses(self) -> Sequence[AbstractContextManager[None]]:
        """Return two context managers that de-assign the eventfd, and set it again at the end.

        The first de-assigns it by the descriptor -1, the second by DATA_NONE with count 0.
        """
        return self._without(self.vfio.disarm), self._without(self.vfio.teardown)

    @contextmanager
    def _without(self, end: Callable[[], None]) -> Iterator[None]:
        end()
        yield
        self._arm()

    def close(self) -> None:
        """Close the eventfd and the device."""
        self._stack.close()


# ---- bursts ------------------------------------------------------------------------------------


class EventfdBurstSource(BurstSource):
    """A burst source whose notifications differ by their values: `FIRST`, `FIRST` + 1 and so on."""

    def __init__(self, vmm: EventfdVmm, firmware: Firmware) -> None:
        self._vmm = vmm
        self._firmware = firmware
        self._sent = 0

    def fileno(self) -> int:
        """Return the descriptor of the VMM's eventfd, which a `Reader` has to read."""
        return self._vmm.fileno()

    def send(self, count: int) -> None:
        """Send a burst of ``count`` notifications. Returns when the AML has run.

        ``count`` is at most 65280, since ACPICA truncates a value to 16 bits.
        """
        self._sent = count
        self._firmware.notify(self._vmm.device.method, FIRST, step=1, count=count)

    def finish(self, reader: Reader) -> BurstResult:
        """Wait until ``reader`` has read the whole burst, then stop it. Returns the counts.

        A loopback, which the kernel queues behind the burst, marks its end. If the queue is full,
        the loopback replaces one more notification, which the kernel reports as lost like the
        others.
        """
        self._firmware.flush_handlers()
        self._vmm.vfio.loopback()
        reader.wait_until(
            lambda: any(flags(word) & LOOPBACK for word in words(reader.taken[-LAST:]))
        )
        reader.stop()
        return count_words(self._sent, words(reader.taken))

    def close(self) -> None:
        """Close the VMM's eventfd and its device."""
        self._vmm.close()


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


class Eventfd(Mechanism):
    """The mechanism in which a VMM sets an eventfd on its open device.

    Only a process that has the device open can register for its notifications.
    """

    sign = Sign(
        acpi_index.look,
        text="index 5 has flags 0x9 and count 1, and its loopback reads 0x300000000",
        absent=acpi_index.ABSENT,
        rank=0,
    )
    registered_by_binding = False
    refusal = errno.EINVAL
    kept = f"{KEPT} notifications"
    selftest = "vfio_pci_acpi_test"

    def vmm(
        self,
        device: PciDevice,
        firmware: Firmware,
        family: probe.Family | None = None,
        *,
        open_method: str | None = None,
    ) -> EventfdVmm:
        """Open the device, set an eventfd on it and return the VMM. ``family`` is not used."""
        return EventfdVmm(device, firmware, open_method)

    def burst_source(
        self,
        device: PciDevice,
        firmware: Firmware,
        *,
        buffer: int | None = None,
    ) -> EventfdBurstSource:
        """Start a VMM and return a burst source that distinguishes notifications by their values.

        ``buffer`` is not used: the mechanism has no socket.
        """
        return EventfdBurstSource(EventfdVmm(device, firmware, None), firmware)

    def listen(self, devices: Sequence[PciDevice]) -> tuple[str, ...]:
        """Return an option ``--device BDF`` of ``python -m uapi listen`` for each device."""
        return tuple(word for device in devices for word in ("--device", device.bdf))

    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Return a function that sets a new eventfd on the device with the descriptor ``fd``.

        The function returns the eventfd. ``family`` is not used.
        """

        def register() -> Source:
            eventfd = EventFd()
            vfio.Device.from_fd(fd).arm(eventfd)
            return eventfd

        return register

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
