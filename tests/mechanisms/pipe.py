# SPDX-License-Identifier: GPL-2.0-only
"""A mechanism of the tests' own: what firmware notifies goes through a pipe, without a kernel.

`Machine` is firmware and kernel in one: it writes the values of a device to the pipes of all VMMs
that have the device. Nothing of the project names this mechanism.
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ktests.burst_result import Tally, burst_result
from ktests.burst_source import NOT_SENT, Intake
from ktests.confined_process import Cell, Source
from ktests.mechanism import Heard, Mechanism, Sign, Site, Vmm
from ktests.pci import Device
from ktests.reader import Reader

WORD = struct.Struct("=H")
FIRST_OF_DEVICES = 0x80  # below it a value is for the system (ACPI 6.5, 5.6.6)


class Machine:
    """Has the methods of `ktests.acpi.Firmware` that tests call; the pipes are the kernel's part.

    ``delivers`` is False for one whose kernel does not have the mechanism.
    """

    def __init__(self, *, delivers: bool = True) -> None:
        self._delivers = delivers
        self._pipes: dict[str, list[int]] = defaultdict(list)

    def notify(self, method: str, value: int, *, step: int = 0, count: int = 1) -> None:
        """Notify the device that has the method, ``count`` times: value, value + step and so on."""
        for number in range(count):
            sent = value + number * step
            if self._delivers and sent >= FIRST_OF_DEVICES:
                for pipe in self._pipes[method]:
                    os.write(pipe, WORD.pack(sent & 0xFFFF))  # as ACPICA cuts it

    def flush_handlers(self) -> None:
        """Return at once: nothing is queued."""

    def register(self, method: str) -> tuple[int, int]:
        """Return the two ends of a new pipe, the one to read first."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._pipes[method].append(writing)
        return reading, writing

    def forget(self, method: str, writing: int) -> None:
        """Write no more to a pipe."""
        self._pipes[method].remove(writing)


def look(site: Site) -> str:
    """Describe the value that comes out of a pipe."""
    with RECORD.vmm(site.device, site.firmware()) as vmm:
        site.firmware().notify(site.device.method, 0x81)
        return "".join(f"the pipe gives {value:#x}" for value in vmm.values())


class PipeVmm(Vmm):
    """Has the reading end of a pipe."""

    def __init__(self, device: Device, machine: Any) -> None:
        self.device = device
        self._machine = machine
        self._ends: tuple[int, ...] = machine.register(device.method)

    def fileno(self) -> int:
        """Return the pipe."""
        return self._ends[0]

    def values(self) -> list[int]:
        """Read the pipe empty."""
        try:
            return [value for (value,) in WORD.iter_unpack(os.read(self.fileno(), 1 << 16))]
        except BlockingIOError:
            return []

    def pauses(self) -> Sequence[AbstractContextManager[None]]:
        """Leave the device and come back, with another pipe."""
        return (self._away(),)

    @contextmanager
    def _away(self) -> Iterator[None]:
        self.close()
        yield
        self._ends = self._machine.register(self.device.method)

    def close(self) -> None:
        """Close both ends; a second time does nothing."""
        ends, self._ends = self._ends, ()
        if ends:
            self._machine.forget(self.device.method, ends[1])
        for end in ends:
            os.close(end)


class PipeIntake(Intake):
    """The values of a burst differ."""

    def __init__(self, vmm: PipeVmm, machine: Any) -> None:
        self._vmm = vmm
        self._machine = machine
        self._sent = 0

    def fileno(self) -> int:
        """See `Intake`."""
        return self._vmm.fileno()

    def send(self, count: int) -> None:
        """See `Intake`."""
        self._sent = count
        self._machine.notify(self._vmm.device.method, FIRST_OF_DEVICES, step=1, count=count)

    def finish(self, reader: Reader) -> Tally:
        """See `Intake`."""
        reader.wait_idle()
        reader.stop()
        raw = b"".join(part for part in reader.taken if part is not None)
        values = [value - FIRST_OF_DEVICES for (value,) in WORD.iter_unpack(raw)]
        return burst_result(self._sent, [v if v >= 0 else NOT_SENT for v in values])

    def close(self) -> None:
        """End the VMM."""
        self._vmm.close()


class Pipe(Mechanism):
    """The VMM is given a pipe by the kernel."""

    sign = Sign(look, text="the pipe gives 0x81", absent="the pipe gives nothing", rank=2)
    registered_by_binding = False
    refusal = None

    def vmm(self, device: Device, firmware: Any, family: object = None, **_: object) -> PipeVmm:
        """Take a pipe; ``firmware`` is a `Machine`."""
        return PipeVmm(device, firmware)

    def burst_source(
        self, device: Device, firmware: Any, *, buffer: int | None = None
    ) -> PipeIntake:
        """Open a burst source that tells notifications apart by their values."""
        return PipeIntake(PipeVmm(device, firmware), firmware)

    def listen(self, devices: Sequence[Device]) -> tuple[str, ...]:
        """Name each device."""
        return tuple(f"--pipe={device.bdf}" for device in devices)

    def register(self, fd: int, family: object) -> Callable[[], Source]:
        """Read the pipe that was handed over."""
        return lambda: os.fdopen(fd, "rb", buffering=0)

    def received(self, confined_process: Cell, device: object, since: int) -> list[bytes]:
        """Take what the pipe holds."""
        confined_process.drain()
        return confined_process.messages(since)

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode the values, all of the VMM's own device."""
        return [Heard(bdf, value) for (value,) in WORD.iter_unpack(b"".join(messages))]


RECORD = Pipe()
