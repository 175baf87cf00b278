# SPDX-License-Identifier: GPL-2.0-only
"""A mechanism for the harness's own tests: notifications go through a pipe, without a kernel.

`Machine` stands for firmware and kernel: it writes the values of a device's notifications to the
pipes of all VMMs that have the device. No other file of the project names this mechanism.
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ktests.burst_result import BurstResult, count_burst
from ktests.burst_source import NOT_SENT, BurstSource
from ktests.confined_process import ConfinedProcess, Source
from ktests.mechanism import Heard, Mechanism, Sign, Site, Vmm
from ktests.pci import PciDevice
from ktests.reader import Reader

WORD = struct.Struct("=H")
FIRST_OF_DEVICES = 0x80  # values below are for the system (ACPI 6.5, 5.6.6)


class Machine:
    """A fake of firmware and kernel, with the methods of `ktests.acpi.Firmware` that tests call.

    With ``delivers`` False it fakes a kernel that does not have the mechanism.
    """

    def __init__(self, *, delivers: bool = True) -> None:
        self._delivers = delivers
        self._pipes: dict[str, list[int]] = defaultdict(list)

    def notify(self, method: str, value: int, *, step: int = 0, count: int = 1) -> None:
        """Notify the device of ``method`` ``count`` times: value, value + step and so on.

        Each value is written to each of the device's pipes as 16 bits in the host's byte order.
        Values for the system (below `FIRST_OF_DEVICES`) are not delivered.
        """
        for number in range(count):
            sent = value + number * step
            if self._delivers and sent >= FIRST_OF_DEVICES:
                for pipe in self._pipes[method]:
                    os.write(pipe, WORD.pack(sent & 0xFFFF))  # ACPICA also cuts to 16 bits

    def flush_handlers(self) -> None:
        """Do nothing: no handler is ever queued."""

    def register(self, method: str) -> tuple[int, int]:
        """Create a pipe for the device of ``method``. Returns its reading and its writing end."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._pipes[method].append(writing)
        return reading, writing

    def forget(self, method: str, writing: int) -> None:
        """Stop writing to the pipe with the end ``writing``."""
        self._pipes[method].remove(writing)


def look(site: Site) -> str:
    """Notify the device and describe the value that its pipe gives, for `Sign.look`."""
    with RECORD.vmm(site.device, site.firmware()) as vmm:
        site.firmware().notify(site.device.method, 0x81)
        return "".join(f"the pipe gives {value:#x}" for value in vmm.values())


class PipeVmm(Vmm):
    """A VMM that reads its notifications from a pipe."""

    def __init__(self, device: PciDevice, machine: Any) -> None:
        self.device = device
        self._machine = machine
        self._ends: tuple[int, ...] = machine.register(device.method)

    def fileno(self) -> int:
        """Return the reading end of the pipe."""
        return self._ends[0]

    def values(self) -> list[int]:
        """Read the pipe and return the values in it, [] if it is empty."""
        try:
            return [value for (value,) in WORD.iter_unpack(os.read(self.fileno(), 1 << 16))]
        except BlockingIOError:
            return []

    def pauses(self) -> Sequence[AbstractContextManager[None]]:
        """See `Vmm.pauses`. There is one way: close the pipe, and create another one later."""
        return (self._away(),)

    @contextmanager
    def _away(self) -> Iterator[None]:
        self.close()
        yield
        self._ends = self._machine.register(self.device.method)

    def close(self) -> None:
        """Close both ends of the pipe. A second call does nothing."""
        ends, self._ends = self._ends, ()
        if ends:
            self._machine.forget(self.device.method, ends[1])
        for end in ends:
            os.close(end)


class PipeBurstSource(BurstSource):
    """A burst source that numbers its notifications by their values."""

    def __init__(self, vmm: PipeVmm, machine: Any) -> None:
        self._vmm = vmm
        self._machine = machine
        self._sent = 0

    def fileno(self) -> int:
        """See `BurstSource`."""
        return self._vmm.fileno()

    def send(self, count: int) -> None:
        """See `BurstSource`."""
        self._sent = count
        self._machine.notify(self._vmm.device.method, FIRST_OF_DEVICES, step=1, count=count)

    def finish(self, reader: Reader) -> BurstResult:
        """See `BurstSource`."""
        reader.wait_idle()
        reader.stop()
        raw = b"".join(part for part in reader.taken if part is not None)
        values = [value - FIRST_OF_DEVICES for (value,) in WORD.iter_unpack(raw)]
        return count_burst(self._sent, [v if v >= 0 else NOT_SENT for v in values])

    def close(self) -> None:
        """End the VMM."""
        self._vmm.close()


class Pipe(Mechanism):
    """The kernel, which `Machine` fakes, gives each VMM a pipe."""

    sign = Sign(look, text="the pipe gives 0x81", absent="the pipe gives nothing", rank=2)
    registered_by_binding = False
    refusal = None

    def vmm(self, device: PciDevice, firmware: Any, family: object = None, **_: object) -> PipeVmm:
        """Return a VMM with a new pipe. ``firmware`` is a `Machine`."""
        return PipeVmm(device, firmware)

    def burst_source(
        self, device: PciDevice, firmware: Any, *, buffer: int | None = None
    ) -> PipeBurstSource:
        """Open a burst source that distinguishes notifications by their values."""
        return PipeBurstSource(PipeVmm(device, firmware), firmware)

    def listen(self, devices: Sequence[PciDevice]) -> tuple[str, ...]:
        """Return an option ``--pipe`` for each device."""
        return tuple(f"--pipe={device.bdf}" for device in devices)

    def register(self, fd: int, family: object) -> Callable[[], Source]:
        """Return a function that opens the pipe with the descriptor ``fd``."""
        return lambda: os.fdopen(fd, "rb", buffering=0)

    def received(
        self, confined_process: ConfinedProcess, device: object, since: int
    ) -> list[bytes]:
        """Wait until the process has read the pipe empty. Returns the messages since ``since``."""
        confined_process.drain()
        return confined_process.messages(since)

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode the values. All are notifications of the VMM's own device."""
        return [Heard(bdf, value) for (value,) in WORD.iter_unpack(b"".join(messages))]


RECORD = Pipe()
