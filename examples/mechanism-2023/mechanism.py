# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism of a proposal of 2023: an eventfd whose counter is the notification value.

A VMM sets an eventfd on interrupt index 5. A read(2) returns a 64-bit word, the value of one
notification; the kernel puts the next one into the counter after that. It queues 20 of them. A
loopback is a notification with the value 1, which firmware cannot send: values below 0x80 stay with
the operating system.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ktests.burst_result import BurstResult, count_burst
from ktests.burst_source import FIRST
from ktests.confined_process import ConfinedProcess
from ktests.device_mechanism import DeviceBurstSource, IndexMechanism, IndexVmm
from ktests.mechanism import Heard, Sign, Site
from ktests.reader import Reader
from uapi import vfio
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


class CounterVmm(IndexVmm):
    """A VMM whose eventfd gives one value at a time."""

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


class CounterBurstSource(DeviceBurstSource[CounterVmm]):
    """A burst source whose notifications differ by their values: `FIRST`, `FIRST` + 1 and so on."""

    def _wait(self, reader: Reader) -> None:
        """Wait until ``reader`` has read the loopback behind the burst."""
        self._vmm.vfio.loopback()
        # With several reading threads the loopback may not be the last one in the list.
        reader.wait_until(lambda: LOOPBACK in words(reader.taken[-8:]))

    def _count(self, taken: Sequence[bytes | None]) -> BurstResult:
        got = [word for word in words(taken) if word != LOOPBACK]
        return count_burst(self._sent, [word - FIRST for word in got])


class Counter(IndexMechanism):
    """The mechanism in which the counter of an eventfd is the value."""

    sign = Sign(
        look,
        text="index 5 is there, and its loopback reads 1",
        absent="index 5 is not there",
        rank=0,
    )
    vmm_type = CounterVmm
    burst_source_type = CounterBurstSource

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
