# SPDX-License-Identifier: GPL-2.0-only
"""The whole way of a value: interrupt, firmware, kernel, relay, and the driver in a VMM's guest.

An unmodified QEMU passes a device through to the inner guest, and `python -m uapi relay` runs
beside it. The host is the VM that runs these tests.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from ktests.conftest import Bind, Measure
from ktests.contract import INNER_FOLDER, INNER_MAILBOX, INNER_PIN
from ktests.inner_guest import BOOT_SECONDS, DEVICE, EMPTY, PLUGGED, UP, InnerGuest
from ktests.interrupt import InterruptedFirmware, Notifications
from ktests.ordered_notify import one_by_one
from ktests.pci import PciDevice
from ktests.program import START_SECONDS, Program, uapi
from uapi.vmm import descriptor

FILES = Path("/mnt/suite") / INNER_FOLDER

# Power levels of a GPU (D-notifier), a value of more than 8 bits, and values twice in a row.
VALUES = [0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0x80, 0x81, 0x81, 0x181, 0xFFFF, 0xD1]


class StartRelay(Protocol):
    """The type of a function that starts the relay of ``devices``, by slot, beside ``guest``."""

    def __call__(self, guest: InnerGuest, *devices: PciDevice) -> Program:
        """Start the relay; return when it receives."""


@pytest.fixture(scope="module")
def alpha(bind: Bind) -> PciDevice:
    """Return a device that is bound to vfio-pci."""
    return bind("alpha")


@pytest.fixture(scope="module")
def running(alpha: PciDevice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerGuest]:
    """Yield an inner guest, to which the device ``alpha`` is passed through."""
    guest = InnerGuest(FILES, tmp_path_factory.mktemp("inner"), f"vfio-pci,host={alpha.bdf}")
    yield guest
    guest.close()


@pytest.fixture
def guest(running: InnerGuest) -> InnerGuest:
    """Return the inner guest, which has forgotten what earlier tests sent.

    Its boot takes a minute and more, so the tests of this module share it.
    """
    running.forget()
    return running


@pytest.fixture
def relay() -> Iterator[StartRelay]:
    """Yield a function that starts a relay. The relays are killed at the end of the test."""
    with ExitStack() as stack:

        def start(guest: InnerGuest, *devices: PciDevice) -> Program:
            slots = [f"--slot={number}={device.bdf}" for number, device in enumerate(devices)]
            where = ["--pid", str(guest.qemu.pid), "--qtest", str(guest.qtest)]
            table = ["--mailbox", f"{INNER_MAILBOX:#x}", "--pin", str(INNER_PIN)]
            program = stack.enter_context(uapi("relay", "--json", *where, *table, *slots))
            assert program.line(START_SECONDS).startswith("relaying")
            return program

        yield start


@pytest.mark.requirement("REQ-VMM-01")
def test_values(
    guest: InnerGuest, relay: StartRelay, alpha: PciDevice, interrupted: InterruptedFirmware
) -> None:
    program = relay(guest, alpha)
    one_by_one(interrupted, alpha, VALUES)
    assert guest.values(VALUES) == VALUES
    told = [(line["action"], line["value"]) for line in program.events(len(VALUES))]
    assert told == [("deliver", value) for value in VALUES]
    assert program.end() == 0


@pytest.mark.requirement("REQ-VMM-01")
def test_latency(
    guest: InnerGuest,
    relay: StartRelay,
    alpha: PciDevice,
    interrupted: InterruptedFirmware,
    measure: Measure,
    tell: Callable[[str], None],
) -> None:
    """Each value on its way, live on the terminal. All times are of the host's CLOCK_MONOTONIC."""
    program = relay(guest, alpha)
    sent = []
    for value in range(0xD1, 0xD6):
        tell(f"{value:#x}: the host raises an interrupt")
        times = [time.monotonic()]
        interrupted.interrupt(Notifications(alpha.method, value))
        sent.append(value)
        (line,) = program.events(1)
        assert (line["action"], line["value"]) == ("deliver", value)
        for stage in ("read", "rung"):
            times.append(line[stage])
            tell(f"{value:#x}: {STAGES[stage]}, after {milliseconds(times[-2:])} ms")
        guest.wait_for_values(sent)
        assert guest.values(sent) == sent
        times.append(guest.seen)
        assert times == sorted(times)
        tell(
            f"{value:#x}: {STAGES['driver']}, after {milliseconds(times[-2:])} ms, "
            f"{milliseconds(times)} ms in all"
        )
        measure(f"ms until the driver has {value:#x}", milliseconds(times))
        for stage, pair in zip(STAGES, itertools.pairwise(times), strict=True):
            measure(f"ms of {value:#x} until {STAGES[stage]}", milliseconds(pair))


# The stages of a value's way after the interrupt.
STAGES = {
    "read": "the relay has read it from the kernel",
    "rung": "it is in the guest's memory, and the guest's interrupt is raised",
    "driver": "the guest's driver has it",
}


def milliseconds(times: Sequence[float]) -> float:
    """Return the time from the first to the last of ``times``, which are in seconds."""
    return round((times[-1] - times[0]) * 1000, 1)


@pytest.mark.requirement("REQ-VMM-02")
def test_burst(
    guest: InnerGuest, relay: StartRelay, alpha: PciDevice, interrupted: InterruptedFirmware
) -> None:
    """Handlers of a burst run on all CPUs, in any order."""
    relay(guest, alpha)
    sent = [*range(0x80, 0xC0)] * 2
    for _ in range(2):
        interrupted.interrupt(Notifications(alpha.method, 0x80, 1, 0x40))
    interrupted.wait()
    assert Counter(guest.values(sent)) == Counter(sent)


@pytest.mark.requirement("REQ-VMM-03")
def test_relay_keeps_no_descriptor_of_the_device(
    guest: InnerGuest, relay: StartRelay, alpha: PciDevice
) -> None:
    program = relay(guest, alpha)
    assert [*descriptor.devices(guest.qemu.pid).values()] in ([alpha.bdf], [""])
    assert descriptor.devices(program.pid) == {}


@pytest.mark.requirement("REQ-VMM-04")
def test_stopped_guest(
    guest: InnerGuest, relay: StartRelay, alpha: PciDevice, interrupted: InterruptedFirmware
) -> None:
    relay(guest, alpha)
    guest.monitor("stop")
    one_by_one(interrupted, alpha, VALUES)
    assert guest.values(VALUES, seconds=1) == []
    guest.monitor("cont")
    assert guest.values(VALUES) == VALUES


@pytest.mark.requirement("REQ-VMM-05")
def test_relay_that_starts_again(
    guest: InnerGuest, relay: StartRelay, alpha: PciDevice, interrupted: InterruptedFirmware
) -> None:
    for value, sign in ((0xD1, signal.SIGTERM), (0xD2, signal.SIGKILL), (0xD3, signal.SIGTERM)):
        program = relay(guest, alpha)
        interrupted.notify(alpha.method, value)
        guest.wait_for_values([0xD1, 0xD2, 0xD3][: value - 0xD0])
        os.kill(program.pid, sign)
        program.wait()
    assert guest.values([0xD1, 0xD2, 0xD3]) == [0xD1, 0xD2, 0xD3]


@pytest.mark.requirement("REQ-VMM-06")
def test_slot_for_hot_plug(
    guest: InnerGuest,
    relay: StartRelay,
    alpha: PciDevice,
    bind: Bind,
    interrupted: InterruptedFirmware,
) -> None:
    beta = bind("beta")
    guest.monitor(f"device_add vfio-pci,host={beta.bdf},id=late,bus={EMPTY}")
    guest.wait_for(f"acpi_inner {PLUGGED}: listens")
    relay(guest, alpha, beta)
    for value in (0xD1, 0xD2):
        interrupted.notify(beta.method, value + 2)
        interrupted.notify(alpha.method, value)
        guest.wait_for_values([0xD1, 0xD2][: value - 0xD0])
    assert guest.values([0xD3, 0xD4], PLUGGED) == [0xD3, 0xD4]
    assert guest.values([0xD1, 0xD2], DEVICE) == [0xD1, 0xD2]


@pytest.mark.requirement("REQ-VMM-07")
def test_guest_that_starts_again(
    guest: InnerGuest, relay: StartRelay, alpha: PciDevice, interrupted: InterruptedFirmware
) -> None:
    relay(guest, alpha)
    interrupted.notify(alpha.method, 0xD1)
    guest.wait_for_values([0xD1])
    before = guest.console.count(UP)
    guest.monitor("system_reset")
    guest.wait_for(UP, BOOT_SECONDS, count=1 + before)
    one_by_one(interrupted, alpha, [0xD2, 0xD3])
    assert guest.values([0xD1, 0xD2, 0xD3]) == [0xD1, 0xD2, 0xD3]


@pytest.mark.requirement("REQ-VMM-08")
def test_killed_guest(guest: InnerGuest, relay: StartRelay, alpha: PciDevice) -> None:
    """The last test of this guest: nothing is left of it."""
    program = relay(guest, alpha)
    guest.qemu.kill()
    (told,) = program.events(1)
    # The device is closed while the process ends: either may be seen first.
    assert told["action"] == "stop"
    assert told["cause"] in ("the VMM has ended", "the device was closed")
    assert program.wait() == 0
    alpha.unbind()
    assert alpha.driver == ""
    alpha.bind()


@pytest.mark.requirement("REQ-VMM-10")
def test_table_at_run_time(
    alpha: PciDevice,
    relay: StartRelay,
    interrupted: InterruptedFirmware,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A guest of its own, after that of the other tests has ended."""
    device = f"vfio-pci,host={alpha.bdf}"
    guest = InnerGuest(FILES, tmp_path_factory.mktemp("late"), device, late=True)
    try:
        program = relay(guest, alpha)
        one_by_one(interrupted, alpha, VALUES)
        assert guest.values(VALUES) == VALUES
        assert program.end() == 0
    finally:
        guest.close()
