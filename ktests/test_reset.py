# SPDX-License-Identifier: GPL-2.0-only
"""Resets of a device by its user, while notifications are pending and while they arrive."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from ktests.acpi import Firmware
from ktests.channel import Channel
from ktests.conftest import Bind
from ktests.hotplug import plugged
from ktests.mechanism import Mechanism
from ktests.pci import PciDevice, Port
from ktests.reset import hot_reset, reset
from ktests.task import Task
from uapi import probe, vfio

# The largest number of notifications during a reset: fewer than each mechanism keeps for a VMM that
# does not read.
BURST = 200

# A generous limit in seconds for the first notification of a burst.
LIMIT = 20.0


def check(
    mechanism: Mechanism,
    device: PciDevice,
    firmware: Firmware,
    family: probe.Family,
    reset: Callable[[vfio.Device], None],
) -> None:
    """Reset ``device`` while a notification is pending, then while notifications arrive.

    AssertionError if its VMM does not receive each notification once.
    """
    sent = 0
    begun, ended = Event(), Event()

    def send() -> None:
        nonlocal sent
        while sent < BURST and not ended.is_set():
            firmware.notify_path(device.path, 0x83)
            sent += 1
            begun.set()

    with mechanism.vmm(device, firmware, family) as owner, owner.opened() as opened:
        firmware.notify_path(device.path, 0x81)
        firmware.flush_handlers()
        reset(opened)
        firmware.notify_path(device.path, 0x82)
        assert owner.values() == mechanism.seen([0x81, 0x82])
        sending = Task(send)
        assert begun.wait(LIMIT), "no notification before the reset"
        reset(opened)
        ended.set()
        sending.join()
        assert owner.values() == mechanism.seen([0x83] * sent)


@pytest.mark.requirement("REQ-LIF-50")
def test_reset(mechanism: Mechanism, bind: Bind, firmware: Firmware, family: probe.Family) -> None:
    sleeper = bind("sleeper")
    sleeper.permit_reset()
    try:
        check(mechanism, sleeper, firmware, family, reset)
    finally:
        sleeper.forgo_reset()


@pytest.mark.requirement("REQ-LIF-51")
def test_hot_reset(
    mechanism: Mechanism, port: Port, host: Channel, firmware: Firmware, family: probe.Family
) -> None:
    with plugged(host, port) as device:
        device.bind()
        check(mechanism, device, firmware, family, hot_reset)
