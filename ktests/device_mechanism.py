# SPDX-License-Identifier: GPL-2.0-only
"""What the records of mechanisms share in which a VMM registers on its open device.

`DeviceVmm`, `DeviceBurstSource` and `DeviceMechanism` are for any such mechanism. `IndexVmm` and
`IndexMechanism` are for those in which the VMM sets an eventfd on VFIO_PCI_ACPI_IRQ_INDEX. Only a
process that has the device open can register for its notifications.
"""

from __future__ import annotations

import errno
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, ClassVar, Generic, TypeVar

from ktests import call
from ktests.acpi import Firmware
from ktests.burst_result import BurstResult
from ktests.burst_source import FIRST, BurstSource
from ktests.call import Call
from ktests.confined_process import ConfinedProcess, Source
from ktests.mechanism import Mechanism, Vmm
from ktests.pci import PciDevice
from ktests.reader import Reader
from uapi import probe, vfio
from uapi.eventfd import EventFd

# ---- a VMM -------------------------------------------------------------------------------------


class DeviceVmm(Vmm):
    """A VMM that has its device open, and is registered on it.

    ``open_method`` is that of `Mechanism.vmm`. UapiError if the device cannot be opened or the
    kernel refuses to register the VMM.
    """

    def __init__(self, device: PciDevice, firmware: Firmware, open_method: str | None) -> None:
        self.device = device
        self._firmware = firmware
        with ExitStack() as stack:
            self.vfio = stack.enter_context(vfio.Device.open(device.bdf, open_method))
            self._register(stack)
            self._stack = stack.pop_all()

    @abstractmethod
    def _register(self, stack: ExitStack) -> None:
        """Register on ``self.vfio``. ``stack`` has to close what is opened for that."""

    def opened(self) -> AbstractContextManager[vfio.Device]:
        """Return a context manager for the VMM's device, which stays open at its end."""
        return nullcontext(self.vfio)

    def close(self) -> None:
        """Close the VMM's descriptors and the device."""
        self._stack.close()


class IndexVmm(DeviceVmm):
    """A VMM that has set an eventfd on VFIO_PCI_ACPI_IRQ_INDEX of its device.

    UapiError (EINVAL) if the kernel does not have the index, or the device has no companion.
    """

    eventfd: EventFd

    def _register(self, stack: ExitStack) -> None:
        self.eventfd = stack.enter_context(self._new_eventfd())
        self._arm()

    def _new_eventfd(self) -> EventFd:
        return EventFd()

    def _arm(self) -> None:
        self.vfio.arm(self.eventfd)

    def fileno(self) -> int:
        """Return the eventfd's descriptor."""
        return self.eventfd.fileno()

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


# ---- bursts ------------------------------------------------------------------------------------

V = TypeVar("V", bound=DeviceVmm)


class DeviceBurstSource(BurstSource, Generic[V]):
    """A burst source whose notifications differ by their values: `FIRST`, `FIRST` + 1 and so on."""

    def __init__(self, vmm: V, firmware: Firmware) -> None:
        self._vmm = vmm
        self._firmware = firmware
        self._sent = 0

    def fileno(self) -> int:
        """Return the VMM's descriptor, which a `Reader` has to read."""
        return self._vmm.fileno()

    def send(self, count: int) -> None:
        """Send a burst of ``count`` notifications. Returns when the AML has run.

        ``count`` is at most 65280, since ACPICA truncates a value to 16 bits.
        """
        self._sent = count
        self._firmware.notify(self._vmm.device.method, FIRST, step=1, count=count)

    def finish(self, reader: Reader) -> BurstResult:
        """Wait until ``reader`` has read the whole burst, then stop it. Returns the counts."""
        self._firmware.flush_handlers()
        self._wait(reader)
        reader.stop()
        return self._count(reader.taken)

    def _wait(self, reader: Reader) -> None:
        """Wait until ``reader`` has read the whole burst; all Notify handlers have run.

        By default the burst is read when the reader finds nothing more.
        """
        reader.wait_idle()

    @abstractmethod
    def _count(self, taken: Sequence[bytes | None]) -> BurstResult:
        """Return the counts from the messages that were read (`Reader.taken`)."""

    def close(self) -> None:
        """Close the VMM."""
        self._vmm.close()


# ---- the record --------------------------------------------------------------------------------


class DeviceMechanism(Mechanism):
    """A mechanism in which a VMM registers on its open device."""

    vmm_type: ClassVar[type[DeviceVmm]]
    burst_source_type: ClassVar[type[DeviceBurstSource[Any]]]
    """The class of a burst source; it gets a VMM of the class `vmm_type`."""

    registered_by_binding = False

    def vmm(
        self,
        device: PciDevice,
        firmware: Firmware,
        family: probe.Family | None = None,
        *,
        open_method: str | None = None,
    ) -> DeviceVmm:
        """Open the device, register on it and return the VMM. ``family`` is not used."""
        return self.vmm_type(device, firmware, open_method)

    def burst_source(
        self, device: PciDevice, firmware: Firmware, *, buffer: int | None = None
    ) -> BurstSource:
        """Start a VMM and return its burst source.

        ``buffer`` is not used: the mechanism has no socket.
        """
        return self.burst_source_type(self.vmm_type(device, firmware, None), firmware)

    def received(
        self, confined_process: ConfinedProcess, device: vfio.Device, since: int
    ) -> list[bytes]:
        """Wait until the confined process finds nothing more to receive.

        Returns the messages from index ``since`` on. The caller has to wait first until the Notify
        handlers have run: by default a message can be received from then on. ``device`` is not
        used.
        """
        confined_process.drain()
        return confined_process.messages(since)


class IndexMechanism(DeviceMechanism):
    """A mechanism in which a VMM sets an eventfd on VFIO_PCI_ACPI_IRQ_INDEX of its open device."""

    refusal = errno.EINVAL

    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Return a function that sets a new eventfd on the device with the descriptor ``fd``.

        The function returns the eventfd. ``family`` is not used.
        """

        def register() -> Source:
            with ExitStack() as stack:
                eventfd = stack.enter_context(EventFd())
                vfio.Device.from_fd(fd).arm(eventfd)
                stack.pop_all()
            return eventfd

        return register
