# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism "eventfd-count": an eventfd on VFIO_PCI_ACPI_IRQ_INDEX, which counts.

Each notification adds 1 to the counter. A VMM learns how many notifications there were, and none of
their values. The mechanism is the negative reference: it shows what is lost if notifications are
signalled as interrupts are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ktests import acpi_index
from ktests.acpi import Firmware
from ktests.burst_result import BurstResult, count_burst
from ktests.burst_source import NOT_SENT
from ktests.device_mechanism import DeviceBurstSource, IndexMechanism, IndexVmm
from ktests.mechanism import Heard, Sign
from ktests.pci import PciDevice
from uapi.eventfd import EventFd

# Stands for the value of a notification, which a VMM does not learn.
UNKNOWN = -1


# ---- a VMM -------------------------------------------------------------------------------------


class EventfdCountVmm(IndexVmm):
    """A VMM whose eventfd counts. ``semaphore`` is that of `EventFd`."""

    def __init__(
        self,
        device: PciDevice,
        firmware: Firmware,
        open_method: str | None,
        *,
        semaphore: bool = False,
    ) -> None:
        self._semaphore = semaphore
        super().__init__(device, firmware, open_method)

    def _new_eventfd(self) -> EventFd:
        return EventFd(semaphore=self._semaphore)

    def values(self) -> list[int]:
        """Return `UNKNOWN` for each notification since the last call."""
        self._firmware.flush_handlers()
        return [UNKNOWN] * (self.eventfd.read() or 0)


# ---- bursts ------------------------------------------------------------------------------------


class EventfdCountBurstSource(DeviceBurstSource[EventfdCountVmm]):
    """A burst source whose notifications differ by their values, none of which arrives."""

    def _count(self, taken: Sequence[bytes | None]) -> BurstResult:
        # A word that was read is no notification of the burst, since it has no value.
        return count_burst(self._sent, [NOT_SENT for raw in taken if raw])


# ---- the record --------------------------------------------------------------------------------


class EventfdCount(IndexMechanism):
    """The mechanism in which a VMM sets an eventfd on its open device, which counts."""

    sign = Sign(
        acpi_index.look,
        text="index 5 has flags 0x9 and count 1, and its loopback reads 0x1",
        absent=acpi_index.ABSENT,
        rank=0,
    )
    vmm_type = EventfdCountVmm
    burst_source_type = EventfdCountBurstSource
    kept = "the number of notifications"

    def seen(self, values: Sequence[int]) -> list[int]:
        """Return `UNKNOWN` for each value."""
        return [UNKNOWN for _ in values]

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Return a notification with the value `UNKNOWN` for each that the words count."""
        total = sum(int.from_bytes(message, sys.byteorder) for message in messages)
        return [Heard(bdf, UNKNOWN)] * total


RECORD = EventfdCount()
