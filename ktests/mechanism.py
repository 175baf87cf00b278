# SPDX-License-Identifier: GPL-2.0-only
"""The interface of a mechanism's record, `Mechanism`.

A record defines how a VMM uses the mechanism, and the sign by which the suite recognizes a kernel
that has the mechanism. Each module of `ktests.mechanisms` holds one record. A test that takes the
fixture ``mechanism`` calls the methods of the record, so that the same test runs for every
mechanism.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from ktests.acpi import Firmware
from ktests.burst_source import BurstSource
from ktests.confined_process import ConfinedProcess, Source
from ktests.pci import PciDevice
from uapi import probe, vfio
from uapi.closing import Closing


@dataclass(frozen=True)
class Site:
    """The part of the machine in which `Sign.look` looks for a sign.

    ``device`` has an ACPI companion and is bound to vfio-pci. ``firmware`` opens the test firmware.
    """

    device: PciDevice
    firmware: Callable[[], Firmware]


@dataclass(frozen=True)
class Sign:
    """The sign of a mechanism: a function that looks for the mechanism, and its expected result.

    ``look`` returns ``text`` if the kernel has the mechanism, and "" if the kernel does not have
    it. Any other result describes a uAPI that no known mechanism has. ``absent`` is the sentence
    that reports that the kernel does not have the mechanism. Signs are looked for in ascending
    order of ``rank``: 0 if ``look`` only queries the device's descriptor, 1 if ``look`` has the
    firmware notify the device.
    """

    look: Callable[[Site], str]
    text: str
    absent: str
    rank: int


@dataclass(frozen=True)
class Heard:
    """A notification that reached a process.

    ``source`` is the BDF of the notified device, or for another event its ACPI device class.
    ``value`` is the notification value.
    """

    source: str
    value: int


class Vmm(Closing, ABC):
    """A VMM that has one device and is registered for its notifications. A context manager."""

    device: PciDevice

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor that the VMM polls."""

    @abstractmethod
    def values(self) -> list[int]:
        """Return the notification values of the device that arrived since the last call.

        AssertionError if the mechanism lost a notification.
        """

    def pauses(self) -> Sequence[AbstractContextManager[None]]:
        """Return a context manager for each way to deregister while the device stays open.

        Its begin deregisters the VMM, and its end registers the VMM again.
        """
        return ()


class Mechanism(ABC):
    """The record of a mechanism: all that the tests and the detection need from it."""

    sign: ClassVar[Sign]

    registered_by_binding: ClassVar[bool]
    """Whether vfio-pci registers for a device's notifications on binding, even without a VMM."""

    refusal: ClassVar[int | None]
    """The errno of registering for a device without a companion; None if registering succeeds."""

    selftest: ClassVar[str] = ""
    """The program that the series adds to the kernel's VFIO selftests; "" if it adds none."""

    @property
    def name(self) -> str:
        """The name of the mechanism in the tables: the name of the module that holds the record."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def vmm(
        self,
        device: PciDevice,
        firmware: Firmware,
        family: probe.Family | None = None,
        *,
        open_method: str | None = None,
    ) -> Vmm:
        """Start a VMM on a device that is bound to vfio-pci, and return it.

        ``family`` is the acpi_event family, if the caller has already resolved it. ``open_method``
        selects how the device is opened: "cdev", "group", or None for either. A mechanism that does
        not open the device ignores it. UapiError if the kernel does not have the mechanism.
        """

    @abstractmethod
    def burst_source(
        self, device: PciDevice, firmware: Firmware, *, buffer: int | None = None
    ) -> BurstSource:
        """Open a burst source on a device that is bound to vfio-pci, and return it.

        ``buffer`` is the size of the receive buffer in bytes, if the mechanism uses a socket.
        """

    @abstractmethod
    def listen(self, devices: Sequence[PciDevice]) -> tuple[str, ...]:
        """Return the arguments that make ``python -m uapi listen`` listen to ``devices``."""

    @abstractmethod
    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Return the function that registers a confined VMM for notifications.

        A `ConfinedProcess` calls the returned function in the confined process, and then reads from
        the source that this function returns. ``fd`` is the descriptor of the VMM's open device,
        which the process inherits. ``family`` is the acpi_event family. Each mechanism uses only
        one of these two arguments.
        """

    @abstractmethod
    def received(
        self, confined_process: ConfinedProcess, device: vfio.Device, since: int
    ) -> list[bytes]:
        """Wait until the confined process has received every message that was sent to it.

        Returns the messages from index ``since`` on.
        """

    @abstractmethod
    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode the messages that the VMM of the device ``bdf`` received.

        Loopbacks, which only mark the end of the messages, are left out. AssertionError if the
        mechanism reports a lost notification.
        """
