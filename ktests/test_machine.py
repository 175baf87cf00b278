# SPDX-License-Identifier: GPL-2.0-only
"""What holds on every kernel: the machine is as the table says, unrelated events arrive."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ktests.acpi import Adapter, Firmware, short
from ktests.channel import Channel
from ktests.conftest import Watch
from ktests.pci import Device
from uapi import acpi_event, probe

BUTTON_CLASS = "button/power"
ADAPTER_CLASS = "ac_adapter"


@pytest.mark.requirement("REQ-FAM-01")
def test_family() -> None:
    family = probe.family()
    assert family.version == acpi_event.VERSION
    assert list(family.groups) == [acpi_event.GROUP]


@pytest.mark.requirement("REQ-CMP-01")
@pytest.mark.parametrize("name", ["alpha", "beta", "carrier", "bare"])
def test_companion(devices: dict[str, Device], name: str) -> None:
    companion = devices[name].companion
    assert (short(companion) if companion else "") == devices[name].path


@pytest.mark.requirement("REQ-FAM-02")
@pytest.mark.parametrize("value", [0x80, 0x81, 0xFF])
def test_adapter(
    bind: Callable[[str], Device],
    adapters: dict[str, Adapter],
    firmware: Firmware,
    watch: Watch,
    value: int,
) -> None:
    bind("alpha")
    firmware.notify(adapters["ac"].method, value)
    [event] = watch.events()
    assert (event.device_class, event.type, event.data) == (ADAPTER_CLASS, value, 1)
    assert event.bus_id == adapters["ac"].folder.name


@pytest.mark.requirement("REQ-FAM-02")
def test_power_button(
    bind: Callable[[str], Device], host: Channel, listener: probe.Listener
) -> None:
    bind("alpha")
    host.request("powerdown")
    got = listener.receive(10.0)
    assert isinstance(got, probe.Received), "no event of the power button"
    assert (got.event.device_class, got.event.bus_id) == (BUTTON_CLASS, "LNXPWRBN:00")
    assert got.event.type == 0x80
