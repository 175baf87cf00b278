# SPDX-License-Identifier: GPL-2.0-only
"""Test the library's programs, ``python -m uapi``, on devices of the test machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ktests.acpi import Firmware, Unrelated
from ktests.conftest import Measure
from ktests.mechanism import Mechanism
from ktests.pci import PciDevice
from ktests.program import LINE_SECONDS, START_SECONDS, uapi
from uapi import checks, conformance, vfio

Bind = Callable[[str], PciDevice]


@pytest.mark.requirement("REQ-INT-60")
def test_listen(
    mechanism: Mechanism, bind: Bind, firmware: Firmware, unrelated: dict[str, Unrelated]
) -> None:
    alpha, beta = bind("alpha"), bind("beta")
    with uapi("listen", "--json", *mechanism.listen([alpha, beta])) as program:
        assert program.line(START_SECONDS).startswith("listening")
        for device, value in ((alpha, 0x81), (beta, 0xD2)):
            firmware.notify(device.method, value)
            firmware.flush_handlers()
        # On every kernel `listen --netlink` prints these events. So on an unpatched kernel the test
        # fails at the comparison, and does not wait for lines that never come.
        firmware.notify(unrelated["ac"].method, 0x80, count=2)
        got = [(line.get("device"), line.get("value")) for line in program.events(2)]
        assert got == [(alpha.bdf, 0x81), (beta.bdf, 0xD2)]
        assert program.end() == 0


@pytest.mark.requirement("REQ-INT-05")
def test_conformance(bind: Bind, measure: Measure) -> None:
    device = bind("alpha")
    for open_method in vfio.open_methods(device.bdf):
        done = conformance.run(device.bdf, open_method)
        failed = [check for check in done if check.outcome != conformance.PASS]
        assert not failed
        assert len(done) == sum(item.companion is not False for item in checks.ALL)
        measure(f"checks passed through {open_method}", len(done))
    # The program refuses a device that another process has open, whose eventfd stays armed.
    with vfio.Device.open(device.bdf) as owner, owner.notifications() as stream:
        with uapi("conformance", "--device", device.bdf) as program:
            assert program.line(START_SECONDS).startswith("error: ")
            assert program.wait() == 2
        owner.loopback()
        got = stream.read(LINE_SECONDS)
        assert got is not None
        assert got.loopback


@pytest.mark.requirement("REQ-ERR-07")
def test_conformance_without_companion(bind: Bind) -> None:
    done = conformance.run(bind("bare").bdf)
    assert not [check for check in done if check.outcome != conformance.PASS]
    assert "REQ-ERR-07" in {check.requirement for check in done}
