# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's memory for a VMM is charged to the control group of the VMM."""

from __future__ import annotations

from contextlib import ExitStack, closing

import pytest

from ktests.conftest import Bind
from ktests.mechanism import Mechanism
from ktests.memory_group import MemoryGroup
from uapi import probe, vfio

# The devices that have a companion. The queue of one device is smaller than what else is charged.
NAMES = ("alpha", "beta", "carrier", "express", "gpu", "sleeper")


@pytest.mark.requirement("REQ-ISO-60")
def test_charged(mechanism: Mechanism, bind: Bind, family: probe.Family) -> None:
    bdfs = [bind(name).bdf for name in NAMES]
    with MemoryGroup() as group:
        # Twice, since the kernel allocates once for each device what it then keeps for ever.
        for _ in range(2):
            with ExitStack() as stack:
                opened = [stack.enter_context(vfio.Device.open(bdf)) for bdf in bdfs]
                before = group.charged()
                for device in opened:
                    stack.enter_context(closing(mechanism.register(device.fileno(), family)()))
                charged = group.charged() - before
        assert charged >= len(NAMES) * mechanism.queue_size, "the queues are not charged"
        group.wait_until(before)
