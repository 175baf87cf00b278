# SPDX-License-Identifier: GPL-2.0-only
"""What the tests are given: the machine's devices, the firmware, a listener."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from ktests import acpi
from ktests.acpi import Firmware, Unrelated, short
from ktests.debugger import Debugger
from ktests.mechanism import Mechanism, Vmm
from ktests.mechanisms.eventfd import EventfdVmm
from ktests.pci import VFIO, Device, Port
from ktests.recorder import Job
from uapi import acpi_event, probe

Measure = Callable[[str, float | str], None]


@pytest.fixture(scope="session")
def devices(job: Job) -> dict[str, Device]:
    """The PCI functions of the machine by name.

    RuntimeError if QEMU's firmware does not describe them as the machine's table says: what the
    tests would then tell is nothing about the kernel.
    """
    found = {name: Device(name, **facts) for name, facts in job.machine["devices"].items()}
    for device in found.values():
        check_description(device)
    return found


def check_description(device: Device) -> None:
    """Raise RuntimeError if firmware describes the device otherwise than the machine's table.

    Firmware is asked only where the kernel's companion is not that of the table: it takes a while.
    """
    if not device.path and not device.bare:
        return
    companion = device.companion
    if (short(companion) if companion else "") == device.path:
        return
    described = acpi.described(device)
    if described != device.path:
        raise RuntimeError(
            f"QEMU describes {device.name} ({device.bdf}) as {described or 'nothing'}, and "
            f"ktests/machine.toml says {device.path or 'nothing'}: look at QEMU's DSDT"
        )


@pytest.fixture(scope="session")
def port(job: Job) -> Port:
    """The empty hot-plug port."""
    return Port(**job.machine["port"])


@pytest.fixture(scope="session")
def unrelated(job: Job) -> dict[str, Unrelated]:
    """The ACPI devices that are none of a VMM's business, by name."""
    return {name: Unrelated(**facts) for name, facts in job.machine["unrelated"].items()}


@pytest.fixture(scope="session")
def firmware(unrelated: dict[str, Unrelated]) -> Iterator[Firmware]:
    """The test firmware."""
    with Debugger() as debugger:
        yield Firmware(debugger, unrelated["fence"])


@pytest.fixture(scope="session")
def bind(devices: dict[str, Device]) -> Iterator[Callable[[str], Device]]:
    """Bind devices to vfio-pci by name.

    They stay bound until the session ends: a test that needs one unbound unbinds it.
    """

    def bind(name: str) -> Device:
        if devices[name].driver != VFIO:
            devices[name].bind()
            devices[name].forgo_reset()
        return devices[name]

    yield bind
    for device in devices.values():
        device.unbind()


@pytest.fixture(scope="session")
def family() -> probe.Family:
    """The acpi_event family, asked for once."""
    return probe.family()


@pytest.fixture
def listener(family: probe.Family) -> Iterator[probe.Listener]:
    """A listener with room for every event of the largest burst."""
    with probe.Listener(buffer=64 << 20, known=family) as listener:
        yield listener


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Measure:
    """Put a measured value into the test's record."""

    def measure(name: str, value: float | str) -> None:
        request.node.user_properties.append((name, value))

    return measure


class OpenEventfdVmm(Protocol):
    """Start a VMM on the device of that name; ``via`` is the path: "cdev", "group", None: any."""

    def __call__(self, name: str, *, via: str | None = None) -> EventfdVmm:
        """Start it."""


class OpenVmm(Protocol):
    """Start a VMM on the device of that name, with the mechanism that is tested."""

    def __call__(self, name: str, *, via: str | None = None) -> Vmm:
        """Start it."""


@pytest.fixture
def eventfd_vmm(bind: Callable[[str], Device], firmware: Firmware) -> Iterator[OpenEventfdVmm]:
    """Start VMMs that use an eventfd; they end with the test."""
    with ExitStack() as stack:

        def start(name: str, *, via: str | None = None) -> EventfdVmm:
            return stack.enter_context(EventfdVmm(bind(name), firmware, via))

        yield start


@pytest.fixture
def vmm(
    mechanism: Mechanism,
    bind: Callable[[str], Device],
    firmware: Firmware,
    family: probe.Family,
) -> Iterator[OpenVmm]:
    """Start VMMs that use the mechanism; they end with the test."""
    with ExitStack() as stack:

        def start(name: str, *, via: str | None = None) -> Vmm:
            return stack.enter_context(mechanism.vmm(bind(name), firmware, family, via=via))

        yield start


class Watch:
    """What came, once everything that could come has come."""

    def __init__(self, firmware: Firmware, listener: probe.Listener) -> None:
        self._firmware = firmware
        self._listener = listener

    def received(self) -> list[probe.Received]:
        """Every event since the last call; fails on a lost one."""
        self._firmware.flush_handlers()
        got = list(self._listener.pending())
        lost = [item for item in got if isinstance(item, probe.Overrun)]
        assert not lost, "the listener's buffer overran"
        return [item for item in got if isinstance(item, probe.Received)]

    def events(self) -> list[acpi_event.Event]:
        """The events alone."""
        return [item.event for item in self.received()]

    def vfio(self) -> list[tuple[str, int]]:
        """Of each event for a VMM, its bus id and value."""
        return [
            (event.bus_id, event.type)
            for event in self.events()
            if event.device_class == acpi_event.VFIO_CLASS
        ]


@pytest.fixture
def watch(firmware: Firmware, listener: probe.Listener) -> Watch:
    """A watch on all events from now on."""
    return Watch(firmware, listener)
