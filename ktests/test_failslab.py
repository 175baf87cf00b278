# SPDX-License-Identifier: GPL-2.0-only
"""Allocations that fail: when a VMM registers or asks, a device is bound, a notification delivered.

In a call, each allocation fails once, alone: the first one in the first round, the second one in
the second round, and so on, until a round has no further one. Those of a delivery are in another
thread and fail all at once.
"""

from __future__ import annotations

import errno
import itertools
import os
import select
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from ktests import failslab
from ktests.acpi import Firmware
from ktests.confined_process import Source
from ktests.conftest import Bind, OpenLateTable, OpenVmm
from ktests.mechanism import Mechanism
from ktests.ordered_notify import one_by_one
from ktests.partner import SECONDS, receive
from ktests.pci import BUS, VFIO, PciDevice
from uapi import probe, vfio
from uapi.eventfd import SIZE, EventFd

# The functions of the kernel below which allocations fail: the ioctl of a VFIO device, the probe of
# vfio-pci, and the call of all Notify handlers of a device in a kworker. The carried series have a
# function of their own that listens to a companion.
IOCTL = "vfio_device_fops_unl_ioctl"
PROBE = "vfio_pci_probe"
NOTIFY = "acpi_ev_notify_dispatch"
LISTEN = "vfio_pci_acpi_listen"

# All handlers have ended before this time begins.
DEAF_SECONDS = 1.0


@dataclass(frozen=True)
class Round:
    """A call of which one allocation was to fail: its ``error``, and whether one has failed."""

    error: OSError | None
    failed: bool


def failing(call: Callable[[], object], number: int, *, least: int = 1) -> Round:
    """Make ``call`` while its allocation with this ``number``, counted from 1, fails.

    AssertionError if the error is not ENOMEM, or nothing has failed and there is an error, or
    ``call`` makes fewer allocations than ``least``.
    """
    error = None
    with failslab.nth(number) as failure:
        try:
            call()
        except OSError as refused:
            error = refused
    if failure.happened:
        assert error is None or error.errno == errno.ENOMEM
    else:
        assert error is None, "fails without a failed allocation"
        assert number > least, f"makes {number - 1} allocations"
    return Round(error, failure.happened)


def free_numbers() -> list[int]:
    """Return the lowest numbers that no descriptor of this process has.

    They are more than a call and `failslab.nth` together take.
    """
    fds = [os.dup(0) for _ in range(8)]
    for fd in fds:
        os.close(fd)
    return fds


@pytest.mark.requirement("REQ-ERR-40")
def test_register(
    mechanism: Mechanism, late_table: OpenLateTable, firmware: Firmware, family: probe.Family
) -> None:
    """Each round has a companion that no VMM has registered for before."""
    for number in itertools.count(1):
        with ExitStack() as stack:
            device = stack.enter_context(late_table()).device
            device.bind()
            opened = stack.enter_context(vfio.Device.open(device.bdf))
            stack.enter_context(failslab.within(IOCTL))
            register = mechanism.register(opened.fileno(), family)
            sources: list[Source] = []
            free = free_numbers()
            tried = failing(lambda: sources.append(register()), number)  # noqa: B023
            source = sources.pop() if tried.error is None else register()
            firmware.notify_path(device.path, 0x81)
            firmware.flush_handlers()
            check_received(mechanism, source, device, 0x81)
            source.close()
            assert free_numbers() == free, "a descriptor is left"
        if not tried.failed:
            break


def check_received(mechanism: Mechanism, source: Source, device: PciDevice, value: int) -> None:
    """Assert that ``source`` receives one notification of ``device``, the one with ``value``."""
    heard = mechanism.heard([receive(source, SECONDS)], device.bdf)
    assert [item.value for item in heard] == mechanism.seen([value])


@pytest.mark.requirement("REQ-ERR-41")
def test_register_anew(vmm: OpenVmm, firmware: Firmware) -> None:
    alpha = vmm("alpha")
    with ExitStack() as stack:
        opened = stack.enter_context(alpha.opened())
        stack.enter_context(failslab.within(IOCTL))
        armed = alpha.fileno()
        for number in itertools.count(1):
            other = stack.enter_context(EventFd())
            tried = failing(partial(opened.arm, other), number)
            armed = armed if tried.error else other.fileno()
            one_by_one(firmware, alpha.device, [0x80 + number])
            assert select.select([armed], [], [], SECONDS)[0], "nothing arrives"
            os.read(armed, SIZE)
            if opened.automasked():
                opened.unmask()
            if not tried.failed:
                break


@pytest.mark.requirement("REQ-ERR-42")
def test_bind(bind: Bind, vmm: OpenVmm, firmware: Firmware) -> None:
    device = bind("alpha")
    deaf = []
    for number in itertools.count(1):
        device.unbind()
        with failslab.within(PROBE):
            tried = failing(lambda: attach(device), number)
        assert bool(device.driver) is (tried.error is None)
        if tried.error is None:
            device.forgo_reset()
            if not arrives(device, vmm, firmware):
                deaf.append(number)
        if not tried.failed:
            break
    # At the end: what a mechanism is known not to do keeps no round from being made.
    assert not deaf, "bound without notifications"


@pytest.mark.requirement("REQ-ERR-42")
def test_bind_to_a_new_companion(
    mechanism: Mechanism, late_table: OpenLateTable, firmware: Firmware, family: probe.Family
) -> None:
    """What is done for a companion for the first time; nothing, if a VMM registers for it later."""
    deaf = []
    within = LISTEN if failslab.has(LISTEN) else PROBE
    for number in itertools.count(1):
        with late_table() as table:
            device = table.device
            with failslab.within(within):
                tried = failing(lambda: attach(device), number, least=0)  # noqa: B023
            assert bool(device.driver) is (tried.error is None)
            if tried.error is None:
                device.forgo_reset()
                if not heard(mechanism, device, firmware, family):
                    deaf.append(number)
        if not tried.failed:
            break
    assert not deaf, "bound without notifications"


def heard(
    mechanism: Mechanism, device: PciDevice, firmware: Firmware, family: probe.Family
) -> bool:
    """Return whether one who registers now receives a notification of ``device``."""
    with vfio.Device.open(device.bdf) as opened:
        try:
            source = mechanism.register(opened.fileno(), family)()
        except OSError:
            return False  # what a VMM needs is not there
        with closing(source):
            firmware.notify_path(device.path, 0x81)
            firmware.flush_handlers()
            if not select.select([source.fileno()], [], [], DEAF_SECONDS)[0]:
                return False
            check_received(mechanism, source, device, 0x81)
            return True


def arrives(device: PciDevice, vmm: OpenVmm, firmware: Firmware) -> bool:
    """Return whether a new VMM gets a notification of ``device``; unbind it otherwise."""
    try:
        with vmm(device.name) as owner:
            one_by_one(firmware, device, [0x81])
            if len(owner.values()) == 1:
                return True
    except OSError:
        pass  # what a VMM needs is not there
    device.unbind()
    return False


def attach(device: PciDevice) -> None:
    """Bind the unbound ``device`` to vfio-pci; OSError with the error of the driver's probe."""
    (device.folder / "driver_override").write_text(VFIO)
    # A file with a buffer would write again after an error, when it is closed.
    with (BUS / "drivers" / VFIO / "bind").open("wb", buffering=0) as file:
        file.write(device.bdf.encode())


@pytest.mark.requirement("REQ-ERR-43")
def test_deliver(mechanism: Mechanism, vmm: OpenVmm, firmware: Firmware) -> None:
    alpha = vmm("alpha")
    with failslab.within(NOTIFY):
        one_by_one(firmware, alpha.device, [0x81])
        assert alpha.values() == mechanism.seen([0x81])
        with failslab.every():
            one_by_one(firmware, alpha.device, [0x91])
        one_by_one(firmware, alpha.device, [0x92, 0x93])
        try:
            got = alpha.values()
        except AssertionError as told:
            assert "lost" in str(told)
            return
        assert got == mechanism.seen([0x91, 0x92, 0x93]), "a loss is not told"


@pytest.mark.requirement("REQ-ERR-44")
def test_path(bind: Bind, acpi_path: Path) -> None:
    acpi_path.write_text("Y")
    device = bind("alpha")
    with vfio.Device.open(device.bdf) as opened, failslab.within(IOCTL):
        for number in itertools.count(1):
            paths: list[str | None] = []
            tried = failing(lambda: paths.append(opened.acpi_path()), number)  # noqa: B023
            path = paths.pop() if tried.error is None else opened.acpi_path()
            assert path == device.companion
            if not tried.failed:
                break
