# SPDX-License-Identifier: GPL-2.0-only
"""Isolation: who hears what, in real processes without privileges, counted.

What firmware sends is known from the firmware's methods, and what arrived from each process's own
memory; a listener of the test's own tells that the events of other ACPI devices were there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from ktests import confinement
from ktests.acpi import Firmware, Unrelated
from ktests.channel import Channel
from ktests.confined import ConfinedVmm, expected_privileges, privileges
from ktests.confined_process import Cell, CellError, Source
from ktests.confinement import Confinement
from ktests.conftest import Measure, OpenVmm, Watch
from ktests.mechanism import Heard, Mechanism
from ktests.mechanisms.netlink import events, listening
from ktests.pci import Device
from uapi import pci, probe
from uapi.errors import UapiError

Bind = Callable[[str], Device]

ALPHA_VALUE = 0xA0
BETA_VALUE = 0xB0
COUNT = 8

ADAPTER_CLASS = "ac_adapter"
BUTTON_CLASS = "button/power"
LID_CLASS = "button/lid"
PRESSED = 0x80  # of buttons and lids: "status changed"
UNRELATED = {ADAPTER_CLASS: 4, BUTTON_CLASS: 1, LID_CLASS: 2}

# Made by the lid's driver.
LIDS = Path("/proc/acpi/button/lid")

CONFINEMENTS = pytest.mark.parametrize(
    "confined",
    [confinement.UNPRIVILEGED, confinement.FILTERED, confinement.SANDBOXED],
    ids=["unprivileged", "filtered", "sandboxed"],
)


class StartVmm(Protocol):
    """Start a confined VMM on the device of that name."""

    def __call__(self, name: str, confined: Confinement, *, via: str | None = None) -> ConfinedVmm:
        """Start it."""


@pytest.fixture
def confined_vmm(
    mechanism: Mechanism, bind: Bind, firmware: Firmware, family: probe.Family
) -> Iterator[StartVmm]:
    """Start confined VMMs with the mechanism that is tested; they end with the test."""
    with ExitStack() as stack:

        def start(name: str, confined: Confinement, *, via: str | None = None) -> ConfinedVmm:
            vmm = ConfinedVmm(mechanism, bind(name), firmware, family, confined, via=via)
            stack.enter_context(vmm)
            assert privileges(vmm.confined_process) == expected_privileges(confined)
            return vmm

        yield start


class Sender:
    """Causes events of devices that are none of a VMM's, and knows which ones were there."""

    def __init__(
        self,
        firmware: Firmware,
        unrelated: dict[str, Unrelated],
        host: Channel,
        listener: probe.Listener,
    ) -> None:
        self._firmware = firmware
        self._unrelated = unrelated
        self._host = host
        self._listener = listener

    def send(self) -> Counter[str]:
        """Cause all of UNRELATED; what of it an unconfined listener has heard, by class."""
        self._firmware.notify(
            self._unrelated["ac"].method, 0x90, step=1, count=UNRELATED[ADAPTER_CLASS]
        )
        self._firmware.notify(self._unrelated["lid"].method, PRESSED, count=UNRELATED[LID_CLASS])
        self._host.request("powerdown")
        got: Counter[str] = Counter()
        while not got[BUTTON_CLASS]:
            item = self._listener.receive(10.0)
            assert isinstance(item, probe.Received), "no event of the power button"
            got[item.event.device_class] += 1
        self._firmware.flush_handlers()
        rest = [item for item in self._listener.pending() if isinstance(item, probe.Received)]
        return got + Counter(item.event.device_class for item in rest)


@pytest.fixture
def sender(
    firmware: Firmware,
    unrelated: dict[str, Unrelated],
    host: Channel,
    listener: probe.Listener,
) -> Sender:
    """The host's other devices."""
    return Sender(firmware, unrelated, host, listener)


def sent_to(vmm: ConfinedVmm, first: int) -> list[Heard]:
    """What a VMM has to hear of COUNT notifications of its own device."""
    return [Heard(vmm.device.bdf, first + step) for step in range(COUNT)]


def opening(node: Path) -> Callable[[], Source]:
    """Register by opening the device, as whoever is allowed to does."""
    return lambda: node.open("r+b", buffering=0)


def split(heard: list[Heard], own: list[Heard]) -> tuple[list[Heard], list[Heard]]:
    """Divide what was heard into what of ``own`` is in it, in any order, and the rest."""
    left = Counter(own)
    mine: list[Heard] = []
    foreign: list[Heard] = []
    for item in heard:
        left[item] -= 1
        (mine if left[item] >= 0 else foreign).append(item)
    return sorted(mine, key=lambda item: item.value), foreign


@pytest.mark.requirement("REQ-ISO-01")
@CONFINEMENTS
def test_two_vmms(
    confined_vmm: StartVmm, firmware: Firmware, measure: Measure, confined: Confinement
) -> None:
    vmms = {name: confined_vmm(name, confined) for name in ("alpha", "beta")}
    firsts = {"alpha": ALPHA_VALUE, "beta": BETA_VALUE}
    for name, vmm in vmms.items():
        firmware.notify(vmm.device.method, firsts[name], step=1, count=COUNT)
    own = {name: sent_to(vmm, firsts[name]) for name, vmm in vmms.items()}
    got = {name: split(vmm.heard(), own[name]) for name, vmm in vmms.items()}
    measure("privilege", privileges(vmms["alpha"].confined_process))
    for name, (mine, foreign) in got.items():
        measure(f"{name}'s VMM heard of its own {COUNT}", len(mine))
        measure(f"{name}'s VMM heard of the other's {COUNT}", len(foreign))
    assert {name: mine for name, (mine, _) in got.items()} == own
    assert {name: foreign for name, (_, foreign) in got.items()} == {"alpha": [], "beta": []}


@pytest.mark.requirement("REQ-ISO-02")
@CONFINEMENTS
def test_unrelated_devices(
    confined_vmm: StartVmm,
    sender: Sender,
    firmware: Firmware,
    measure: Measure,
    confined: Confinement,
) -> None:
    vmm = confined_vmm("alpha", confined)
    there = sender.send()
    firmware.notify(vmm.device.method, ALPHA_VALUE, step=1, count=COUNT)
    own = sent_to(vmm, ALPHA_VALUE)
    mine, foreign = split(vmm.heard(), own)
    measure("privilege", privileges(vmm.confined_process))
    measure(f"heard of its own {COUNT}", len(mine))
    for name, count in UNRELATED.items():
        measure(f"{name}: sent", count)
        measure(f"{name}: at acpi_event", there[name])
        measure(f"{name}: heard by the VMM", sum(item.source == name for item in foreign))
    assert mine == own
    assert foreign == []


@pytest.mark.requirement("REQ-ISO-03")
@pytest.mark.parametrize(
    "confined",
    [confinement.UNPRIVILEGED, confinement.FILTERED],
    ids=["unprivileged", "filtered"],
)
def test_outsider(
    vmm: OpenVmm,
    family: probe.Family,
    firmware: Firmware,
    measure: Measure,
    confined: Confinement,
) -> None:
    inside = vmm("alpha")
    with Cell(listening(family), confined) as outside:
        assert privileges(outside) == expected_privileges(confined)
        firmware.notify(inside.device.method, ALPHA_VALUE, step=1, count=COUNT)
        values = inside.values()
        outside.drain()
        heard = events(outside.messages())
        measure("privilege", privileges(outside))
    measure(f"heard of {COUNT} by a process without any device", len(heard))
    assert sorted(values) == [ALPHA_VALUE + step for step in range(COUNT)]
    assert heard == []


@pytest.mark.requirement("REQ-ISO-03")
def test_outsider_cannot_open(
    vmm: OpenVmm, family: probe.Family, firmware: Firmware, measure: Measure
) -> None:
    """What was not handed to a process it can try to open; and acpi_event is open to all."""
    inside = vmm("alpha")
    nodes = [
        node
        for node in (pci.cdev_node(inside.device.bdf), pci.group_node(inside.device.bdf))
        if node
    ]
    assert nodes
    for node in nodes:
        with pytest.raises(CellError, match="PermissionError"):
            Cell(opening(node), confinement.UNPRIVILEGED)
    measure("refused to open", ", ".join(map(str, nodes)))
    with Cell(listening(family), confinement.UNPRIVILEGED) as outside:
        firmware.notify(inside.device.method, ALPHA_VALUE)
        assert inside.values() == [ALPHA_VALUE]
        outside.drain()
        heard = events(outside.messages())
    measure("heard of 1 by a process without any device", len(heard))
    assert heard == []


@pytest.mark.requirement("REQ-ISO-04")
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_handed_device(
    confined_vmm: StartVmm, firmware: Firmware, measure: Measure, name: str
) -> None:
    vmm = confined_vmm(name, confinement.UNPRIVILEGED)
    firmware.notify(vmm.device.method, ALPHA_VALUE, step=1, count=COUNT)
    own = sent_to(vmm, ALPHA_VALUE)
    mine, _ = split(vmm.heard(), own)
    measure("privilege", privileges(vmm.confined_process))
    measure(f"heard of its own {COUNT}", len(mine))
    assert mine == own


@pytest.mark.requirement("REQ-ISO-05")
@pytest.mark.parametrize(
    "confined",
    [confinement.NAMESPACED, confinement.SANDBOXED],
    ids=["namespaced", "sandboxed"],
)
def test_namespaces(
    confined_vmm: StartVmm, firmware: Firmware, measure: Measure, confined: Confinement
) -> None:
    vmm = confined_vmm("alpha", confined)
    # The device, what the VMM registered itself, and the pipe that ends the cell.
    assert len(vmm.confined_process.descriptors) == 3, vmm.confined_process.descriptors
    assert vmm.confined_process.status["NSpid"].split() == [str(vmm.confined_process.pid), "1"]
    firmware.notify(vmm.device.method, ALPHA_VALUE, step=1, count=COUNT)
    own = sent_to(vmm, ALPHA_VALUE)
    mine, foreign = split(vmm.heard(), own)
    measure("privilege", privileges(vmm.confined_process))
    measure(f"heard of its own {COUNT}", len(mine))
    assert (mine, foreign) == (own, [])


@pytest.mark.requirement("REQ-ISO-06")
@pytest.mark.parametrize("count", [1, 64])
def test_seccomp(confined_vmm: StartVmm, firmware: Firmware, measure: Measure, count: int) -> None:
    vmm = confined_vmm("alpha", confinement.FILTERED)
    firmware.notify(vmm.device.method, 0x80, step=1, count=count)
    own = [Heard(vmm.device.bdf, 0x80 + step) for step in range(count)]
    mine, _ = split(vmm.heard(), own)
    measure("privilege", privileges(vmm.confined_process))
    measure(f"heard of its own {count}", len(mine))
    assert mine == own
    assert vmm.confined_process.close() == 0, "it needed another system call"


@pytest.mark.requirement("REQ-ISO-07")
@pytest.mark.parametrize("value", [0x80, 0x81, 0xFF], ids=hex)
def test_adapter(
    bind: Bind, unrelated: dict[str, Unrelated], firmware: Firmware, watch: Watch, value: int
) -> None:
    bind("alpha")
    firmware.notify(unrelated["ac"].method, value)
    [event] = watch.events()
    assert (event.device_class, event.type, event.data) == (ADAPTER_CLASS, value, 1)
    assert event.bus_id == unrelated["ac"].folder.name


@pytest.mark.requirement("REQ-ISO-07")
def test_power_button(bind: Bind, host: Channel, listener: probe.Listener) -> None:
    bind("alpha")
    host.request("powerdown")
    got = listener.receive(10.0)
    assert isinstance(got, probe.Received), "no event of the power button"
    assert (got.event.device_class, got.event.bus_id) == (BUTTON_CLASS, "LNXPWRBN:00")
    assert got.event.type == PRESSED


@pytest.mark.requirement("REQ-ISO-07")
def test_lid(bind: Bind, unrelated: dict[str, Unrelated], firmware: Firmware, watch: Watch) -> None:
    """acpi_lid_notify() (drivers/acpi/button.c) tells the input layer, and never acpi_event."""
    bind("alpha")
    assert list(LIDS.glob("*/state")), "the lid has no driver"
    firmware.notify(unrelated["lid"].method, PRESSED)
    firmware.notify(unrelated["ac"].method, 0x90)
    assert [event.device_class for event in watch.events()] == [ADAPTER_CLASS]


@pytest.mark.requirement("REQ-ISO-08")
def test_no_companion(
    mechanism: Mechanism, bind: Bind, vmm: OpenVmm, firmware: Firmware, watch: Watch
) -> None:
    bare, second = bind("bare"), bind("second")
    assert bare.companion == ""
    carrier = vmm("carrier")
    firmware.notify(carrier.device.method, 0x90, step=1, count=COUNT)
    assert sorted(carrier.values()) == [0x90 + step for step in range(COUNT)]
    # Neither is the function beside it notified, whether it has a companion of its own or not.
    assert not {bare.bdf, second.bdf} & {event.bus_id for event in watch.events()}
    if mechanism.refusal is not None:
        with pytest.raises(UapiError) as refused:
            vmm("bare")
        assert refused.value.errno == mechanism.refusal
