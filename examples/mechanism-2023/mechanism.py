# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism of a proposal of 2023: an eventfd whose counter is the notification value.

A VMM sets an eventfd on interrupt index 5. A read(2) returns a 64-bit word, the value of one
notification; the kernel puts the next one into the counter after that. It queues 20 of them. A
loopback is a notification with the value 1, which firmware cannot send: values below 0x80 stay with
the operating system.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from ktests.acpi import Firmware
from ktests.burst_result import BurstResult, count_burst
from ktests.burst_source import FIRST, BurstSource
from ktests.confined_process import ConfinedProcess, Source
from ktests.mechanism import Heard, Mechanism, Sign, Site, Vmm
from ktests.pci import PciDevice
from ktests.reader import Reader
from uapi import probe, vfio
from uapi.errors import UapiError
from uapi.eventfd import EventFd

LOOPBACK = 1
# A queued notification becomes readable at once, but emulation may be slow.
READ_SECONDS = 5.0


def words(taken: Sequence[bytes | None]) -> list[int]:
    """Convert the results of read(2), 8 bytes each, to values."""
    return [int.from_bytes(raw, sys.byteorder) for raw in taken if raw is not None]


def look(site: Site) -> str:
    """Describe index 5 of the device, and what a loopback makes readable, for `Sign.look`."""
    with vfio.Device.open(site.device.bdf) as device, EventFd() as eventfd:
        if device.info().num_irqs <= vfio.ACPI:
            return ""
        try:
            device.arm(eventfd)
            device.loopback()
        except UapiError as error:
            return f"index {vfio.ACPI} refuses an eventfd: {error}"
        if not eventfd.wakes_up(READ_SECONDS):
            return f"index {vfio.ACPI} is there, and its loopback gives nothing"
        return f"index {vfio.ACPI} is there, and its loopback reads {eventfd.read()}"


class CounterVmm(Vmm):
    """A VMM that has its device open, and has set an eventfd on index 5.

    UapiError (EINVAL) if the kernel does not have the index, or the device has no companion.
    """

    def __init__(self, device: PciDevice, firmware: Firmware, open_method: str | None) -> None:
        self.device = device
        self._firmware = firmware
        with ExitStack() as stack:
            self.vfio = stack.enter_context(vfio.Device.open(device.bdf, open_method))
            self.eventfd = stack.enter_context(EventFd())
            self.vfio.arm(self.eventfd)
            self._stack = stack.pop_all()

    def fileno(self) -> int:
        """Return the eventfd's descriptor."""
        return self.eventfd.fileno()

    def values(self) -> list[int]:
        """Return the values of all notifications since the last call, in the order of arrival.

        A loopback, which the kernel queues behind them, marks the end. Nothing tells whether the
        kernel has dropped a notification.
        """
        self._firmware.flush_handlers()
        self.vfio.loopback()
        return list(iter(self._take, LOOPBACK))

    def _take(self) -> int:
        assert self.eventfd.wakes_up(READ_SECONDS), "nothing to read"
        word = self.eventfd.read()
        assert word is not None, "readable, and nothing to read"
        return word

    def pauses(self) -> Sequence[AbstractContextManager[None]]:
        """De-assign the eventfd by the descriptor -1, and by DATA_NONE with count 0."""
        return self._without(self.vfio.disarm), self._without(self.vfio.teardown)

    @contextmanager
    def _without(self, end: Callable[[], None]) -> Iterator[None]:
        end()
        yield
        self.vfio.arm(self.eventfd)

    def close(self) -> None:
        """Close the eventfd and the device."""
        self._stack.close()


class CounterBurstSource(BurstSource):
    """A burst source whose notifications differ by their values: `FIRST`, `FIRST` + 1 and so on."""

    def __init__(self, vmm: CounterVmm, firmware: Firmware) -> None:
        self._vmm = vmm
        self._firmware = firmware
        self._sent = 0

    def fileno(self) -> int:
        """Return the descriptor of the VMM's eventfd, which a `Reader` has to read."""
        return self._vmm.fileno()

    def send(self, count: int) -> None:
        """Send a burst of ``count`` notifications. Returns when the AML has run."""
        self._sent = count
        self._firmware.notify(self._vmm.device.method, FIRST, step=1, count=count)

    def finish(self, reader: Reader) -> BurstResult:
        """Wait until ``reader`` has read the loopback behind the burst. Returns the counts."""
        self._firmware.flush_handlers()
        self._vmm.vfio.loopback()
        # With several reading threads the loopback may not be the last one in the list.
        reader.wait_until(lambda: LOOPBACK in words(reader.taken[-8:]))
        reader.stop()
        got = [word for word in words(reader.taken) if word != LOOPBACK]
        return count_burst(self._sent, [word - FIRST for word in got])

    def close(self) -> None:
        """Close the VMM's eventfd and its device."""
        self._vmm.close()


class Counter(Mechanism):
    """The mechanism in which the counter of an eventfd is the value."""

    sign = Sign(
        look,
        text="index 5 is there, and its loopback reads 1",
        absent="index 5 is not there",
        rank=0,
    )
    registered_by_binding = False
    refusal = errno.EINVAL

    def vmm(
        self,
        device: PciDevice,
        firmware: Firmware,
        family: probe.Family | None = None,
        *,
        open_method: str | None = None,
    ) -> CounterVmm:
        """Open the device, set an eventfd on it and return the VMM."""
        return CounterVmm(device, firmware, open_method)

    def burst_source(
        self, device: PciDevice, firmware: Firmware, *, buffer: int | None = None
    ) -> CounterBurstSource:
        """Start a VMM and return a burst source."""
        return CounterBurstSource(CounterVmm(device, firmware, None), firmware)

    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Return a function that sets a new eventfd on the device with the descriptor ``fd``."""

        def register() -> Source:
            eventfd = EventFd()
            vfio.Device.from_fd(fd).arm(eventfd)
            return eventfd

        return register

    def received(
        self, confined_process: ConfinedProcess, device: vfio.Device, since: int
    ) -> list[bytes]:
        """Cause a loopback on ``device``, and wait until the confined process has read it."""
        device.loopback()
        return confined_process.wait_for(lambda got: words(got[-1:]) == [LOOPBACK], since)

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode the values. All are notifications of the VMM's own device."""
        return [Heard(bdf, word) for word in words(messages) if word != LOOPBACK]


RECORD = Counter()
