# SPDX-License-Identifier: GPL-2.0-only
"""The interface of a mechanism's record, `Mechanism`.

A mechanism is a way in which notification values reach user space. Its record defines how a VMM
uses the mechanism, and the sign by which the suite recognizes a kernel that has it. Each module of
`ktests.mechanisms` holds one record. A test with the fixture ``mechanism`` gets the record and
calls its methods, so that the same test runs for every mechanism.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from ktests import call
from ktests.acpi import Firmware
from ktests.burst_source import BurstSource
from ktests.call import Call
from ktests.confined_process import ConfinedProcess, Source
from ktests.pci import PciDevice
from uapi import probe, vfio
from uapi.closing import Closing


@dataclass(frozen=True)
class Site:
    """The part of the test machine that `Sign.look` examines.

    ``device`` has an ACPI companion and is bound to vfio-pci. ``firmware`` is a function that opens
    the ACPI debugger and returns the test firmware.
    """

    device: PciDevice
    firmware: Callable[[], Firmware]


OWN_RANK = -1
"""`Sign.rank` of a mechanism of the user's own (`ktests.mechanism_folder`)."""


@dataclass(frozen=True)
class Sign:
    """The sign of a mechanism: a function that looks for the mechanism, and its expected result.

    ``look`` returns ``text`` if the kernel has the mechanism, and "" if the kernel does not have
    it. Mechanisms that differ in one thing share the function: its result is the ``text`` of one of
    them. Any other result describes a uAPI that no known mechanism has. ``absent`` is the sentence
    that reports that the kernel does not have the mechanism. Signs are looked for in ascending
    order of ``rank``: 0 if ``look`` only uses the device's descriptor, 1 if it waits when it does
    not find the mechanism, 2 if it has the firmware notify the device. The sign of a mechanism of
    the user's own has `OWN_RANK`.
    """

    look: Callable[[Site], str]
    text: str
    absent: str
    rank: int


@dataclass(frozen=True)
class Heard:
    """A notification that reached a process.

    ``source`` is the BDF of the notified VFIO device. For an acpi_event event of any other device
    it is the event's device class. ``value`` is the notification value.
    """

    source: str
    value: int


class Vmm(Closing, ABC):
    """A VMM that has one device and is registered for its notifications. A context manager."""

    device: PciDevice

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor from which the VMM reads notifications."""

    @abstractmethod
    def values(self) -> list[int]:
        """Return the device's notification values since the last call, in the order of arrival.

        Waits first until all queued Notify handlers have run. AssertionError if the mechanism lost
        a notification.
        """

    def opened(self) -> AbstractContextManager[vfio.Device]:
        """Return a context manager for the open device.

        By default it opens the device, and closes it at its end. A VMM that has opened the device
        itself returns that.
        """
        return vfio.Device.open(self.device.bdf)

    def loopback(self) -> Call | None:
        """Return the system call by which user space causes a notification of this VMM.

        Returns None if the mechanism has no such call. It is the default.
        """
        return None

    def receive(self) -> tuple[Call, ...]:
        """Return the system calls that receive one notification.

        All earlier ones have to be received. The first call reads `fileno`; by default there is no
        other.
        """
        return (call.read(self.fileno()),)

    def receive_loopback(self) -> tuple[Call, ...]:
        """Return the system calls that receive one loopback: by default those of `receive`."""
        return self.receive()

    def acknowledge(self) -> None:
        """Acknowledge a notification that another reader of `fileno` has read.

        By default there is nothing to acknowledge.
        """

    def pauses(self) -> Sequence[AbstractContextManager[None]]:
        """Return a context manager for each way to deregister while the device stays open.

        The context manager deregisters the VMM at its begin, and registers it again at its end. By
        default there is none.
        """
        return ()


class Mechanism(ABC):
    """The record of a mechanism: all facts and functions that tests and detection need of it."""

    sign: ClassVar[Sign]

    registered_by_binding: ClassVar[bool]
    """Whether vfio-pci registers for a device's notifications on binding, even without a VMM."""

    refusal: ClassVar[int | None]
    """The errno of registering for a device without a companion; None if registering succeeds."""

    kept: ClassVar[str] = "not stated"
    """What the kernel keeps for a VMM that does not read, in words, with the suite's settings."""

    shared: ClassVar[bool] = False
    """Whether several processes can listen to one device at the same time."""

    of_all_devices: ClassVar[bool] = False
    """Whether a VMM receives the notifications of other devices too."""

    descriptors: ClassVar[int] = 1
    """The number of descriptors that a VMM opens besides the device."""

    calls: ClassVar[tuple[int, ...]] = ()
    """The system calls that receiving takes besides read(2) and poll(2), by number."""

    queue_size: ClassVar[int] = 0
    """The size in bytes of the values that the kernel keeps for a VMM that does not read.

    With the suite's settings; the queue is at least as large. 0 if the kernel keeps none.
    """

    selftest: ClassVar[str] = ""
    """The program that the series adds to the kernel's VFIO selftests; "" if it adds none."""

    @property
    def name(self) -> str:
        """The mechanism's name, as in "needs" of a requirement.

        It is the last part of the name of the module that defines the record's class, with "-" for
        "_".
        """
        return type(self).__module__.rpartition(".")[2].replace("_", "-")

    def seen(self, values: Sequence[int]) -> list[int]:
        """Return the result of `Vmm.values` after notifications with ``values``.

        It differs from ``values`` if the mechanism does not report values. For tests that are about
        the number of notifications.
        """
        return list(values)

    @abstractmethod
    def vmm(
        self,
        device: PciDevice,
        firmware: Firmware,
        family: probe.Family | None = None,
        *,
        open_method: str | None = None,
    ) -> Vmm:
        """Start a VMM on ``device``, which has to be bound to vfio-pci, and return it.

        ``family`` is the acpi_event family, if the caller has already resolved it. ``open_method``
        selects how the device is opened: "cdev", "group", or None for either. A mechanism that does
        not open the device ignores it. UapiError if the VMM opens the device, and the kernel does
        not have the mechanism or the device has no companion.
        """

    @abstractmethod
    def burst_source(
        self, device: PciDevice, firmware: Firmware, *, buffer: int | None = None
    ) -> BurstSource:
        """Open a burst source on ``device``, which has to be bound to vfio-pci, and return it.

        ``buffer`` is the size of the receive buffer in bytes, for a mechanism that uses a socket;
        None for the kernel's default. Other mechanisms ignore it.
        """

    def listen(self, devices: Sequence[PciDevice]) -> tuple[str, ...]:
        """Return the arguments of ``python -m uapi listen`` that make it listen to ``devices``.

        NotImplementedError by default: the program does not support the mechanism.
        """
        raise NotImplementedError("python -m uapi listen does not support the mechanism")

    @abstractmethod
    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Return a function for the parameter ``register`` of `ConfinedProcess`.

        The confined process calls this function to register for the notifications of a device, and
        then reads from the source that the function returns. ``fd`` is the descriptor of the open
        device, which the process inherits. ``family`` is the acpi_event family. Each mechanism uses
        only one of ``fd`` and ``family``.
        """

    @abstractmethod
    def received(
        self, confined_process: ConfinedProcess, device: vfio.Device, since: int
    ) -> list[bytes]:
        """Wait until the confined process has received every message that was sent to it.

        Returns its messages from index ``since`` on. ``device`` is the VMM's device, open also in
        this process; a mechanism may cause a loopback on it to mark the end of the messages. The
        caller has to wait first until the Notify handlers have run.
        """

    @abstractmethod
    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode ``messages``, which the VMM of the device ``bdf`` has received.

        Loopbacks, which only mark the end of the messages, are left out. AssertionError if the
        messages show that notifications were lost; netlink's record does not examine this.
        """
