# SPDX-License-Identifier: GPL-2.0-only
"""Notifications that are acknowledged by unmasking the index: the promises of this mechanism.

The expected words and the flags of the ioctls are literals here, not constants of the library under
test.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from ktests import bad_input, fdinfo
from ktests.acpi import Firmware
from ktests.bad_input import BOOL, EVENTFD, MASK, NONE, TRIGGER, UNMASK, Call
from ktests.conftest import Bind, Measure
from ktests.kvm import GSI, Vm
from ktests.mechanisms.ack import AckVmm
from ktests.mechanisms.eventfd import KEPT, READ_SECONDS, overflow, take_full
from ktests.ordered_notify import one_by_one
from ktests.stress import race
from uapi import vfio
from uapi.errors import UapiError
from uapi.eventfd import EventFd

INTX, ACPI = 0, 5
AS_INTX = 1 << 0 | 1 << 1 | 1 << 2  # EVENTFD, MASKABLE, AUTOMASKED
VALID, LOOPBACK, LOST_MAX = 1 << 32, 1 << 33, 0xFFFF

# The time without an interrupt after which none is expected any more.
QUIET_SECONDS = 0.5

Start = Callable[[str], AckVmm]


@pytest.fixture
def ack_vmm(bind: Bind, firmware: Firmware) -> Iterator[Start]:
    """Yield a function that starts a VMM on a device; close the VMMs at the end of the test."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(AckVmm(bind(name), firmware, None))


def word(eventfd: EventFd) -> int:
    """Wait until the eventfd is readable, and return its word; nothing is acknowledged.

    AssertionError if it is not readable within `READ_SECONDS`.
    """
    assert eventfd.wakes_up(READ_SECONDS), "nothing to read"
    return int.from_bytes(os.read(eventfd.fileno(), 8), "little")


def counter(eventfd: EventFd) -> int:
    """Return the counter of the eventfd without reading it."""
    return fdinfo.counter(eventfd)


def set_mask(device: vfio.Device, flags: int, data: bytes = b"") -> None:
    """Call VFIO_DEVICE_SET_IRQS of the ACPI index with count 1."""
    device.set_irqs(ACPI, flags, count=1, data=data)


# The ways to acknowledge a notification.
ACKS: dict[str, Callable[[AckVmm], None]] = {
    "none": lambda vmm: set_mask(vmm.vfio, NONE | UNMASK),
    "bool": lambda vmm: set_mask(vmm.vfio, BOOL | UNMASK, b"\x80"),
    "eventfd": lambda vmm: vmm.eventfd.acknowledgement.write(1),
}
EACH_ACK = pytest.mark.parametrize("ack", ACKS)


# ---- words and flags -----------------------------------------------------------------------------


@pytest.mark.requirement("REQ-EVT-30")
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_words(ack_vmm: Start, firmware: Firmware, name: str) -> None:
    vmm = ack_vmm(name)
    for value in (0x80, 0xD1, 0xFFFF):
        one_by_one(firmware, vmm.device, [value])
        assert word(vmm.eventfd) == VALID | value
        vmm.vfio.unmask()
    vmm.vfio.loopback()
    assert word(vmm.eventfd) == VALID | LOOPBACK
    vmm.vfio.unmask()
    vmm.vfio.loopback_bool(0)
    assert counter(vmm.eventfd) == 0
    vmm.vfio.loopback_bool(0x80)
    assert word(vmm.eventfd) == VALID | LOOPBACK


@pytest.mark.requirement("REQ-INT-30")
@pytest.mark.parametrize(
    ("name", "expected"), [("alpha", (AS_INTX, 1)), ("beta", (AS_INTX, 1)), ("bare", (0, 0))]
)
def test_flags(bind: Bind, name: str, expected: tuple[int, int]) -> None:
    with vfio.Device.open(bind(name).bdf) as device:
        info = device.irq_info(ACPI)
        assert (info.flags, info.count) == expected
        assert device.irq_info(INTX).flags == AS_INTX


# ---- masks and acknowledgements ------------------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-30")
@EACH_ACK
def test_acknowledge(ack_vmm: Start, firmware: Firmware, ack: str) -> None:
    vmm = ack_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    for value in range(0x81, 0x89):
        assert word(vmm.eventfd) == VALID | value
        one_by_one(firmware, vmm.device, [value + 2])
        assert counter(vmm.eventfd) == 0, "the index is masked"
        ACKS[ack](vmm)
    assert vmm.values() == [0x89, 0x8A]


@pytest.mark.requirement("REQ-DEL-30")
def test_bool_of_zero_acknowledges_nothing(ack_vmm: Start, firmware: Firmware) -> None:
    vmm = ack_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    assert word(vmm.eventfd) == VALID | 0x81
    set_mask(vmm.vfio, BOOL | UNMASK, b"\0")
    assert counter(vmm.eventfd) == 0
    vmm.vfio.unmask()
    assert word(vmm.eventfd) == VALID | 0x82


@pytest.mark.requirement("REQ-DEL-30")
def test_acknowledgement_before_it_is_set(ack_vmm: Start, firmware: Firmware) -> None:
    vmm = ack_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    assert word(vmm.eventfd) == VALID | 0x81
    vmm.vfio.unmask_by(-1)
    vmm.eventfd.acknowledgement.write(1)
    assert counter(vmm.eventfd) == 0
    vmm.vfio.unmask_by(vmm.eventfd.acknowledgement)
    assert word(vmm.eventfd) == VALID | 0x82


@pytest.mark.requirement("REQ-DEL-31")
@pytest.mark.parametrize("data", [(NONE, b""), (BOOL, b"\x01")], ids=["none", "bool"])
@EACH_ACK
def test_mask(ack_vmm: Start, firmware: Firmware, ack: str, data: tuple[int, bytes]) -> None:
    vmm = ack_vmm("alpha")
    for _ in range(2):
        set_mask(vmm.vfio, data[0] | MASK, data[1])
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    assert counter(vmm.eventfd) == 0
    ACKS[ack](vmm)
    assert word(vmm.eventfd) == VALID | 0x81
    assert counter(vmm.eventfd) == 0


@pytest.mark.requirement("REQ-DEL-31")
def test_mask_when_masked(ack_vmm: Start, firmware: Firmware) -> None:
    vmm = ack_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    vmm.vfio.mask()
    assert word(vmm.eventfd) == VALID | 0x81
    set_mask(vmm.vfio, BOOL | MASK, b"\0")
    vmm.vfio.unmask()
    assert word(vmm.eventfd) == VALID | 0x82
    vmm.vfio.unmask()
    set_mask(vmm.vfio, BOOL | MASK, b"\0")
    one_by_one(firmware, vmm.device, [0x83])
    assert word(vmm.eventfd) == VALID | 0x83


@pytest.mark.requirement("REQ-DEL-32")
@EACH_ACK
def test_several_acknowledgements(ack_vmm: Start, firmware: Firmware, ack: str) -> None:
    vmm = ack_vmm("alpha")
    for _ in range(3):
        ACKS[ack](vmm)
    # Removing the eventfd waits until the kernel has handled what was written to it.
    vmm.vfio.unmask_by(-1)
    one_by_one(firmware, vmm.device, [0x81])
    for value in (0x81, 0x82, 0x83):
        assert word(vmm.eventfd) == VALID | value
        one_by_one(firmware, vmm.device, [value + 1])
        assert counter(vmm.eventfd) == 0
        vmm.vfio.unmask()


@pytest.mark.requirement("REQ-DEL-33")
@pytest.mark.parametrize("then", ["unmask", "notification"])
def test_acknowledged_unread(ack_vmm: Start, firmware: Firmware, then: str) -> None:
    vmm = ack_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    for _ in range(2):
        vmm.vfio.unmask()
    assert counter(vmm.eventfd) == VALID | 0x81
    one_by_one(firmware, vmm.device, [0x83])
    assert word(vmm.eventfd) == VALID | 0x81
    if then == "unmask":
        vmm.vfio.unmask()
    else:
        one_by_one(firmware, vmm.device, [0x84])
    assert word(vmm.eventfd) == VALID | 0x82
    vmm.vfio.unmask()
    assert vmm.values() == ([0x83] if then == "unmask" else [0x83, 0x84])


@pytest.mark.requirement("REQ-DEL-34")
@pytest.mark.parametrize("lost", [0, 1, 1000, 0x10000])
def test_kept(ack_vmm: Start, firmware: Firmware, lost: int) -> None:
    vmm = ack_vmm("alpha")
    overflow(firmware, vmm.device, KEPT + lost)
    first, *rest = take_full(firmware, vmm.vfio, vmm.eventfd)
    assert (first.value, first.lost) == (0x80, 0)
    assert [item.lost for item in rest] == [min(lost, LOST_MAX), *[0] * 255]
    assert Counter(item.value for item in rest) == Counter(range(0x100, 0x200))


@pytest.mark.requirement("REQ-DEL-35")
def test_crossed(ack_vmm: Start, firmware: Firmware) -> None:
    alpha, beta = ack_vmm("alpha"), ack_vmm("beta")
    for one, other in ((alpha, beta), (beta, alpha)):
        one.vfio.unmask_by(-1)
        one.vfio.unmask_by(other.eventfd)
    firmware.notify_in_turn(0x81, 64)
    firmware.flush_handlers()
    for one in (alpha, beta):
        one.vfio.disarm()
    for one in (alpha, beta):
        one.eventfd.read_only()
        one.vfio.arm(one.eventfd)
        one.vfio.unmask_by(one.eventfd.acknowledgement)
    one_by_one(firmware, alpha.device, [0x91])
    one_by_one(firmware, beta.device, [0xA1])
    assert (alpha.values(), beta.values()) == ([0x91], [0xA1])


# ---- life cycle ----------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-LIF-30")
def test_swap(ack_vmm: Start, firmware: Firmware) -> None:
    vmm = ack_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    with EventFd() as new:
        vmm.vfio.arm(new)
        one_by_one(firmware, vmm.device, [0x83])
        assert (counter(vmm.eventfd), counter(new)) == (VALID | 0x81, 0)
        for value in (0x82, 0x83):
            vmm.eventfd.acknowledgement.write(1)
            assert word(new) == VALID | value
        assert word(vmm.eventfd) == VALID | 0x81


ENDS: dict[str, Callable[[vfio.Device], None]] = {
    "minus-one": vfio.Device.disarm,
    "count-0": vfio.Device.teardown,
    "close": vfio.Device.close,
}


@pytest.mark.requirement("REQ-LIF-31")
@pytest.mark.parametrize("masked", ["by-the-notification", "by-the-user"])
@pytest.mark.parametrize("end", ENDS)
def test_end(ack_vmm: Start, firmware: Firmware, end: str, masked: str) -> None:
    vmm = ack_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    if masked == "by-the-user":
        vmm.vfio.mask()
    ENDS[end](vmm.vfio)
    one_by_one(firmware, vmm.device, [0x83])
    vmm.eventfd.acknowledgement.write(1)
    assert word(vmm.eventfd) == VALID | 0x81
    assert counter(vmm.eventfd.acknowledgement) == 1, "the kernel reads it no more"
    with ExitStack() as stack:
        device = vmm.vfio
        if end == "close":
            device = stack.enter_context(vfio.Device.open(vmm.device.bdf))
        device.arm(vmm.eventfd)
        one_by_one(firmware, vmm.device, [0x84, 0x85])
        assert word(vmm.eventfd) == VALID | 0x84
        assert counter(vmm.eventfd) == 0
        device.unmask()
        assert word(vmm.eventfd) == VALID | 0x85


@pytest.mark.requirement("REQ-LIF-32")
def test_acknowledgement_is_closed(ack_vmm: Start, firmware: Firmware) -> None:
    vmm = ack_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82, 0x83])
    vmm.eventfd.acknowledgement.close()
    assert word(vmm.eventfd) == VALID | 0x81
    vmm.vfio.unmask()
    assert word(vmm.eventfd) == VALID | 0x82
    with EventFd() as another:
        vmm.vfio.unmask_by(another)
        another.write(1)
        assert word(vmm.eventfd) == VALID | 0x83


STRESS_SECONDS = 3.0
# EINVAL: no eventfd is set. EBUSY: one is set for UNMASK. EBADF, ENOTTY: the device's descriptor is
# closed, or its number belongs to another file. Each means that another thread was faster.
OVERTAKEN = frozenset({errno.EINVAL, errno.EBUSY, errno.EBADF, errno.ENOTTY})


@pytest.mark.requirement("REQ-LIF-33")
def test_stress(ack_vmm: Start, firmware: Firmware, measure: Measure) -> None:
    first = ack_vmm("alpha")
    first.close()
    before = fdinfo.free_contexts()

    def arm(device: vfio.Device) -> None:
        with EventFd() as one, EventFd() as two:
            device.arm(one)
            device.arm(two)

    def acknowledge(device: vfio.Device) -> None:
        with EventFd() as one, EventFd() as two:
            device.unmask_by(one)
            one.write(1)
            device.unmask_by(-1)
            device.unmask_by(two)
            two.write(1)

    acts: dict[str, Callable[[vfio.Device], object]] = {
        "arm": arm,
        "acknowledge": acknowledge,
        "disarm": vfio.Device.disarm,
        "mask": vfio.Device.mask,
        "unmask": vfio.Device.unmask,
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
    assert fdinfo.free_contexts() == before
    alpha = ack_vmm("alpha")
    one_by_one(firmware, alpha.device, [0x82])
    assert alpha.values() == [0x82]


# ---- errors --------------------------------------------------------------------------------------


def outcome(device: vfio.Device, call: Call) -> str:
    """Make the call on the ACPI index. Returns the name of the errno if it fails, else ""."""
    try:
        device.set_irqs(
            ACPI,
            call.flags,
            start=call.start,
            count=call.count,
            data=call.data,
            argsz=call.argsz,
        )
    except UapiError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def check_pending(vmm: AckVmm, firmware: Firmware, calls: list[Call]) -> None:
    """Check the outcome of each call, with one notification readable and two in the queue.

    None of the calls may change that, nor the mask.
    """
    one_by_one(firmware, vmm.device, [0x81, 0x82, 0x83])
    got = {call.name: (outcome(vmm.vfio, call), counter(vmm.eventfd)) for call in calls}
    assert got == {call.name: (call.outcome, VALID | 0x81) for call in calls}
    assert word(vmm.eventfd) == VALID | 0x81
    assert [outcome(vmm.vfio, call) for call in calls] == [call.outcome for call in calls]
    assert counter(vmm.eventfd) == 0, "the index is still masked"
    vmm.eventfd.acknowledgement.write(1)
    assert vmm.values() == [0x82, 0x83]


ACTIONS = {"mask": MASK, "unmask": UNMASK}
DATA = {"none": NONE, "bool": BOOL, "eventfd": EVENTFD}

BAD_MASKS: dict[str, list[Call]] = {
    name: [
        *(
            Call(f"{data}, start {start}, count {count}", bits | action, start=start, count=count)
            for data, bits in DATA.items()
            for start, count in ((0, 0), (1, 1), (0, 2), (1, 0))
        ),
        *(
            Call(f"{data} and trigger", bits | action | TRIGGER, "ENOTTY")
            for data, bits in DATA.items()
        ),
        Call("no data", action),
        Call("none and bool", NONE | BOOL | action),
        Call("bool, short", BOOL | action, argsz=20),
        Call("eventfd, short", EVENTFD | action, argsz=23),
        Call("bool of 0", BOOL | action, "", data=b"\0"),
    ]
    for name, action in ACTIONS.items()
}


@pytest.mark.requirement("REQ-ERR-30")
@pytest.mark.parametrize("action", ACTIONS)
def test_bad_mask(ack_vmm: Start, firmware: Firmware, action: str) -> None:
    check_pending(ack_vmm("alpha"), firmware, BAD_MASKS[action])


@pytest.mark.requirement("REQ-ERR-30")
def test_bad_acknowledgement(ack_vmm: Start, firmware: Firmware) -> None:
    with ExitStack() as stack:
        another = stack.enter_context(EventFd()).fileno()
        calls = [
            Call("another one", EVENTFD | UNMASK, "EBUSY", data=struct.pack("=i", another)),
            Call("by mask", EVENTFD | MASK, "ENOTTY", data=struct.pack("=i", another)),
            *(
                replace(kind.call(stack), flags=EVENTFD | UNMASK)
                for kind in bad_input.DESCRIPTORS.values()
            ),
        ]
        check_pending(ack_vmm("alpha"), firmware, calls)


@pytest.mark.requirement("REQ-ERR-30")
@pytest.mark.parametrize("before", ["never", "de-assigned"])
def test_mask_of_the_unarmed(bind: Bind, before: str) -> None:
    with vfio.Device.open(bind("alpha").bdf) as device, EventFd() as eventfd:
        if before == "de-assigned":
            device.arm(eventfd)
            device.disarm()
        data = struct.pack("=i", eventfd.fileno())
        got = {
            (name, kind): outcome(device, Call(name, action | bits, data=data))
            for name, action in ACTIONS.items()
            for kind, bits in DATA.items()
        }
        assert got == dict.fromkeys(got, "EINVAL")
        device.arm(eventfd)
        device.loopback()
        assert word(eventfd) == VALID | LOOPBACK, "and is not masked"


def masks(call: Call) -> bool:
    """Return whether the REQ index refuses the call only because it cannot be masked."""
    return call.flags & ~0x7 in ACTIONS.values() and call.outcome == "ENOTTY"


@pytest.mark.requirement("REQ-ERR-31")
@pytest.mark.parametrize("case", bad_input.CASES)
def test_bad_input(ack_vmm: Start, firmware: Firmware, case: str) -> None:
    calls = [call for call in bad_input.CASES[case] if not masks(call)]
    check_pending(ack_vmm("alpha"), firmware, calls)


@pytest.mark.requirement("REQ-ERR-31")
def test_bad_eventfd(ack_vmm: Start, firmware: Firmware) -> None:
    with ExitStack() as stack:
        semaphore = stack.enter_context(EventFd(semaphore=True))
        calls = [
            bad_input.signal("semaphore", semaphore.fileno(), "EINVAL"),
            *(kind.call(stack) for kind in bad_input.DESCRIPTORS.values()),
        ]
        check_pending(ack_vmm("alpha"), firmware, calls)


@pytest.mark.requirement("REQ-ERR-31")
def test_unarmed(ack_vmm: Start) -> None:
    vmm = ack_vmm("alpha")
    vmm.vfio.disarm()
    got = [outcome(vmm.vfio, call) for call in bad_input.UNARMED]
    assert got == [call.outcome for call in bad_input.UNARMED]


# ---- KVM acknowledges ----------------------------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-62")
def test_resamplefd(ack_vmm: Start, firmware: Firmware) -> None:
    vmm = ack_vmm("alpha")
    with Vm() as vm, vm.cpu() as cpu:
        vm.assign(vmm.eventfd, resample=vmm.eventfd.acknowledgement)
        one_by_one(firmware, vmm.device, [0x81, 0x82, 0x83])
        got = [cpu.interrupt(READ_SECONDS) for _ in range(3)]
        assert (got, cpu.interrupt(QUIET_SECONDS)) == ([GSI] * 3, None)
        vm.deassign(vmm.eventfd)
