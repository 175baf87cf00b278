# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism "eventfd-count": an eventfd on VFIO_PCI_ACPI_IRQ_INDEX, which counts.

Each notification adds 1 to the counter. A VMM learns how many notifications there were, and none of
their values. The mechanism is the negative reference: it shows what is lost if notifications are
signalled as interrupts are.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from ktests import acpi_index, call
from ktests.acpi import Firmware
from ktests.burst_result import BurstResult, count_burst
from ktests.burst_source import FIRST, NOT_SENT, BurstSource
from ktests.call import Call
from ktests.confined_process import ConfinedProcess, Source
from ktests.mechanism import Heard, Mechanism, Sign, Vmm
from ktests.pci import PciDevice
from ktests.reader import Reader
from uapi import probe, vfio
from uapi.eventfd import EventFd

# Stands for the value of a notification, which a VMM does not learn.
UNKNOWN = -1


# ---- a VMM -------------------------------------------------------------------------------------


class EventfdCountVmm(Vmm):
    """A VMM that has its device open, and has set an eventfd on VFIO_PCI_ACPI_IRQ_INDEX.

    ``open_method`` is that of `Mechanism.vmm`. ``semaphore`` is that of `EventFd`. UapiError
    (EINVAL) if the kernel does not have the index, or the device has no companion.
    """

    def __init__(
        self,
        device: PciDevice,
        firmware: Firmware,
        open_method: str | None,
        *,
        semaphore: bool = False,
    ) -> None:
        self.device = device
        self._firmware = firmware
        with ExitStack() as stack:
            self.vfio = stack.enter_context(vfio.Device.open(device.bdf, open_method))
            self.eventfd = stack.enter_context(EventFd(semaphore=semaphore))
            self.vfio.arm(self.eventfd)
            self._stack = stack.pop_all()

    def fileno(self) -> int:
        """Return the eventfd's descriptor."""
        return self.eventfd.fileno()

    def values(self) -> list[int]:
        """Return `UNKNOWN` for each notification since the last call."""
        self._firmware.flush_handlers()
        return [UNKNOWN] * (self.eventfd.read() or 0)

    def opened(self) -> AbstractContextManager[vfio.Device]:
        """Return a context manager for the VMM's device, which stays open at its end."""
        return nullcontext(self.vfio)

    def loopback(self) -> Call | None:
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
        self.vfio.arm(self.eventfd)

    def close(self) -> None:
        """Close the eventfd and the device."""
        self._stack.close()


# ---- bursts ------------------------------------------------------------------------------------


class EventfdCountBurstSource(BurstSource):
    """A burst source whose notifications differ by their values, none of which arrives."""

    def __init__(self, vmm: EventfdCountVmm, firmware: Firmware) -> None:
        self._vmm = vmm
        self._firmware = firmware
        self._sent = 0

    def fileno(self) -> int:
        """Return the descriptor of the VMM's eventfd, which a `Reader` has to read."""
        return self._vmm.fileno()

    def send(self, count: int) -> None:
        """Send a burst of ``count`` notifications, at most 65280. Returns when the AML has run."""
        self._sent = count
        self._firmware.notify(self._vmm.device.method, FIRST, step=1, count=count)

    def finish(self, reader: Reader) -> BurstResult:
        """Wait until ``reader`` has read the whole burst, then stop it. Returns the counts.

        A word that was read is no notification of the burst, since it has no value.
        """
        self._firmware.flush_handlers()
        reader.wait_idle()
        reader.stop()
        return count_burst(self._sent, [NOT_SENT for raw in reader.taken if raw])

    def close(self) -> None:
        """Close the VMM's eventfd and its device."""
        self._vmm.close()


# ---- the record --------------------------------------------------------------------------------


class EventfdCount(Mechanism):
    """The mechanism in which a VMM sets an eventfd on its open device, which counts.

    Only a process that has the device open can register for its notifications.
    """

    sign = Sign(
        acpi_index.look,
        text="index 5 has flags 0x9 and count 1, and its loopback reads 0x1",
        absent=acpi_index.ABSENT,
        rank=0,
    )
    registered_by_binding = False
    refusal = errno.EINVAL
    kept = "the number of notifications"

    def seen(self, values: Sequence[int]) -> list[int]:
        """Return `UNKNOWN` for each value."""
        return [UNKNOWN for _ in values]

    def vmm(
        self,
        device: PciDevice,
        firmware: Firmware,
        family: probe.Family | None = None,
        *,
        open_method: str | None = None,
    ) -> EventfdCountVmm:
        """Open the device, set an eventfd on it and return the VMM."""
        return EventfdCountVmm(device, firmware, open_method)

    def burst_source(
        self, device: PciDevice, firmware: Firmware, *, buffer: int | None = None
    ) -> EventfdCountBurstSource:
        """Start a VMM and return its burst source.

        ``buffer`` is not used: the mechanism has no socket.
        """
        return EventfdCountBurstSource(EventfdCountVmm(device, firmware, None), firmware)

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
        """Wait until the confined process has emptied its eventfd.

        Returns the messages from index ``since`` on. The caller has to wait first until the Notify
        handlers have run: they signal the eventfd. ``device`` is not used.
        """
        confined_process.drain()
        return confined_process.messages(since)

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Return a notification with the value `UNKNOWN` for each that the words count."""
        total = sum(int.from_bytes(message, sys.byteorder) for message in messages)
        return [Heard(bdf, UNKNOWN)] * total


RECORD = EventfdCount()
