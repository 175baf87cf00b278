# SPDX-License-Identifier: GPL-2.0-only
"""Notifications that the firmware sends on real interrupts, for every mechanism.

In this module the fixture ``firmware`` is one that the host interrupts. So the VMMs and burst
sources are those of the other modules, and no test uses the debugger to notify a device.
"""

from __future__ import annotations

import select
import threading
import time
from collections import Counter
from contextlib import ExitStack
from threading import Semaphore

import pytest

from ktests.conftest import Bind, Measure, OpenBurstSource, OpenVmm
from ktests.contract import ENTRIES_LIMIT
from ktests.interrupt import InterruptedFirmware, Notifications
from ktests.mechanism import Mechanism
from ktests.ordered_notify import one_by_one
from ktests.reader import Reader
from ktests.task import SECONDS, Task

NAMES = ("alpha", "beta", "carrier")

# A notification that is not readable after this time is waited for by other means.
LATE_SECONDS = 1.0


@pytest.fixture(scope="session")
def firmware(interrupted: InterruptedFirmware) -> InterruptedFirmware:
    """Return the test firmware, which sends notifications on interrupts."""
    return interrupted


# ---- values ------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-EVT-07")
@pytest.mark.parametrize("value", [0x80, 0xD1, 0xFF], ids=hex)
def test_interrupt(vmm: OpenVmm, firmware: InterruptedFirmware, value: int) -> None:
    alpha = vmm("alpha")
    firmware.notify(alpha.device.method, value)
    assert alpha.values() == [value]


@pytest.mark.requirement("REQ-EVT-07")
def test_latency(vmm: OpenVmm, firmware: InterruptedFirmware, measure: Measure) -> None:
    alpha = vmm("alpha")
    for value in range(0x80, 0x88):
        began = time.monotonic()
        firmware.interrupt(Notifications(alpha.device.method, value))
        # Usually the debugger has nothing to do. It is asked only if the notification is late.
        if not select.select([alpha], [], [], LATE_SECONDS)[0]:
            firmware.wait()
            firmware.flush_handlers()
            assert select.select([alpha], [], [], 0)[0], "nothing to read"
        measure(f"ms until {value:#x} is readable", round((time.monotonic() - began) * 1000, 2))
        firmware.wait()
        assert alpha.values() == [value]


@pytest.mark.requirement("REQ-EVT-08")
@pytest.mark.parametrize("value", [0x100, 0x181, 0xFFFF], ids=hex)
def test_interrupt_with_a_wide_value(
    vmm: OpenVmm, firmware: InterruptedFirmware, value: int
) -> None:
    alpha = vmm("alpha")
    firmware.notify(alpha.device.method, value)
    assert alpha.values() == [value]


# ---- several devices ---------------------------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-03")
def test_devices_in_one_interrupt(vmm: OpenVmm, firmware: InterruptedFirmware) -> None:
    vmms = [vmm(name) for name in NAMES]
    bases = (0x80, 0xA0, 0xC0)
    for _ in range(2):
        firmware.interrupt(
            *(
                Notifications(owner.device.method, base + offset)
                for offset in range(16)
                for base, owner in zip(bases, vmms, strict=True)
            )
        )
        firmware.wait()
    got = [Counter(owner.values()) for owner in vmms]
    assert got == [Counter([*range(base, base + 16)] * 2) for base in bases]


@pytest.mark.requirement("REQ-EVT-12")
@pytest.mark.parametrize("name", NAMES)
def test_interrupt_of_one_device(
    mechanism: Mechanism, vmm: OpenVmm, firmware: InterruptedFirmware, name: str
) -> None:
    all_of_them = {each: vmm(each) for each in NAMES}
    firmware.notify(all_of_them[name].device.method, 0xC0)
    got = {each: owner.values() for each, owner in all_of_them.items()}
    assert got == {each: [] for each in NAMES} | {name: mechanism.seen([0xC0])}


# ---- order -------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-06")
def test_order_of_interrupts(vmm: OpenVmm, firmware: InterruptedFirmware) -> None:
    alpha = vmm("alpha")
    values = [0x80, 0xFF, 0x81, 0x81, 0xC0, 0x80, 0xD5, 0xD1]
    one_by_one(firmware, alpha.device, values)
    assert alpha.values() == values


# Since Linux 6.8 the handlers of one evaluation may run in any order. Those of an evaluation whose
# handlers have all run come before those of the next one.
@pytest.mark.requirement("REQ-DEL-06")
def test_order_of_evaluations(vmm: OpenVmm, firmware: InterruptedFirmware) -> None:
    alpha = vmm("alpha")
    groups = [range(base, base + 8) for base in (0xC0, 0x80, 0xE0, 0xA0)]
    for group in groups:
        firmware.interrupt(*(Notifications(alpha.device.method, value) for value in group))
        firmware.wait()
        firmware.flush_handlers()
    values = alpha.values()
    parts = [values[start : start + 8] for start in range(0, len(values), 8)]
    assert [sorted(part) for part in parts] == [list(group) for group in groups]


# ---- bursts ------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-01")
@pytest.mark.parametrize("count", [2, 256])
def test_interrupt_with_many_notifications(
    vmm: OpenVmm, firmware: InterruptedFirmware, count: int
) -> None:
    alpha = vmm("alpha")
    for value in (0x80, 0xFF):
        firmware.notify(alpha.device.method, value, count=count)
        assert Counter(alpha.values()) == {value: count}


@pytest.mark.requirement("REQ-DEL-01")
def test_many_interrupts(vmm: OpenVmm, firmware: InterruptedFirmware) -> None:
    alpha = vmm("alpha")
    values = range(0x80, 0x80 + ENTRIES_LIMIT)
    for _ in range(2):
        # The firmware takes the entries of the first interrupts while the host raises the others.
        for value in values:
            firmware.interrupt(Notifications(alpha.device.method, value))
        firmware.wait()
    assert Counter(alpha.values()) == dict.fromkeys(values, 2)


@pytest.mark.requirement("REQ-DEL-04")
@pytest.mark.parametrize("reads", ["during", "after"])
def test_interrupt_with_too_many_notifications(
    burst_source: OpenBurstSource, firmware: InterruptedFirmware, measure: Measure, reads: str
) -> None:
    alpha = burst_source("alpha")
    reader = Reader(alpha.fileno(), receive=alpha.receive)
    with ExitStack() as stack:
        if reads == "during":
            stack.enter_context(reader)
        alpha.send(2048)
        firmware.flush_handlers()
        if reads == "after":
            stack.enter_context(reader)
        burst_result = alpha.finish(reader)
    burst_result.record(measure)
    assert burst_result.accounted, burst_result
    assert burst_result.reported or reads == "during", "no queue is that long"


# ---- while VMMs register and close -------------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-09")
def test_interrupt_before(
    mechanism: Mechanism, vmm: OpenVmm, bind: Bind, firmware: InterruptedFirmware
) -> None:
    one_by_one(firmware, bind("alpha"), [0x81, 0x82])
    alpha = vmm("alpha")
    firmware.notify(alpha.device.method, 0x83)
    assert alpha.values() == mechanism.seen([0x83])


@pytest.mark.requirement("REQ-LIF-03")
def test_interrupts_while_vmms_come_and_go(
    mechanism: Mechanism, vmm: OpenVmm, bind: Bind, firmware: InterruptedFirmware
) -> None:
    device = bind("alpha")
    stop, sent = threading.Event(), Semaphore(0)

    def interrupt() -> None:
        while not stop.is_set():
            firmware.notify(device.method, 0x81)
            sent.release()

    interrupts = Task(interrupt)
    try:
        for _ in range(8):
            alpha = vmm("alpha")
            while sent.acquire(blocking=False):
                pass
            # The first of these two may have begun before the VMM was registered.
            for _ in range(2):
                assert sent.acquire(timeout=SECONDS), "no interrupt"
            assert set(alpha.values()) == set(mechanism.seen([0x81]))
            alpha.close()
    finally:
        stop.set()
        interrupts.join()
    # An old 0x81 does not count here: REQ-DEL-09 forbids it.
    firmware.flush_handlers()
    alpha = vmm("alpha")
    one_by_one(firmware, alpha.device, [0x90, 0x91])
    assert alpha.values() == mechanism.seen([0x90, 0x91])
