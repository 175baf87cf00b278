# SPDX-License-Identifier: GPL-2.0-only
"""An eventfd of a VMM that the kernel reads too.

A virqfd of vfio and an irqfd of KVM read the whole counter as soon as something is added to it, and
forget it. A VMM should not set its eventfd for one. If it does, it loses the notifications that the
kernel reads, but must not lose those that come later.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from ktests import fdinfo
from ktests.acpi import Firmware
from ktests.conftest import OpenVmm
from ktests.kvm import Vm
from ktests.mechanism import Mechanism, Vmm
from ktests.ordered_notify import one_by_one
from ktests.partner import SECONDS
from ktests.pci import POLL_SECONDS
from uapi import vfio
from uapi.eventfd import EventFd

KernelReader = Callable[[Vmm], AbstractContextManager[None]]

PENDING = pytest.mark.parametrize("pending", [0, 1, 3])


@contextmanager
def virqfd(vmm: Vmm) -> Iterator[None]:
    """Set the VMM's eventfd for ACTION_UNMASK of INTX, and remove it at the end.

    Source: virqfd_wakeup() in drivers/vfio/virqfd.c.
    """
    with EventFd() as interrupt, vmm.opened() as device:
        device.arm(interrupt, vfio.INTX)
        device.unmask_by(vmm, vfio.INTX)
        yield
        device.unmask_by(-1, vfio.INTX)
        device.disarm(vfio.INTX)


@contextmanager
def irqfd(vmm: Vmm) -> Iterator[None]:
    """Make the VMM's eventfd an interrupt of a VM of KVM, and no longer at the end."""
    with Vm() as vm:
        vm.assign(vmm)
        yield
        vm.deassign(vmm)


def wait_until_read(eventfd: fdinfo.HasFileno) -> None:
    """Wait until the kernel has read the eventfd; AssertionError after `SECONDS`."""
    end = time.monotonic() + SECONDS
    while counter := fdinfo.counter(eventfd):
        assert time.monotonic() < end, f"nobody reads {counter:#x}"
        time.sleep(POLL_SECONDS)


def check(
    reader: KernelReader, alpha: Vmm, mechanism: Mechanism, firmware: Firmware, pending: int
) -> None:
    """Assert that the notifications that come after the time of ``reader`` arrive.

    ``pending`` notifications come before it.
    """
    one_by_one(firmware, alpha.device, range(0x81, 0x81 + pending))
    with reader(alpha):
        # The kernel does not read what was readable before. When something is added, it reads all.
        os.eventfd_write(alpha.fileno(), 1)
        wait_until_read(alpha)
        one_by_one(firmware, alpha.device, [0x91, 0x92])
        wait_until_read(alpha)
    alpha.acknowledge()
    last = [0xA1, 0xA2]
    one_by_one(firmware, alpha.device, last)
    assert select.select([alpha], [], [], SECONDS)[0], "nothing becomes readable"
    # Those of before that the kernel did not read arrive too, if the mechanism keeps them.
    assert alpha.values()[-len(last) :] == mechanism.seen(last)


@pytest.mark.requirement("REQ-DEL-60")
@PENDING
def test_virqfd(mechanism: Mechanism, vmm: OpenVmm, firmware: Firmware, pending: int) -> None:
    check(virqfd, vmm("alpha"), mechanism, firmware, pending)


@pytest.mark.requirement("REQ-DEL-61")
@PENDING
def test_irqfd(mechanism: Mechanism, vmm: OpenVmm, firmware: Firmware, pending: int) -> None:
    check(irqfd, vmm("alpha"), mechanism, firmware, pending)
