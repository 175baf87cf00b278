# SPDX-License-Identifier: GPL-2.0-only
"""The group ``acpi_notify`` of acpi_event: whole values, numbers and paths, for the privileged.

The expected bytes are literals here on purpose: a test that took them from the library under test
could not find an error of the library.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from itertools import pairwise

import pytest

from ktests import confinement, libc
from ktests.acpi import Firmware, Unrelated
from ktests.channel import Channel
from ktests.confined import expected_privileges, privileges
from ktests.confined_process import ConfinedError, ConfinedProcess
from ktests.confinement import Confinement
from ktests.conftest import Measure, Watch
from ktests.pci import PciDevice
from uapi import acpi_event, probe
from uapi.probe import NotifyListener, Overrun

Bind = Callable[[str], PciDevice]

# The receive buffer of a listener in bytes: room for each message of a test.
BUFFER = 1 << 20

WIDE_VALUES = (0x100, 0x181, 0x1FF, 0xFFFF, 0x10181, 0x8000_D1D2)

CONFINEMENTS = pytest.mark.parametrize(
    "confined",
    [confinement.UNPRIVILEGED, confinement.FILTERED, confinement.SANDBOXED],
    ids=["unprivileged", "filtered", "sandboxed"],
)


def join(family: probe.Family) -> NotifyListener:
    """Join the group and return the listener. OSError if the kernel does not have the group."""
    return NotifyListener(buffer=BUFFER, known=family)


def heard(firmware: Firmware, listener: NotifyListener) -> list[acpi_event.Notify]:
    """Wait until all queued Notify handlers have run, and return the notifications since then.

    AssertionError if the listener's buffer overran.
    """
    firmware.flush_handlers()
    got = list(listener.pending())
    assert Overrun() not in got, "the listener's buffer overran"
    return [item for item in got if isinstance(item, acpi_event.Notify)]


def attribute(kind: int, payload: bytes) -> bytes:
    """Return a netlink attribute: its header, the payload, and padding to 4 bytes."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


# ---- the message ---------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-EVT-40")
@pytest.mark.parametrize("name", ["alpha", "beta", "carrier"])
def test_message(bind: Bind, firmware: Firmware, family: probe.Family, name: str) -> None:
    device = bind(name)
    with join(family) as listener:
        firmware.notify(device.method, 0xD1)
        firmware.flush_handlers()
        raw = os.read(listener.fileno(), 4096)
        assert listener.read(0) is None, "and nothing else"
    [number] = struct.unpack_from(
        "=I", raw, 20 + len(attribute(1, device.bdf.encode() + b"\0")) + 12
    )
    body = (
        attribute(1, device.bdf.encode() + b"\0")
        + attribute(2, struct.pack("=I", 0xD1))
        + attribute(3, struct.pack("=I", number))
        + attribute(4, device.companion.encode() + b"\0")
    )
    head = struct.pack("=IHHII", 20 + len(body), family.id, 0, 0, 0) + bytes([2, 1, 0, 0])
    assert raw == head + body


@pytest.mark.requirement("REQ-EVT-41")
@pytest.mark.parametrize("value", WIDE_VALUES, ids=hex)
def test_whole_value(bind: Bind, firmware: Firmware, family: probe.Family, value: int) -> None:
    device = bind("alpha")
    with join(family) as listener:
        firmware.notify(device.method, value)
        assert [item.value for item in heard(firmware, listener)] == [value & 0xFFFF]


# Since v6.8 Linux runs the handlers of a burst on several CPUs at once.
@pytest.mark.requirement("REQ-EVT-42")
@pytest.mark.parametrize("count", [16, 512])
def test_order(bind: Bind, firmware: Firmware, family: probe.Family, count: int) -> None:
    device = bind("alpha")
    with join(family) as listener:
        firmware.notify(device.method, 0x80, count=count)
        numbers = [item.sequence for item in heard(firmware, listener)]
    assert numbers == list(range(numbers[0], numbers[0] + count))


@pytest.mark.requirement("REQ-EVT-42")
def test_each_device_has_its_numbers(bind: Bind, firmware: Firmware, family: probe.Family) -> None:
    devices = [bind(name) for name in ("alpha", "beta")]
    with join(family) as listener:
        firmware.notify_in_turn(0x80, 64)
        got = heard(firmware, listener)
    for device in devices:
        numbers = [item.sequence for item in got if item.bdf == device.bdf]
        assert numbers == list(range(numbers[0], numbers[0] + 64)), device.name


@pytest.mark.requirement("REQ-EVT-42")
def test_numbers_begin_with_binding(bind: Bind, firmware: Firmware, family: probe.Family) -> None:
    device = bind("alpha")
    firmware.notify(device.method, 0x80)
    firmware.flush_handlers()
    device.unbind()
    bind("alpha")
    with join(family) as listener:
        firmware.notify(device.method, 0x80, count=3)
        assert [item.sequence for item in heard(firmware, listener)] == [0, 1, 2]


# ---- loss ----------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-40")
def test_overrun(bind: Bind, firmware: Firmware, family: probe.Family, measure: Measure) -> None:
    device = bind("alpha")
    with NotifyListener(buffer=4096, known=family) as slow:
        firmware.notify(device.method, 0x80, count=256)
        firmware.flush_handlers()
        first = list(slow.pending())
        firmware.notify(device.method, 0x81)
        [last] = heard(firmware, slow)
    kept = [item for item in first if isinstance(item, acpi_event.Notify)]
    assert first.count(Overrun()) == 1
    assert 0 < len(kept) < 256
    assert (last.value, last.lost) == (0x81, 256 - len(kept))
    measure("received of 256", len(kept))


@pytest.mark.requirement("REQ-DEL-40")
@pytest.mark.parametrize("count", [1, 64])
def test_while_nobody_listens(
    bind: Bind, firmware: Firmware, family: probe.Family, count: int
) -> None:
    device = bind("alpha")
    numbers = []
    for missed in (0, count):
        firmware.notify(device.method, 0x80, count=missed) if missed else None
        firmware.flush_handlers()
        with join(family) as listener:
            firmware.notify(device.method, 0x81)
            numbers += [item.sequence for item in heard(firmware, listener)]
    assert [after - before for before, after in pairwise(numbers)] == [count + 1]


# ---- the other group -----------------------------------------------------------------------------


@pytest.mark.requirement("REQ-INT-40")
def test_groups(family: probe.Family) -> None:
    assert list(family.groups) == ["acpi_mc_group", "acpi_notify"]


@pytest.mark.requirement("REQ-INT-41")
@pytest.mark.parametrize("value", [0xD1, 0x181], ids=hex)
def test_the_other_group_is_as_before(
    bind: Bind, firmware: Firmware, family: probe.Family, watch: Watch, value: int
) -> None:
    device = bind("alpha")
    with join(family) as listener:
        firmware.notify(device.method, value, count=8)
        assert len(heard(firmware, listener)) == 8
    got = watch.received()
    assert len(got) == 8
    numbers = sorted(item.event.sequence for item in got)
    assert numbers == list(range(numbers[0], numbers[0] + 8)), "each has the next number"
    payload = struct.pack("=20s15sxII", b"vfio_pci", device.bdf.encode(), value & 0xFF, 0)
    assert {item.raw[16:] for item in got} == {
        bytes([1, 1, 0, 0]) + struct.pack("=HH", 48, 1) + payload
    }


# ---- who receives what ---------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ISO-40")
@pytest.mark.parametrize(
    "confined",
    [confinement.UNPRIVILEGED, confinement.FILTERED],
    ids=["unprivileged", "filtered"],
)
def test_joining_is_refused(family: probe.Family, confined: Confinement) -> None:
    with (
        pytest.raises(ConfinedError, match="PermissionError"),
        ConfinedProcess(lambda: NotifyListener(known=family), confined),
    ):
        pass


@pytest.mark.requirement("REQ-ISO-40")
def test_joining_by_bind_is_refused(family: probe.Family) -> None:
    mask = 1 << family.groups["acpi_notify"] - 1

    def bound() -> socket.socket:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, probe.NETLINK_GENERIC)
        netlink.bind((0, mask))
        return netlink

    with (
        pytest.raises(ConfinedError, match="PermissionError"),
        ConfinedProcess(bound, confinement.UNPRIVILEGED),
    ):
        pass


# A user namespace of its own makes a process privileged in a network namespace that belongs to it.
@pytest.mark.requirement("REQ-ISO-40")
def test_joining_elsewhere_is_silent(bind: Bind, firmware: Firmware, family: probe.Family) -> None:
    device = bind("alpha")
    group = family.groups["acpi_notify"]

    def joined() -> socket.socket:
        libc.unshare(confinement.CLONE_NEWUSER | confinement.CLONE_NEWNET)
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, probe.NETLINK_GENERIC)
        netlink.bind((0, 0))
        netlink.setsockopt(probe.SOL_NETLINK, probe.NETLINK_ADD_MEMBERSHIP, group)
        return netlink

    with join(family) as listener, ConfinedProcess(joined, confinement.UNPRIVILEGED) as elsewhere:
        firmware.notify(device.method, 0xD1)
        assert len(heard(firmware, listener)) == 1
        elsewhere.drain()
        assert elsewhere.messages() == []


@pytest.mark.requirement("REQ-ISO-41")
@CONFINEMENTS
def test_handed_socket(
    bind: Bind,
    firmware: Firmware,
    family: probe.Family,
    measure: Measure,
    confined: Confinement,
) -> None:
    device = bind("alpha")
    with (
        join(family) as listener,
        ConfinedProcess(lambda: listener, confined, handed=(listener.fileno(),)) as vmm,
    ):
        assert privileges(vmm) == expected_privileges(confined)
        firmware.notify(device.method, 0x180, step=1, count=8)
        firmware.flush_handlers()
        vmm.drain()
        got = [acpi_event.decode_notify(message) for message in vmm.messages()]
        measure("privilege", privileges(vmm))
    assert sorted(item.value for item in got) == list(range(0x180, 0x188))
    assert {item.bdf for item in got} == {device.bdf}


@pytest.mark.requirement("REQ-ISO-42")
def test_unrelated_devices(
    bind: Bind,
    firmware: Firmware,
    unrelated: dict[str, Unrelated],
    host: Channel,
    family: probe.Family,
    listener: probe.Listener,
) -> None:
    device = bind("alpha")
    with join(family) as privileged:
        firmware.notify(unrelated["ac"].method, 0x90)
        firmware.notify(unrelated["lid"].method, 0x80)
        host.request("powerdown")
        classes = set()
        while "button/power" not in classes:
            item = listener.receive(10.0)
            assert isinstance(item, probe.Received), "no event of the power button"
            classes.add(item.event.device_class)
        firmware.notify(device.method, 0xD1)
        assert [item.bdf for item in heard(firmware, privileged)] == [device.bdf]
    assert "ac_adapter" in classes
