# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism "doorbell": an eventfd that counts, and a feature whose GET fetches the values.

The eventfd is set on VFIO_PCI_ACPI_IRQ_INDEX. Each notification adds 1 to its counter. GET of
VFIO_DEVICE_FEATURE_ACPI_PENDING (15) returns the oldest notification that was not fetched, with its
sequence number and the number of notifications that were lost before it; it fails with ENOMSG if
there is none. The kernel keeps `KEPT` notifications.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ktests import acpi_index, call, libc, seccomp
from ktests.acpi import Firmware
from ktests.burst_result import BurstResult, count_burst
from ktests.burst_source import FIRST, NOT_SENT
from ktests.call import Call
from ktests.confined_process import Source
from ktests.device_mechanism import DeviceBurstSource, IndexMechanism
from ktests.mechanism import Heard, Sign
from ktests.mechanisms.eventfd_count import EventfdCountVmm
from ktests.pci import PciDevice
from uapi import probe, vfio
from uapi.doorbell import Pending
from uapi.eventfd import EventFd

KEPT = 256

# The ioctl VFIO_DEVICE_FEATURE, and a request of GET: struct vfio_device_feature with argsz and
# flags, and as its data flags, value, sequence and lost.
FEATURE = 0x3B75
REQUEST = struct.Struct("=IIIIII")
GET = 1 << 16 | acpi_index.PENDING


# ---- a VMM -------------------------------------------------------------------------------------


class DoorbellVmm(EventfdCountVmm):
    """A VMM that reads its eventfd, and then fetches all notifications that were not fetched."""

    def __init__(
        self,
        device: PciDevice,
        firmware: Firmware,
        open_method: str | None,
        *,
        semaphore: bool = False,
    ) -> None:
        super().__init__(device, firmware, open_method, semaphore=semaphore)
        # The sequence number that the first notification of the next call of `values` has to have.
        self._next = 0

    def fetch_all(self) -> list[Pending]:
        """Fetch and return all notifications that were not fetched."""
        return list(iter(self.vfio.fetch, None))

    def values(self) -> list[int]:
        """Return the values of all notifications since the last call, in the order of arrival.

        AssertionError if a sequence number is missing, or a notification was lost.
        """
        super().values()
        got = self.fetch_all()
        expected = range(self._next, self._next + len(got))
        assert [item.sequence for item in got] == list(expected), "a number is missing"
        assert not any(item.lost for item in got), "notifications were lost"
        self._next = expected.stop
        return [item.value for item in got]

    def receive_loopback(self) -> tuple[Call, ...]:
        """Return the read(2) of the eventfd: there is nothing to fetch after a loopback."""
        return super().receive()

    def receive(self) -> tuple[Call, ...]:
        """Return the read(2) of the eventfd, and the GET that fetches one notification."""
        return *super().receive(), call.feature(self.vfio, GET, bytes(16))

    @contextmanager
    def _without(self, end: Callable[[], None]) -> Iterator[None]:
        with super()._without(end):
            yield
        self._next = 0


# ---- bursts ------------------------------------------------------------------------------------


class DoorbellBurstSource(DeviceBurstSource[DoorbellVmm]):
    """A burst source whose reader fetches notifications until there is none.

    When all Notify handlers have run, all notifications can be fetched, so that the burst is read
    when the reader finds nothing more.
    """

    def receive(self) -> bytes:
        """Read the eventfd, and fetch notifications until there is none.

        Returns the data of all of them. BlockingIOError if the eventfd's counter is 0.
        """
        super().receive()
        return b"".join(map(encoded, self._vmm.fetch_all()))

    def _count(self, taken: Sequence[bytes | None]) -> BurstResult:
        got = [item for raw in taken if raw for item in decoded(raw)]
        marks = [item.value - FIRST if item.flags == 0 else NOT_SENT for item in got]
        return count_burst(self._sent, marks, sum(item.lost for item in got))


DATA = struct.Struct("=IIII")


def encoded(item: Pending) -> bytes:
    """Return the data of GET of a notification."""
    return DATA.pack(item.flags, item.value, item.sequence, item.lost)


def decoded(raw: bytes) -> list[Pending]:
    """Decode the data of any number of notifications."""
    return [Pending(*fields) for fields in DATA.iter_unpack(raw)]


# ---- a confined VMM ----------------------------------------------------------------------------


class Bell:
    """The source of a confined process: an eventfd, and the device from which it fetches.

    The eventfd is a semaphore: one read(2) of it belongs to one message.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        with ExitStack() as stack:
            self._eventfd = stack.enter_context(EventFd(semaphore=True))
            vfio.Device.from_fd(fd).arm(self._eventfd)
            stack.pop_all()
        self._request = REQUEST.pack(REQUEST.size, GET, 0, 0, 0, 0)
        self._word = ctypes.c_uint64()

    def fileno(self) -> int:
        """Return the descriptor of the eventfd."""
        return self._eventfd.fileno()

    def close(self) -> None:
        """Close the eventfd."""
        self._eventfd.close()

    def receive_at(self, address: int) -> int:
        """Read the eventfd and fetch a notification to ``address``, the whole request of GET."""
        libc.read(self._eventfd.fileno(), ctypes.addressof(self._word), 8)
        ctypes.memmove(address, self._request, REQUEST.size)
        libc.ioctl(self._fd, FEATURE, address)
        return REQUEST.size


# ---- the record --------------------------------------------------------------------------------


class Doorbell(IndexMechanism):
    """The mechanism in which a VMM sets an eventfd on its open device, and fetches from it."""

    sign = Sign(
        acpi_index.look,
        text="index 5 has flags 0x9 and count 1, and its loopback reads 0x1, "
        "and feature 15 ends with ENOMSG",
        absent=acpi_index.ABSENT,
        rank=0,
    )
    vmm_type = DoorbellVmm
    burst_source_type = DoorbellBurstSource
    kept = f"{KEPT} notifications"
    queue_size = 4 * KEPT
    calls = (seccomp.IOCTL,)

    def listen(self, devices: Sequence[PciDevice]) -> tuple[str, ...]:
        """Return an option ``--device BDF`` of ``python -m uapi listen`` for each device."""
        return tuple(word for device in devices for word in ("--device", device.bdf))

    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Return a function that sets a new eventfd on the device with the descriptor ``fd``.

        The function returns the eventfd together with the device. ``family`` is not used.
        """
        return lambda: Bell(fd)

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode the requests that the VMM of the device ``bdf`` has made.

        AssertionError if one of them reports lost notifications.
        """
        got = [Pending(*REQUEST.unpack(message)[2:]) for message in messages]
        assert not any(item.lost for item in got), "notifications were lost"
        return [Heard(bdf, item.value) for item in got]


RECORD = Doorbell()
