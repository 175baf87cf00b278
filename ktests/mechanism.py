# SPDX-License-Identifier: GPL-2.0-only
"""The interface of a mechanism's record, `Mechanism`.

A record defines how a VMM uses the mechanism, and by what sign a kernel is found to have it. Each
module of `ktests.mechanisms` holds one record. A test that takes the fixture ``mechanism`` calls
the methods of the record, and does not depend on which mechanism it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from ktests.acpi import Firmware
from ktests.burst_source import Intake
from ktests.confined_process import Cell, Source
from ktests.pci import Device
from uapi import probe, vfio
from uapi.closing import Closing


@dataclass(frozen=True)
class Site:
    """Where a sign is looked for: a device with a companion, bound to vfio-pci; the firmware."""

    device: Device
    firmware: Callable[[], Firmware]


@dataclass(frozen=True)
class Sign:
    """How a kernel shows the mechanism: ``look`` returns ``text`` if it has it, "" if it has not.

    Any other text describes a uAPI that is not this mechanism's. ``absent`` says in words that the
    kernel does not have it. Signs are looked for in the order of ``rank``: 0 for one that only asks
    the device's own descriptor, 1 for one that has firmware notify the device.
    """

    look: Callable[[Site], str]
    text: str
    absent: str
    rank: int


@dataclass(frozen=True)
class Heard:
    """A notification that reached a process: its source, as the process sees it, and its value."""

    source: str
    value: int


class Vmm(Closing, ABC):
    """A VMM with one device, registered for the device's notifications; a context manager."""

    device: Device

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor that the VMM polls."""

    @abstractmethod
    def values(self) -> list[int]:
        """Every value of the device since the last call; AssertionError if one was lost."""

    def pauses(self) -> Sequence[AbstractContextManager[None]]:
        """Return each way to leave off and register again with the device still open."""
        return ()


class Mechanism(ABC):
    """A mechanism, as a test and the detection need to know it."""

    sign: ClassVar[Sign]

    registered_by_binding: ClassVar[bool]
    """Whether vfio-pci registers for a device's notifications when it is bound, VMM or no VMM."""

    refusal: ClassVar[int | None]
    """errno of registering for a device without a companion; None: it is not refused."""

    @property
    def name(self) -> str:
        """The name in the tables: that of the module which holds the record."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def vmm(
        self,
        device: Device,
        firmware: Firmware,
        family: probe.Family | None = None,
        *,
        via: str | None = None,
    ) -> Vmm:
        """Start a VMM on a bound device; UapiError if the kernel does not have the mechanism.

        ``family`` is acpi_event, if it was asked for before. ``via`` is the path to the device:
        "cdev", "group", None for any; a mechanism without a descriptor of the device ignores it.
        """

    @abstractmethod
    def burst_source(
        self, device: Device, firmware: Firmware, *, buffer: int | None = None
    ) -> Intake:
        """Open a source of bursts; ``buffer`` is the size of a socket's in bytes, if it has one."""

    @abstractmethod
    def listen(self, devices: Sequence[Device]) -> tuple[str, ...]:
        """Return the arguments of ``python -m uapi listen`` that tell what to listen to."""

    @abstractmethod
    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Return the function that registers a confined VMM for notifications.

        A `Cell` calls that function in the confined process and reads from the source that it
        returns. ``fd`` is the descriptor of the VMM's open device, which the process was handed;
        ``family`` is acpi_event. A mechanism uses the one that it needs.
        """

    @abstractmethod
    def received(self, confined_process: Cell, device: vfio.Device, since: int) -> list[bytes]:
        """Return the messages from number ``since`` on, once the cell has all that was sent."""

    @abstractmethod
    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode messages of the VMM that has the device ``bdf``; AssertionError if any was lost.

        What only tells the end of the messages is left out.
        """
