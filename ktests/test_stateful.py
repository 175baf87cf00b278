# SPDX-License-Identifier: GPL-2.0-only
"""Generated sequences of steps, in any order. SEED= makes others."""

from __future__ import annotations

import pytest

from ktests.acpi import Firmware
from ktests.conftest import Bind, Measure
from ktests.interrupt import InterruptedFirmware
from ktests.mechanism import Mechanism
from ktests.recorder import Job
from uapi import probe


@pytest.mark.requirement("REQ-DEL-70")
@pytest.mark.limit(300)
def test_any_order(
    job: Job,
    mechanism: Mechanism,
    bind: Bind,
    firmware: Firmware,
    interrupted: InterruptedFirmware,
    family: probe.Family,
    measure: Measure,
) -> None:
    # Imported here: that takes seconds under emulation, and no other test needs it.
    from ktests import any_order

    measure("seed", job.seed)
    sources = {"debugger": firmware, "interrupt": interrupted}
    world = any_order.World(mechanism, bind, sources, family)
    # Nobody reads the steps of a mechanism that the kernel does not have.
    any_order.run(world, job.seed, shrink=job.mechanism == mechanism.name)
