# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism netlink-device: the family of a device, its message, and who may listen.

The expected bytes are literals here on purpose: a test that took them from the library under test
could not find an error of the library.
"""

from __future__ import annotations

import struct

import pytest

from ktests import confinement
from ktests.acpi import Firmware
from ktests.confined_process import ConfinedError, ConfinedProcess
from ktests.conftest import Bind
from ktests.mechanisms.netlink_device import NetlinkDeviceVmm, drained
from ktests.pci import PciDevice
from uapi import device_family, probe, vfio
from uapi.device_family import DELFAMILY, Announcements, DeviceListener


def unbind(device: PciDevice) -> None:
    """Unbind the device, and wait until its family is gone, which takes a moment longer."""
    with Announcements() as announcements:
        device.unbind()
        assert announcements.wait_for(DELFAMILY, device.bdf), "the family stays"


@pytest.mark.requirement("REQ-EVT-43")
def test_message(bind: Bind, firmware: Firmware) -> None:
    device = bind("alpha")
    unbind(device)
    bind("alpha")
    family = device_family.family(device.bdf)
    got: list[bytes | probe.Overrun] = []
    with DeviceListener(known=family) as listener:
        for value in (0xD1, 0x181):
            firmware.notify(device.method, value)
            firmware.flush_handlers()
            got += drained(listener)
    assert got == [
        struct.pack("=IHHII", 36, family.id, 0, 0, 0)
        + bytes([1, 1, 0, 0])
        + struct.pack("=HHIHHI", 8, 1, value, 8, 2, number)
        for number, value in enumerate((0xD1, 0x181))
    ]


@pytest.mark.requirement("REQ-INT-42")
def test_family(bind: Bind) -> None:
    device = bind("alpha")
    assert list(device_family.family(device.bdf).groups) == ["notify"]
    unbind(device)
    for name in (device.bdf, bind("bare").bdf):
        with pytest.raises(OSError, match="ENOENT"):
            device_family.family(name)


@pytest.mark.requirement("REQ-ISO-43")
def test_joining_is_refused(bind: Bind) -> None:
    device = bind("alpha")
    family = device_family.family(device.bdf)
    with (
        vfio.Device.open(device.bdf) as opened,
        pytest.raises(ConfinedError, match="PermissionError"),
        ConfinedProcess(
            lambda: DeviceListener(known=family),
            confinement.UNPRIVILEGED,
            handed=(opened.fileno(),),
        ),
    ):
        pass  # it has joined


@pytest.mark.requirement("REQ-LIF-40")
def test_unbound(bind: Bind, firmware: Firmware) -> None:
    device = bind("alpha")
    with NetlinkDeviceVmm(device, firmware) as old:
        firmware.notify(device.method, 0x81)
        firmware.flush_handlers()
        unbind(device)
        firmware.notify(device.method, 0x82)
        assert old.values() == [0x81]
        bind("alpha")
        with NetlinkDeviceVmm(device, firmware) as new:
            firmware.notify(device.method, 0x83)
            assert (old.values(), new.values()) == ([], [0x83])
