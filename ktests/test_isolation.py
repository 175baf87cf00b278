# SPDX-License-Identifier: GPL-2.0-only
"""Isolation: compare the notifications that reach unprivileged processes with those that were sent.

Confined processes report through shared memory the messages that they have received. A listener in
the test's own process shows that the events of ACPI devices that belong to no VMM really occurred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from ktests import confinement
from ktests.acpi import Firmware, Unrelated
from ktests.channel import Channel
from ktests.confined import ConfinedVmm, expected_privileges, privileges
from ktests.confined_process import ConfinedError, ConfinedProcess, Source
from ktests.confinement import Confinement
from ktests.conftest import Measure, OpenVmm, Watch
from ktests.mechanism import Heard, Mechanism
from ktests.mechanisms.netlink import events, listening
from ktests.pci import PciDevice
from uapi import pci, probe
from uapi.errors import UapiError

Bind = Callable[[str], PciDevice]

ALPHA_VALUE = 0xA0
BETA_VALUE = 0xB0
COUNT = 8

ADAPTER_CLASS = "ac_adapter"
BUTTON_CLASS = "button/power"
LID_CLASS = "button/lid"
PRESSED = 0x80  # of buttons and lids: "status changed"
UNRELATED = {ADAPTER_CLASS: 4, BUTTON_CLASS: 1, LID_CLASS: 2}

# The lid's driver creates this folder.
LIDS = Path("/proc/acpi/button/lid")

CONFINEMENTS = pytest.mark.parametrize(
    "confined",
    [confinement.UNPRIVILEGED, confinement.FILTERED, confinement.SANDBOXED],
    ids=["unprivileged", "filtered", "sandboxed"],
)


class StartVmm(Protocol):
    """The type of a function that starts a confined VMM."""

    def __call__(self, name: str, confined: Confinement, *, strict: bool = False) -> ConfinedVmm:
        """Start a confined VMM on the device ``name`` and return it.

        A seccomp filter of ``confined`` also allows the system calls that the mechanism needs, but
        not if it is ``strict``.
        """


@pytest.fixture
def confined_vmm(
    mechanism: Mechanism, bind: Bind, firmware: Firmware, family: probe.Family
) -> Iterator[StartVmm]:
    """Yield a function that starts a confined VMM with the tested mechanism.

    AssertionError if the VMM has other privileges than its confinement leaves. The VMMs are ended
    at the end of the test.
    """
    with ExitStack() as stack:

        def start(name: str, confined: Confinement, *, strict: bool = False) -> ConfinedVmm:
            if confined.calls is not None and not strict:
                confined = replace(confined, calls=(*confined.calls, *mechanism.calls))
            vmm = ConfinedVmm(mechanism, bind(name), firmware, family, confined)
            stack.enter_context(vmm)
            assert privileges(vmm.confined_process) == expected_privileges(confined)
            return vmm

        yield start


class Sender:
    """Notifies ACPI devices that belong to no VMM, and counts the events with ``listener``."""

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
        """Notify AC adapter and lid as often as `UNRELATED` says, and press the power button.

        Returns the number of events that the unconfined listener has received, by device class; the
        lid causes none. AssertionError if the event of the power button does not arrive in 10 s.
        """
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
    """Return the `Sender` of events of the AC adapter, the lid and the power button."""
    return Sender(firmware, unrelated, host, listener)


def sent_to(vmm: ConfinedVmm, first: int) -> list[Heard]:
    """Return the notifications that a VMM has to receive if its device is notified `COUNT` times.

    Their values are ``first``, ``first`` + 1 and so on.
    """
    return vmm.seen(range(first, first + COUNT))


def opening(node: Path) -> Callable[[], Source]:
    """Return a function for `ConfinedProcess` that opens the device node and returns the file.

    It raises PermissionError if the confined process is not permitted to open the node.
    """
    return lambda: node.open("r+b", buffering=0)


def split(heard: list[Heard], own: list[Heard]) -> tuple[list[Heard], list[Heard]]:
    """Split ``heard`` into the notifications that are also in ``own``, and all others.

    The first list is sorted by value. If a notification is in ``heard`` more often than in ``own``,
    the additional ones are in the second list.
    """
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
    mechanism: Mechanism,
    vmm: OpenVmm,
    family: probe.Family,
    firmware: Firmware,
    measure: Measure,
    confined: Confinement,
) -> None:
    inside = vmm("alpha")
    with ConfinedProcess(listening(family), confined) as outside:
        assert privileges(outside) == expected_privileges(confined)
        firmware.notify(inside.device.method, ALPHA_VALUE, step=1, count=COUNT)
        values = inside.values()
        outside.drain()
        heard = events(outside.messages())
        measure("privilege", privileges(outside))
    measure(f"heard of {COUNT} by a process without any device", len(heard))
    assert sorted(values) == mechanism.seen([ALPHA_VALUE + step for step in range(COUNT)])
    assert heard == []


@pytest.mark.requirement("REQ-ISO-03")
def test_outsider_cannot_open(
    mechanism: Mechanism,
    vmm: OpenVmm,
    family: probe.Family,
    firmware: Firmware,
    measure: Measure,
) -> None:
    """Have a process without a device try to open a VMM's device; have another one use acpi_event.

    Opening any of the device's nodes must fail with PermissionError. On acpi_event, to which every
    process can listen, no notification of the device must arrive.
    """
    inside = vmm("alpha")
    nodes = [
        node
        for node in (pci.cdev_node(inside.device.bdf), pci.group_node(inside.device.bdf))
        if node
    ]
    assert nodes
    for node in nodes:
        with pytest.raises(ConfinedError, match="PermissionError"):
            ConfinedProcess(opening(node), confinement.UNPRIVILEGED)
    measure("refused to open", ", ".join(map(str, nodes)))
    with ConfinedProcess(listening(family), confinement.UNPRIVILEGED) as outside:
        firmware.notify(inside.device.method, ALPHA_VALUE)
        assert inside.values() == mechanism.seen([ALPHA_VALUE])
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
    mechanism: Mechanism,
    confined_vmm: StartVmm,
    firmware: Firmware,
    measure: Measure,
    confined: Confinement,
) -> None:
    vmm = confined_vmm("alpha", confined)
    # The open device, the eventfds, queue or socket by which the VMM receives, and the pipe of the
    # confined process.
    there = vmm.confined_process.descriptors
    assert len(there) == 2 + mechanism.descriptors, there
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
    vmm = confined_vmm("alpha", confinement.FILTERED, strict=True)
    firmware.notify(vmm.device.method, 0x80, step=1, count=count)
    own = vmm.seen(range(0x80, 0x80 + count))
    try:
        mine, _ = split(vmm.heard(), own)
    except ConfinedError as error:
        raise AssertionError("it needed another system call") from error
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
    """Notify the lid: its handler in drivers/acpi/button.c sends no event to acpi_event.

    The handler only reports the lid's state to the input layer.
    """
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
    assert sorted(carrier.values()) == mechanism.seen([0x90 + step for step in range(COUNT)])
    # The second function of the carrier's slot must not be notified either, whether it has a
    # companion of its own or not.
    assert not {bare.bdf, second.bdf} & {event.bus_id for event in watch.events()}
    if mechanism.refusal is not None:
        with pytest.raises(UapiError) as refused:
            vmm("bare")
        assert refused.value.errno == mechanism.refusal
