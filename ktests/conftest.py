# SPDX-License-Identifier: GPL-2.0-only
"""The fixtures of the tests: the machine's devices, the firmware, VMMs and a listener."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from ktests import acpi
from ktests.acpi import Firmware, Unrelated, short
from ktests.burst_source import BurstSource
from ktests.channel import Channel
from ktests.debugger import Debugger
from ktests.interrupt import InterruptedFirmware
from ktests.late_table import LateTable
from ktests.mechanism import Mechanism, Vmm
from ktests.mechanisms.eventfd import EventfdVmm
from ktests.pci import VFIO, PciDevice, Port
from ktests.recorder import Job
from uapi import acpi_event, probe

Bind = Callable[[str], PciDevice]
Measure = Callable[[str, float | str], None]
OpenBurstSource = Callable[..., BurstSource]
OpenLateTable = Callable[[], LateTable]


@pytest.fixture(scope="session")
def devices(job: Job) -> dict[str, PciDevice]:
    """Return the PCI functions of the test machine by name.

    RuntimeError if QEMU's firmware describes a device otherwise than ktests/machine.toml says
    (`check_description`): the results of the tests would then say nothing about the kernel.
    """
    by_name = {name: PciDevice(name, **facts) for name, facts in job.machine["devices"].items()}
    for device in by_name.values():
        check_description(device)
    return by_name


def check_description(device: PciDevice) -> None:
    """Raise RuntimeError if firmware describes ``device`` otherwise than ktests/machine.toml says.

    A device that only some versions of QEMU describe is not checked. Finding the firmware's object
    (`acpi.described`) takes a while; this is done only if the companion that the kernel has found
    differs from the table.
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
    """Return the test machine's hot-plug port, which is empty at the begin of the session."""
    return Port(**job.machine["port"])


@pytest.fixture
def late_table(job: Job, devices: dict[str, PciDevice]) -> OpenLateTable:
    """Return a function that loads the table that describes the device "bare"."""
    return partial(LateTable, devices["bare"], **job.machine["island"])


@pytest.fixture(scope="session")
def unrelated(job: Job) -> dict[str, Unrelated]:
    """Return the test firmware's ACPI devices that belong to no VMM, by name."""
    return {name: Unrelated(**facts) for name, facts in job.machine["unrelated"].items()}


@pytest.fixture(scope="session")
def firmware(unrelated: dict[str, Unrelated]) -> Iterator[Firmware]:
    """Open the ACPI debugger and yield the test firmware; close the debugger after the session."""
    with Debugger() as debugger:
        yield Firmware(debugger, unrelated["fence"])


@pytest.fixture(scope="session")
def interrupted(
    firmware: Firmware, unrelated: dict[str, Unrelated], host: Channel
) -> InterruptedFirmware:
    """Return the test firmware, which sends notifications on interrupts."""
    return InterruptedFirmware(firmware.debugger, unrelated["fence"], host)


@pytest.fixture(scope="session")
def bind(devices: dict[str, PciDevice]) -> Iterator[Callable[[str], PciDevice]]:
    """Yield a function that binds the device called ``name`` to vfio-pci and returns the device.

    It also disables the device's reset (`PciDevice.forgo_reset`). If the device is bound already,
    it is only returned. The devices stay bound until the end of the session. A test that needs an
    unbound device has to unbind it.
    """

    def bind(name: str) -> PciDevice:
        if devices[name].driver != VFIO:
            devices[name].bind()
            devices[name].forgo_reset()
        return devices[name]

    yield bind
    for device in devices.values():
        device.unbind()


@pytest.fixture(scope="session")
def family() -> probe.Family:
    """Return the acpi_event family, which is resolved once for the whole session."""
    return probe.family()


@pytest.fixture
def listener(family: probe.Family) -> Iterator[probe.Listener]:
    """Yield a listener of acpi_event whose buffer has room for every event of the largest burst."""
    with probe.Listener(buffer=64 << 20, known=family) as listener:
        yield listener


@pytest.fixture
def acpi_path() -> Iterator[Path]:
    """Yield the parameter that makes vfio-pci-core tell the paths of companions; unset it after."""
    parameter = Path("/sys/module/vfio_pci_core/parameters/acpi_path")
    yield parameter
    parameter.write_text("N")


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Measure:
    """Return a function that adds ``value`` to the test's result under ``name``."""

    def measure(name: str, value: float | str) -> None:
        request.node.user_properties.append((name, value))

    return measure


@pytest.fixture
def tell(host: Channel) -> Callable[[str], None]:
    """Return a function that prints a line on the terminal of the host, at once."""
    return lambda text: host.send("told", text=text)


class OpenEventfdVmm(Protocol):
    """The type of a function that starts a VMM with an eventfd on the device called ``name``.

    ``open_method`` selects how the device is opened: "cdev", "group", or None for either.
    """

    def __call__(self, name: str, *, open_method: str | None = None) -> EventfdVmm:
        """Start the VMM and return it."""


class OpenVmm(Protocol):
    """The type of a function that starts a VMM with the tested mechanism on the device ``name``.

    ``open_method`` is that of `Mechanism.vmm`: "cdev", "group", or None for either.
    """

    def __call__(self, name: str, *, open_method: str | None = None) -> Vmm:
        """Start the VMM and return it."""


@pytest.fixture
def eventfd_vmm(bind: Callable[[str], PciDevice], firmware: Firmware) -> Iterator[OpenEventfdVmm]:
    """Yield a function that starts a VMM with an eventfd; close the VMMs at the end of the test."""
    with ExitStack() as stack:

        def start(name: str, *, open_method: str | None = None) -> EventfdVmm:
            return stack.enter_context(EventfdVmm(bind(name), firmware, open_method))

        yield start


@pytest.fixture
def vmm(
    mechanism: Mechanism,
    bind: Callable[[str], PciDevice],
    firmware: Firmware,
    family: probe.Family,
) -> Iterator[OpenVmm]:
    """Yield a function that starts a VMM with the tested mechanism.

    The VMMs are closed at the end of the test.
    """
    with ExitStack() as stack:

        def start(name: str, *, open_method: str | None = None) -> Vmm:
            return stack.enter_context(
                mechanism.vmm(bind(name), firmware, family, open_method=open_method)
            )

        yield start


@pytest.fixture
def burst_source(mechanism: Mechanism, bind: Bind, firmware: Firmware) -> Iterator[OpenBurstSource]:
    """Yield a function that opens a burst source of the tested mechanism on the device ``name``.

    ``buffer`` is that of `Mechanism.burst_source`. The burst sources are closed at the end of the
    test.
    """
    with ExitStack() as stack:

        def start(name: str, *, buffer: int | None = None) -> BurstSource:
            return stack.enter_context(mechanism.burst_source(bind(name), firmware, buffer=buffer))

        yield start


class Watch:
    """Returns the acpi_event events that ``listener`` receives.

    Each method first waits until all queued Notify handlers have run. It returns the events since
    the last call of any of the methods.
    """

    def __init__(self, firmware: Firmware, listener: probe.Listener) -> None:
        self._firmware = firmware
        self._listener = listener

    def received(self) -> list[probe.Received]:
        """Return all events since the last call, decoded and as raw messages.

        AssertionError if the listener's buffer overran.
        """
        self._firmware.flush_handlers()
        got = list(self._listener.pending())
        lost = [item for item in got if isinstance(item, probe.Overrun)]
        assert not lost, "the listener's buffer overran"
        return [item for item in got if isinstance(item, probe.Received)]

    def events(self) -> list[acpi_event.Event]:
        """Do the same as `received`, but return only the decoded events."""
        return [item.event for item in self.received()]

    def vfio(self) -> list[tuple[str, int]]:
        """Do the same as `received`, but return BDF and value of each event of class "vfio_pci"."""
        return [
            (event.bus_id, event.type)
            for event in self.events()
            if event.device_class == acpi_event.VFIO_CLASS
        ]


@pytest.fixture
def watch(firmware: Firmware, listener: probe.Listener) -> Watch:
    """Return a `Watch` for all acpi_event events from the begin of the test on."""
    return Watch(firmware, listener)
