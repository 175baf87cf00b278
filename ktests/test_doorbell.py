# SPDX-License-Identifier: GPL-2.0-only
"""An eventfd that counts, and the feature that fetches values: the promises of these mechanisms.

The expected bytes are literals here, not constants of the library under test.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from ktests import libc
from ktests.acpi import Firmware
from ktests.conftest import Measure
from ktests.mechanisms.doorbell import KEPT, DoorbellVmm
from ktests.ordered_notify import one_by_one
from ktests.pci import PciDevice
from ktests.stress import race
from uapi import vfio
from uapi.doorbell import Pending
from uapi.eventfd import EventFd

Bind = Callable[[str], PciDevice]

FEATURE = 0x3B75  # the ioctl VFIO_DEVICE_FEATURE
NUMBER = 15
GET_BIT, SET_BIT, PROBE_BIT = (1 << bit for bit in (16, 17, 18))
GET, SET = GET_BIT | NUMBER, SET_BIT | NUMBER

SIZE = 24  # bytes of a request: the header, and the data

ACTION_UNMASK, DATA_EVENTFD, INTX = 1 << 4, 1 << 2, 0


class Open(Protocol):
    """The type of a function that starts a VMM that fetches, on the device called ``name``."""

    def __call__(self, name: str, *, semaphore: bool = False) -> DoorbellVmm:
        """Start the VMM and return it."""


@pytest.fixture
def doorbell_vmm(bind: Bind, firmware: Firmware) -> Iterator[Open]:
    """Yield a function that starts a VMM that fetches; close the VMMs at the end of the test."""
    with ExitStack() as stack:

        def start(name: str, *, semaphore: bool = False) -> DoorbellVmm:
            return stack.enter_context(DoorbellVmm(bind(name), firmware, None, semaphore=semaphore))

        yield start


def feature(
    device: vfio.Device, operation: int, flags: int = 0, *, argsz: int = SIZE
) -> tuple[int, ...] | str:
    """Call VFIO_DEVICE_FEATURE. Returns the four members of the data, or the errno's name.

    ``operation`` is the member ``flags`` of the header, ``flags`` that of the data.
    """
    buffer = bytearray(struct.pack("=IIIIII", argsz, operation, flags, 0, 0, 0))
    try:
        fcntl.ioctl(device.fileno(), FEATURE, buffer)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return struct.unpack("=IIII", buffer[8:])


# ---- the counter, and what is fetched ------------------------------------------------------------


@pytest.mark.requirement("REQ-EVT-20")
def test_counter(bind: Bind, firmware: Firmware) -> None:
    alpha = bind("alpha")
    with vfio.Device.open(alpha.bdf) as device, EventFd() as eventfd:
        device.arm(eventfd)
        one_by_one(firmware, alpha, [0x81])
        assert eventfd.read() == 1
        firmware.notify(alpha.method, 0x82, count=300)
        firmware.flush_handlers()
        device.loopback()
        device.loopback_bool(0)
        device.loopback_bool(0x80)
        assert eventfd.read() == 302
        assert eventfd.read() is None


@pytest.mark.requirement("REQ-EVT-21")
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_fetch(doorbell_vmm: Open, firmware: Firmware, name: str) -> None:
    vmm = doorbell_vmm(name)
    values = [0x80, 0xD1, 0xFF, 0x181, 0xFFFF]
    one_by_one(firmware, vmm.device, values)
    got = [feature(vmm.vfio, GET) for _ in range(6)]
    assert got == [*((0, value, number, 0) for number, value in enumerate(values)), "ENOMSG"]


@pytest.mark.requirement("REQ-EVT-21")
def test_nothing_to_fetch(doorbell_vmm: Open, firmware: Firmware, bind: Bind) -> None:
    with vfio.Device.open(bind("beta").bdf) as never_armed:
        assert feature(never_armed, GET) == "ENOMSG"
    vmm = doorbell_vmm("alpha")
    assert feature(vmm.vfio, GET) == "ENOMSG"
    vmm.vfio.loopback()
    vmm.vfio.loopback_bool(1)
    assert feature(vmm.vfio, GET) == "ENOMSG"
    one_by_one(firmware, vmm.device, [0x81])
    assert [feature(vmm.vfio, GET), feature(vmm.vfio, GET)] == [(0, 0x81, 0, 0), "ENOMSG"]


@pytest.mark.requirement("REQ-EVT-22")
def test_fetch_into_bad_memory(doorbell_vmm: Open, firmware: Firmware) -> None:
    vmm = doorbell_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        memory[:SIZE] = struct.pack("=IIIIII", SIZE, GET, 0, 0, 0, 0)
        first = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(first)
        libc.mprotect(address, mmap.PAGESIZE, mmap.PROT_READ)
        with pytest.raises(OSError) as caught:
            libc.ioctl(vmm.vfio.fileno(), FEATURE, address)
        libc.mprotect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE)
        del first
    assert caught.value.errno == errno.EFAULT
    assert vmm.values() == [0x81, 0x82]


@pytest.mark.requirement("REQ-INT-20")
def test_probe(bind: Bind) -> None:
    for name, expected in {"alpha": "ENOMSG", "bare": "ENODEV"}.items():
        with vfio.Device.open(bind(name).bdf) as device:
            assert device.has_feature(NUMBER)
            assert feature(device, GET) == expected


# ---- loss, semaphores, shared eventfds, other readers --------------------------------------------


@pytest.mark.requirement("REQ-DEL-20")
@pytest.mark.parametrize("lost", [0, 1, 1000])
def test_kept(doorbell_vmm: Open, firmware: Firmware, lost: int) -> None:
    vmm = doorbell_vmm("alpha")
    firmware.notify(vmm.device.method, 0x81, count=lost)
    firmware.flush_handlers()
    firmware.notify(vmm.device.method, 0x100, step=1, count=KEPT)
    firmware.flush_handlers()
    got = vmm.fetch_all()
    assert Counter(item.value for item in got) == Counter(range(0x100, 0x200))
    assert [item.sequence for item in got] == [*range(lost, lost + KEPT)]
    assert [item.lost for item in got] == [lost, *[0] * (KEPT - 1)]


@pytest.mark.requirement("REQ-DEL-20")
def test_gaps(doorbell_vmm: Open, firmware: Firmware) -> None:
    vmm = doorbell_vmm("alpha")
    firmware.notify(vmm.device.method, 0x81, count=KEPT + 5)
    firmware.flush_handlers()
    got = [vmm.vfio.fetch()]
    # The first of these takes the place of the fetched one, for the others the oldest is lost.
    firmware.notify(vmm.device.method, 0x82, count=4)
    firmware.flush_handlers()
    got += [vmm.vfio.fetch(), vmm.vfio.fetch()]
    assert got == [Pending(0, 0x81, 5, 5), Pending(0, 0x81, 9, 3), Pending(0, 0x81, 10, 0)]


@pytest.mark.requirement("REQ-DEL-21")
def test_semaphore(bind: Bind, firmware: Firmware) -> None:
    alpha = bind("alpha")
    with vfio.Device.open(alpha.bdf) as device, EventFd(semaphore=True) as semaphore:
        device.arm(semaphore)
        firmware.notify(alpha.method, 0x81, count=3)
        firmware.flush_handlers()
        assert [semaphore.read() for _ in range(4)] == [1, 1, 1, None]


@pytest.mark.requirement("REQ-DEL-22")
def test_shared(doorbell_vmm: Open, firmware: Firmware) -> None:
    alpha, beta = doorbell_vmm("alpha"), doorbell_vmm("beta")
    beta.vfio.arm(alpha.eventfd)
    one_by_one(firmware, alpha.device, [0x81, 0x82])
    one_by_one(firmware, beta.device, [0x91])
    assert alpha.eventfd.read() == 3
    assert [item.value for item in beta.fetch_all()] == [0x91]
    assert [item.value for item in alpha.fetch_all()] == [0x81, 0x82]


@pytest.mark.requirement("REQ-DEL-23")
def test_written(doorbell_vmm: Open, firmware: Firmware) -> None:
    vmm = doorbell_vmm("alpha")
    vmm.eventfd.write(5)
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    assert vmm.eventfd.read() == 7
    assert vmm.values() == [0x81, 0x82]


def unmask(device: vfio.Device, fd: int) -> None:
    """Set the eventfd ``fd`` for ACTION_UNMASK of INTX, so that the kernel reads it; -1: none."""
    data = fd.to_bytes(4, sys.byteorder, signed=True)
    device.set_irqs(INTX, DATA_EVENTFD | ACTION_UNMASK, count=1, data=data)


@pytest.mark.requirement("REQ-DEL-23")
def test_kernel_reads(doorbell_vmm: Open, firmware: Firmware) -> None:
    vmm = doorbell_vmm("alpha")
    with EventFd() as intx:
        vmm.vfio.arm(intx, vfio.INTX)
        unmask(vmm.vfio, vmm.eventfd.fileno())
        one_by_one(firmware, vmm.device, [0x81, 0x82])
        assert vmm.eventfd.read() is None, "the kernel reads each signal"
        unmask(vmm.vfio, -1)
        vmm.vfio.disarm(vfio.INTX)
    one_by_one(firmware, vmm.device, [0x83])
    assert vmm.eventfd.read() == 1
    assert vmm.values() == [0x81, 0x82, 0x83]


# ---- life cycle ----------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-LIF-20")
def test_swap(doorbell_vmm: Open, firmware: Firmware) -> None:
    vmm = doorbell_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    with EventFd() as new:
        vmm.vfio.arm(new)
        assert (vmm.eventfd.read(), new.read()) == (2, None)
        one_by_one(firmware, vmm.device, [0x83])
        assert (vmm.eventfd.read(), new.read()) == (None, 1)
        assert vmm.values() == [0x81, 0x82, 0x83]


@pytest.mark.requirement("REQ-LIF-20")
def test_swap_from_closed(doorbell_vmm: Open, firmware: Firmware) -> None:
    vmm = doorbell_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81])
    vmm.eventfd.close()
    one_by_one(firmware, vmm.device, [0x82])
    with EventFd() as new:
        vmm.vfio.arm(new)
        one_by_one(firmware, vmm.device, [0x83])
        assert new.read() == 1
    assert [item.value for item in vmm.fetch_all()] == [0x81, 0x82, 0x83]


ENDS: dict[str, Callable[[vfio.Device], None]] = {
    "minus-one": vfio.Device.disarm,
    "count-0": vfio.Device.teardown,
    "close": vfio.Device.close,
}


@pytest.mark.requirement("REQ-LIF-20")
@pytest.mark.parametrize("unread", [1, KEPT + 43])
@pytest.mark.parametrize("end", ENDS)
def test_end(doorbell_vmm: Open, firmware: Firmware, end: str, unread: int) -> None:
    vmm = doorbell_vmm("alpha")
    firmware.notify(vmm.device.method, 0x81, count=unread)
    firmware.flush_handlers()
    ENDS[end](vmm.vfio)
    one_by_one(firmware, vmm.device, [0x82])
    assert vmm.eventfd.read() == unread
    again = doorbell_vmm("alpha") if end == "close" else vmm
    assert feature(again.vfio, GET) == "ENOMSG"
    again.vfio.arm(again.eventfd)
    one_by_one(firmware, vmm.device, [0x83])
    assert [feature(again.vfio, GET), feature(again.vfio, GET)] == [(0, 0x83, 0, 0), "ENOMSG"]


STRESS_SECONDS = 3.0
# EINVAL: no eventfd is set, or its number belongs to another file. EBADF, ENOTTY: the same of the
# device's descriptor. Each means that another thread was faster.
OVERTAKEN = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTTY})


@pytest.mark.requirement("REQ-LIF-21")
def test_stress(doorbell_vmm: Open, firmware: Firmware, measure: Measure) -> None:
    first = doorbell_vmm("alpha")
    first.close()

    def arm(device: vfio.Device) -> None:
        with EventFd() as one, EventFd() as two:
            device.arm(one)
            device.arm(two)

    acts: dict[str, Callable[[vfio.Device], object]] = {
        "arm": arm,
        "disarm": vfio.Device.disarm,
        "tear down": vfio.Device.teardown,
        "fetch": vfio.Device.fetch,
        "fetch too": vfio.Device.fetch,
    }

    done = race(
        first.device.bdf,
        acts,
        lambda: firmware.notify(first.device.method, 0x80, count=512),
        overtaken=OVERTAKEN,
        seconds=STRESS_SECONDS,
    )
    firmware.flush_handlers()
    for name, times in sorted(done.items()):
        measure(name, times)
    assert all(done[name] for name in acts), done
    alpha = doorbell_vmm("alpha")
    one_by_one(firmware, alpha.device, [0x82])
    assert alpha.values() == [0x82]


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ERR-20")
@pytest.mark.parametrize(
    ("operation", "flags", "argsz", "expected"),
    [
        *((GET, 0, argsz, "EINVAL") for argsz in (0, 7, 8, SIZE - 1)),
        *((GET, 1 << bit, SIZE, "EINVAL") for bit in (0, 1, 31)),
        (SET, 0, SIZE, "EINVAL"),
        (GET | SET, 0, SIZE, "EINVAL"),
        (GET_BIT | PROBE_BIT | SET_BIT | NUMBER, 0, SIZE, "EINVAL"),
        (NUMBER, 0, SIZE, "EINVAL"),
        (GET | 1 << 19, 0, SIZE, "EINVAL"),
        (GET + 1, 0, SIZE, "ENOTTY"),
    ],
)
def test_bad_feature(
    doorbell_vmm: Open, firmware: Firmware, operation: int, flags: int, argsz: int, expected: str
) -> None:
    vmm = doorbell_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81])
    assert feature(vmm.vfio, operation, flags, argsz=argsz) == expected
    assert vmm.values() == [0x81]
