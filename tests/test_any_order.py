# SPDX-License-Identifier: GPL-2.0-only
"""The generated sequences of ktests/any_order.py, on devices that are objects of Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ktests import any_order
from ktests.any_order import World


@dataclass
class Device:
    """A device that hands each value to its VMM."""

    name: str
    vmm: Vmm | None = None

    @property
    def method(self) -> str:
        """Return what firmware is called with to notify it."""
        return self.name

    def unbind(self) -> None:
        """Check that no VMM has it."""
        assert self.vmm is None, "unbound while in use"


class Vmm:
    """A VMM, which reads from a pipe. ``fault`` decides about a value whether it is lost."""

    def __init__(self, device: Device, fault: Callable[[Vmm, int], bool]) -> None:
        self.device, self.fault = device, fault
        self.unread: list[int] = []
        self.read: list[int] = []
        self.ready, self.told = os.pipe()
        device.vmm = self

    def fileno(self) -> int:
        """Return the pipe."""
        return self.ready

    def take(self, value: int) -> None:
        """Receive a value."""
        if not self.fault(self, value):
            self.unread.append(value)
            os.write(self.told, b"x")

    def values(self) -> list[int]:
        """Return what was not read."""
        got, self.unread = self.unread, []
        if got:
            os.read(self.ready, len(got))
        self.read += got
        return got

    def pauses(self) -> Sequence[AbstractContextManager[None]]:
        """Return the one way to deregister."""
        return (self._without(),)

    @contextmanager
    def _without(self) -> Iterator[None]:
        self.device.vmm = None
        yield
        self.device.vmm = self

    def close(self) -> None:
        """End."""
        self.device.vmm = None
        os.close(self.ready)
        os.close(self.told)


@dataclass
class Fake:
    """The mechanism, and firmware."""

    fault: Callable[[Vmm, int], bool]
    devices: dict[str, Device] = field(default_factory=dict)
    of_all_devices = False
    notified: int = 0

    def bind(self, name: str) -> Device:
        """Return the device."""
        return self.devices.setdefault(name, Device(name))

    def vmm(self, device: Device, firmware: Any, family: Any) -> Vmm:
        """Start a VMM."""
        return Vmm(device, self.fault)

    def seen(self, values: list[int]) -> list[int]:
        """Return them."""
        return values

    def notify(self, method: str, value: int) -> None:
        """Notify a device."""
        self.notified += 1
        if (vmm := self.devices[method].vmm) is not None:
            vmm.take(value)

    def flush_handlers(self) -> None:
        """Do nothing."""


def run(fault: Callable[[Vmm, int], bool], *, seed: int = 1) -> Fake:
    fake = Fake(fault)
    firmware = cast(Any, fake)
    sources = {"debugger": firmware, "interrupt": firmware}
    any_order.run(World(firmware, firmware.bind, sources, firmware), seed, shrink=True)
    return fake


def test_a_right_mechanism_passes() -> None:
    assert run(lambda vmm, value: False).notified > 100


FAULTS: dict[str, Callable[[Vmm, int], bool]] = {
    "a value that repeats the last one read": lambda vmm, value: vmm.read[-1:] == [value],
    "the third unread one": lambda vmm, value: len(vmm.unread) == 2,
    "while another value waits": lambda vmm, value: value == 0xD1 and bool(vmm.unread),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_fault_is_found(fault: str, seed: int) -> None:
    with pytest.raises(AssertionError) as found:
        run(FAULTS[fault], seed=seed)
    steps = "\n".join(getattr(found.value, "__notes__", []))
    assert "state.start(" in steps
