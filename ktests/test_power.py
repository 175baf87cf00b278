# SPDX-License-Identifier: GPL-2.0-only
"""Notifications of a device that sleeps (D3hot), and those that wake it.

Source: Documentation of VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY in include/uapi/linux/vfio.h; runtime
power management in Documentation/ABI/testing/sysfs-devices-power.
"""

from __future__ import annotations

import struct
from contextlib import closing

import pytest

from ktests.acpi import Firmware
from ktests.conftest import Bind
from ktests.mechanism import Mechanism
from ktests.ordered_notify import one_by_one
from ktests.partner import SECONDS, receive
from ktests.sleeper import SLEEPER, Sleeper
from uapi import mirror, probe, vfio
from uapi.eventfd import EventFd

# A notification that asks the host to wake the device (ACPI 6.5, 5.6.6).
DEVICE_WAKE = 0x02

D0, D3HOT = "D0", "D3hot"


@pytest.fixture
def sleeper(bind: Bind) -> Sleeper:
    """Return the device that can sleep, bound to vfio-pci."""
    return Sleeper(**vars(bind(SLEEPER)))


def sleep(opened: vfio.Device, wakeup: EventFd | None) -> None:
    """Have the kernel suspend the device; it signals ``wakeup`` when something wakes the device.

    Without ``wakeup`` the device is suspended again after that.
    """
    if wakeup is None:
        opened.feature(vfio.SET | mirror.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY)
    else:
        # struct vfio_device_low_power_entry_with_wakeup: wakeup_eventfd, reserved.
        data = struct.pack("=iI", wakeup.fileno(), 0)
        opened.feature(vfio.SET | mirror.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, data)


def wake(opened: vfio.Device) -> None:
    """Have the kernel resume the device, and end what `sleep` began."""
    opened.feature(vfio.SET | mirror.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT)


ENTRIES = pytest.mark.parametrize("with_wakeup", [False, True], ids=["entry", "with-wakeup"])


@pytest.mark.requirement("REQ-DEL-50")
@ENTRIES
def test_asleep(
    mechanism: Mechanism,
    sleeper: Sleeper,
    firmware: Firmware,
    family: probe.Family,
    with_wakeup: bool,
) -> None:
    with (
        EventFd() as wakeup,
        vfio.Device.open(sleeper.bdf) as opened,
        closing(mechanism.register(opened.fileno(), family)()) as source,
    ):
        assert sleeper.state == D0
        sleep(opened, wakeup if with_wakeup else None)
        sleeper.wait_asleep()
        awake = sleeper.active_milliseconds
        for value in (0x81, 0x82):
            one_by_one(firmware, sleeper, [value])
            heard = mechanism.heard([receive(source, SECONDS)], sleeper.bdf)
            assert [item.value for item in heard] == mechanism.seen([value])
        assert sleeper.state == D3HOT
        assert sleeper.active_milliseconds == awake, "the device was woken"
        assert wakeup.read() is None, "the VMM is told that the device was woken"


@pytest.mark.requirement("REQ-DEL-51")
@ENTRIES
def test_entry_and_exit(
    mechanism: Mechanism,
    sleeper: Sleeper,
    firmware: Firmware,
    family: probe.Family,
    with_wakeup: bool,
) -> None:
    with (
        EventFd() as wakeup,
        mechanism.vmm(sleeper, firmware, family) as owner,
        owner.opened() as opened,
    ):
        one_by_one(firmware, sleeper, [0x81])
        sleep(opened, wakeup if with_wakeup else None)
        sleeper.wait_asleep()
        one_by_one(firmware, sleeper, [0x82])
        assert sleeper.state == D3HOT
        wake(opened)
        assert sleeper.state == D0
        one_by_one(firmware, sleeper, [0x83])
        assert owner.values() == mechanism.seen([0x81, 0x82, 0x83])


@pytest.mark.requirement("REQ-DEL-52")
def test_device_wake(
    mechanism: Mechanism, sleeper: Sleeper, firmware: Firmware, family: probe.Family
) -> None:
    with (
        EventFd() as wakeup,
        mechanism.vmm(sleeper, firmware, family) as owner,
        owner.opened() as opened,
    ):
        sleep(opened, wakeup)
        sleeper.wait_asleep()
        one_by_one(firmware, sleeper, [DEVICE_WAKE])
        assert wakeup.wakes_up(SECONDS), "the VMM is not told that the device was woken"
        assert sleeper.state == D0
        one_by_one(firmware, sleeper, [0x81])
        assert owner.values() == mechanism.seen([0x81])
