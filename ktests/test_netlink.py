# SPDX-License-Identifier: GPL-2.0-only
"""The netlink mechanism: vfio-pci forwards a device's notifications as acpi_event multicasts.

Expected bytes are written out here once more, on purpose: a test that took them from the
decoder under test could not fail.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable

import pytest

from ktests.acpi import Firmware
from ktests.channel import Channel
from ktests.conftest import Measure, Watch
from ktests.pci import Device, Port
from uapi import probe

Bind = Callable[[str], Device]

HARDWARE_VALUES = (0x80, 0x81, 0xBF, 0xC0, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xFF)
WIDE_VALUES = (0x100, 0x181, 0x1FF, 0xFFFF)
BURSTS = (1, 2, 64, 256)


def hexadecimal(value: int) -> str:
    """Name a case by its value as one reads it in AML."""
    return f"{value:#x}"


@pytest.mark.requirement("REQ-EVT-01")
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_headers(bind: Bind, firmware: Firmware, watch: Watch, name: str) -> None:
    firmware.notify(bind(name).method, 0x81)
    [got] = watch.received()
    assert len(got.raw) == 68
    length, family, flags, _, port = struct.unpack_from("=IHHII", got.raw, 0)
    assert (length, family, flags, port) == (68, probe.family().id, 0, 0)
    assert got.raw[16:20] == bytes([1, 1, 0, 0]), "command, version, reserved"
    assert struct.unpack_from("=HH", got.raw, 20) == (48, 1), "length and type of the attribute"


@pytest.mark.requirement("REQ-EVT-02")
@pytest.mark.parametrize("name", ["alpha", "beta"])
@pytest.mark.parametrize("value", [0x80, 0xD1, 0xFF], ids=hexadecimal)
def test_payload(bind: Bind, firmware: Firmware, watch: Watch, name: str, value: int) -> None:
    device = bind(name)
    firmware.notify(device.method, value)
    [got] = watch.received()
    assert got.raw[24:44] == b"vfio_pci".ljust(20, b"\0")
    assert got.raw[44:60] == device.bdf.encode().ljust(16, b"\0")
    assert got.raw[60:68] == struct.pack("=II", value, 0)


@pytest.mark.requirement("REQ-EVT-03")
def test_sequence(bind: Bind, firmware: Firmware, watch: Watch) -> None:
    device = bind("alpha")
    firmware.notify(device.method, 0x80, count=16)
    numbers = [event.sequence for event in watch.events()]
    assert sorted(numbers) == list(range(min(numbers), min(numbers) + 16))


@pytest.mark.requirement("REQ-VAL-01")
@pytest.mark.parametrize("value", HARDWARE_VALUES, ids=hexadecimal)
def test_value(bind: Bind, firmware: Firmware, watch: Watch, value: int) -> None:
    device = bind("alpha")
    firmware.notify(device.method, value)
    assert watch.vfio() == [(device.bdf, value)]


@pytest.mark.requirement("REQ-VAL-02")
@pytest.mark.parametrize("value", [0x02, 0x40, 0x7F], ids=hexadecimal)
def test_system_value(bind: Bind, firmware: Firmware, watch: Watch, value: int) -> None:
    device = bind("alpha")
    firmware.notify(device.method, value)
    firmware.notify(device.method, 0x80)
    assert watch.vfio() == [(device.bdf, 0x80)]


@pytest.mark.requirement("REQ-VAL-03")
@pytest.mark.parametrize("value", WIDE_VALUES, ids=hexadecimal)
def test_wide_value(bind: Bind, firmware: Firmware, watch: Watch, value: int) -> None:
    device = bind("alpha")
    firmware.notify(device.method, value)
    assert watch.vfio() == [(device.bdf, value)]


# ACPICA picks the handler by the whole value and delivers it cut to 16 bits, so that 0x10000
# arrives at a handler for device notifications as 0; the event's type then takes 8 of these.
@pytest.mark.requirement("REQ-VAL-04")
@pytest.mark.parametrize("value", [*WIDE_VALUES, 0x10000], ids=hexadecimal)
def test_truncation(bind: Bind, firmware: Firmware, watch: Watch, value: int) -> None:
    device = bind("alpha")
    firmware.notify(device.method, value)
    assert watch.vfio() == [(device.bdf, value & 0xFF)]


@pytest.mark.requirement("REQ-DEV-01")
@pytest.mark.parametrize("name", ["alpha", "beta", "carrier"])
def test_identity(bind: Bind, firmware: Firmware, watch: Watch, name: str) -> None:
    for bound in ("alpha", "beta", "carrier"):
        bind(bound)
    device = bind(name)
    firmware.notify(device.method, 0xC0)
    assert watch.vfio() == [(device.bdf, 0xC0)]


@pytest.mark.requirement("REQ-DEV-02")
def test_two_devices(bind: Bind, firmware: Firmware, watch: Watch) -> None:
    alpha, beta = bind("alpha"), bind("beta")
    for offset in range(16):
        firmware.notify(alpha.method, 0x80 + offset)
        firmware.notify(beta.method, 0xC0 + offset)
    expected = [(alpha.bdf, 0x80 + offset) for offset in range(16)]
    expected += [(beta.bdf, 0xC0 + offset) for offset in range(16)]
    assert Counter(watch.vfio()) == Counter(expected)


@pytest.mark.requirement("REQ-DEV-03")
def test_no_companion(bind: Bind, firmware: Firmware, watch: Watch) -> None:
    carrier, bare = bind("carrier"), bind("bare")
    assert bare.companion == ""
    firmware.notify(carrier.method, 0x90)
    assert watch.vfio() == [(carrier.bdf, 0x90)]


@pytest.mark.requirement("REQ-DEL-01")
@pytest.mark.parametrize("count", BURSTS)
def test_burst(bind: Bind, firmware: Firmware, watch: Watch, count: int) -> None:
    device = bind("alpha")
    for value in (0x80, 0xFF):
        firmware.notify(device.method, value, count=count)
    assert Counter(watch.vfio()) == {(device.bdf, 0x80): count, (device.bdf, 0xFF): count}


@pytest.mark.requirement("REQ-DEL-02")
def test_overrun(bind: Bind, firmware: Firmware, measure: Measure) -> None:
    device = bind("alpha")
    with probe.Listener(buffer=4096) as slow:
        firmware.notify(device.method, 0x80, count=256)
        firmware.settle()
        first = list(slow.pending())
        firmware.notify(device.method, 0x81)
        firmware.settle()
        [last] = slow.pending()
    events = [item.event for item in first if isinstance(item, probe.Received)]
    assert isinstance(last, probe.Received)
    assert first.count(probe.Overrun()) == 1
    assert events and len(events) < 256
    gap = last.event.sequence - min(event.sequence for event in events) - len(events)
    assert gap == 256 - len(events)
    measure("received of 256", len(events))


@pytest.mark.requirement("REQ-LIF-01")
def test_unbound_device(
    bind: Bind, devices: dict[str, Device], firmware: Firmware, watch: Watch
) -> None:
    alpha, beta = bind("alpha"), devices["beta"]
    beta.unbind()
    assert beta.driver == ""
    firmware.notify(beta.method, 0x81)
    firmware.notify(alpha.method, 0x82)
    assert watch.vfio() == [(alpha.bdf, 0x82)]


@pytest.mark.requirement("REQ-LIF-02")
def test_unbind(bind: Bind, firmware: Firmware, watch: Watch) -> None:
    alpha, beta = bind("alpha"), bind("beta")
    firmware.notify(alpha.method, 0x81)
    assert watch.vfio() == [(alpha.bdf, 0x81)]
    alpha.unbind()
    firmware.notify(alpha.method, 0x82)
    firmware.notify(beta.method, 0x83)
    assert watch.vfio() == [(beta.bdf, 0x83)]


@pytest.mark.requirement("REQ-LIF-02")
def test_unbind_in_burst(bind: Bind, firmware: Firmware, watch: Watch) -> None:
    device = bind("alpha")
    # The burst's handlers are still queued when the AML is through; unbind has to wait for them.
    firmware.notify(device.method, 0x90, count=512)
    device.unbind()
    while_bound = watch.vfio()
    firmware.notify(device.method, 0x91, count=64)
    assert watch.vfio() == []
    assert while_bound == [(device.bdf, 0x90)] * len(while_bound)
    assert while_bound, "no notification of the burst arrived"


@pytest.mark.requirement("REQ-LIF-03")
def test_rebind(bind: Bind, firmware: Firmware, watch: Watch) -> None:
    device = bind("alpha")
    for _ in range(8):
        device.unbind()
        device.bind()
    firmware.notify(device.method, 0x85)
    assert watch.vfio() == [(device.bdf, 0x85)]


@pytest.mark.requirement("REQ-HPL-01")
def test_hotplug(port: Port, host: Channel, firmware: Firmware, watch: Watch) -> None:
    host.request("plug")
    device = port.wait()
    device.bind()
    firmware.notify_path(port.path, 0x86)
    while_bound = watch.vfio()
    # Still bound when it goes.
    host.request("unplug")
    port.wait_empty()
    firmware.notify_path(port.path, 0x87)
    assert (while_bound, watch.vfio()) == ([(device.bdf, 0x86)], [])
