# SPDX-License-Identifier: GPL-2.0-only
"""The devices, the firmware and the VMMs of the measurements."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ktests.acpi import Firmware, Unrelated
from ktests.channel import Channel
from ktests.debugger import Debugger
from ktests.interrupt import InterruptedFirmware
from ktests.measure.reference import InterruptClock, Reference
from ktests.mechanism import Mechanism, Vmm
from ktests.pci import PciDevice
from ktests.reader import Reader
from ktests.sleeper import SLEEPER, Sleeper
from uapi import probe
from uapi.closing import Closing

MEMINFO = Path("/proc/meminfo")
# The kernel folds the counters of each CPU into those of /proc/meminfo once a second
# (vm.stat_interval, mm/vmstat.c).
FOLD_SECONDS = 1.3


class PacedFirmware(Firmware):
    """The test firmware, which waits for a reader in the block of `paced`."""

    def __init__(self, debugger: Debugger, fence: Unrelated) -> None:
        super().__init__(debugger, fence)
        self._path = fence.path

    _reader: Reader | None = None
    _pace = 0

    @contextmanager
    def paced(self, reader: Reader, pace: int) -> Iterator[None]:
        """Have `notify` send no more than ``pace`` notifications before ``reader`` has read them.

        That is so in the block.
        """
        self._reader, self._pace = reader, pace
        try:
            yield
        finally:
            self._reader = None

    def flush_handlers(self) -> None:
        """Wait until every queued Notify handler has run, faster than by unbinding a driver."""
        Reference(self._path).close()

    def notify(self, method: str, value: int, *, step: int = 0, count: int = 1) -> None:
        """Do the same as `Firmware.notify`; in the block of `paced`, in paced pieces."""
        if self._reader is None:
            super().notify(method, value, step=step, count=count)
            return
        for sent in range(0, count, self._pace):
            piece = min(self._pace, count - sent)
            super().notify(method, value + sent * step, step=step, count=piece)
            self.flush_handlers()
            self._reader.wait_idle()


class Stand(Closing):
    """The machine for the measurements: every device with a companion is bound to vfio-pci.

    ``machine`` describes it (machine.json). ``mechanism`` is the record of the kernel's mechanism.
    ``host`` raises interrupts. ``devices`` are all that cannot sleep, ``sleeper`` is one that can.
    """

    def __init__(self, machine: dict[str, Any], mechanism: Mechanism, host: Channel) -> None:
        self.mechanism = mechanism
        self._unrelated = {name: Unrelated(**facts) for name, facts in machine["unrelated"].items()}
        devices = [PciDevice(name, **facts) for name, facts in machine["devices"].items()]
        described = [device for device in devices if device.path]
        self.devices = [device for device in described if device.name != SLEEPER]
        [self.sleeper] = (Sleeper(**vars(it)) for it in described if it.name == SLEEPER)
        with ExitStack() as stack:
            for device in described:
                device.bind()
                device.forgo_reset()
                stack.callback(device.unbind)
            debugger = stack.enter_context(Debugger())
            self.firmware = PacedFirmware(debugger, self._unrelated["fence"])
            self.interrupts = InterruptedFirmware(debugger, self._unrelated["fence"], host)
            self.clock = stack.enter_context(InterruptClock())
            self.family = probe.family()
            self._stack = stack.pop_all()

    @contextmanager
    def vmms(self, devices: Sequence[PciDevice]) -> Iterator[list[Vmm]]:
        """Start a VMM on each of ``devices`` and yield them; close them at the end of the block.

        A device may be named several times if the mechanism has several listeners.
        """
        with ExitStack() as stack:
            yield [
                stack.enter_context(self.mechanism.vmm(device, self.firmware, self.family))
                for device in devices
            ]

    def close(self) -> None:
        """Unbind the devices and close the debugger."""
        self._stack.close()


def slab() -> int:
    """Return the bytes of slab memory that the kernel cannot reclaim (SUnreclaim)."""
    time.sleep(FOLD_SECONDS)
    line = next(it for it in MEMINFO.read_text().splitlines() if it.startswith("SUnreclaim:"))
    return int(line.split()[1]) << 10
