# SPDX-License-Identifier: GPL-2.0-only
"""Bad input: the calls in ktests/bad_input.py must have the outcomes that they have there.

A call that fails must not change anything. Therefore most tests arm an eventfd with an unread
signal on the interrupt index before the calls. After each call the eventfd's counter must be the
same. After the last call the unread signal must still be readable, and a loopback must still
arrive.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from ktests import bad_input, fdinfo
from ktests.acpi import Firmware
from ktests.bad_input import EVENTFD, TRIGGER, Call
from ktests.hole import before_a_hole
from ktests.pci import PciDevice
from uapi import vfio
from uapi.eventfd import EventFd

GET_IRQ_INFO = 0x3B6D
SET_IRQS = 0x3B6E

ERR, REQ, ACPI = 3, 4, 5

VALID = 1 << 32
LOOPBACK = VALID | 1 << 33
WAIT_SECONDS = 10.0

Opened = Callable[[str], vfio.Device]


@pytest.fixture(scope="module")
def opened(bind: Callable[[str], PciDevice]) -> Iterator[Opened]:
    """Yield a function that opens the device called ``name`` and returns it.

    A device stays open for all tests of this module, and is opened only once. Each test has to
    leave it with no eventfd armed.
    """
    with ExitStack() as stack:

        def open_device(name: str) -> vfio.Device:
            return stack.enter_context(vfio.Device.open(bind(name).bdf))

        yield functools.cache(open_device)


# ---- the outcome of a call -----------------------------------------------------------------------


def outcome(call: Callable[[], object]) -> str:
    """Call ``call``. Returns the name of the errno ("EINVAL") if it raises OSError, else ""."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def set_irqs(device: vfio.Device, index: int, call: Call) -> str:
    """Call VFIO_DEVICE_SET_IRQS with ``index`` and the fields of ``call``.

    Returns the name of the errno if the ioctl fails, else "".
    """
    return outcome(
        lambda: device.set_irqs(
            index,
            call.flags,
            start=call.start,
            count=call.count,
            data=call.data,
            argsz=call.argsz,
        )
    )


def read(eventfd: EventFd) -> int:
    """Wait until the eventfd is readable, then read its counter and return it.

    AssertionError if it is not readable within `WAIT_SECONDS`.
    """
    assert eventfd.wakes_up(WAIT_SECONDS), "nothing to read"
    return eventfd.read() or 0


# ---- checks --------------------------------------------------------------------------------------


@contextmanager
def armed(device: vfio.Device, index: int) -> Iterator[EventFd]:
    """Arm a new eventfd on the interrupt index for the length of the block, and yield it."""
    with EventFd() as eventfd:
        device.arm(eventfd, index)
        try:
            yield eventfd
        finally:
            device.disarm(index)


def check_calls(device: vfio.Device, index: int, eventfd: EventFd, calls: Sequence[Call]) -> None:
    """Check that each call has its expected outcome, and does not change the eventfd's counter.

    ``eventfd`` is the eventfd that is armed on the interrupt index.
    """
    before = fdinfo.counter(eventfd)
    got = {call.name: (set_irqs(device, index, call), fdinfo.counter(eventfd)) for call in calls}
    assert got == {call.name: (call.outcome, before) for call in calls}


def check_counting(device: vfio.Device, index: int, calls: Sequence[Call]) -> None:
    """Check ``calls`` on an index (`check_calls`) whose eventfd counts the signals.

    One loopback is caused before the calls and one after them. Then the counter has to be 2.
    """
    with armed(device, index) as eventfd:
        device.loopback(index)
        check_calls(device, index, eventfd, calls)
        device.loopback(index)
        assert eventfd.read() == 2, "one from before the calls, one from after"


def check_queueing(
    device: vfio.Device, source: PciDevice, firmware: Firmware, calls: Sequence[Call]
) -> None:
    """Check ``calls`` on the ACPI index (`check_calls`), while three notifications are unread.

    One of them is readable, and two are queued behind it. After the calls all three have to be
    readable one after the other, in any order, and then a loopback. ``source`` is the device that
    firmware notifies.
    """
    with armed(device, ACPI) as eventfd:
        firmware.notify(source.method, 0x81, step=1, count=3)
        assert eventfd.wakes_up(WAIT_SECONDS)
        check_calls(device, ACPI, eventfd, calls)
        pending = {read(eventfd) for _ in range(3)}
        assert pending == {VALID | 0x81, VALID | 0x82, VALID | 0x83}
        device.loopback(ACPI)
        assert read(eventfd) == LOOPBACK


def check_refused(device: vfio.Device, index: int, calls: Sequence[Call]) -> None:
    """Check that each call on the index fails with EINVAL, whatever its expected outcome.

    The device or the kernel does not have the index.
    """
    got = {call.name: set_irqs(device, index, call) for call in calls}
    assert got == dict.fromkeys(got, "EINVAL")


def check_unarmed(device: vfio.Device, index: int) -> None:
    """Check the outcomes of `bad_input.UNARMED` on an index on which no eventfd is armed."""
    got = {call.name: set_irqs(device, index, call) for call in bad_input.UNARMED}
    assert got == {call.name: call.outcome for call in bad_input.UNARMED}


def check_unreadable(device: vfio.Device, index: int, data: str = "EFAULT") -> None:
    """Check the errors of VFIO_DEVICE_SET_IRQS if the kernel cannot read its argument.

    If there is no memory at the address of the argument, the error has to be EFAULT. If there is
    memory for the header, but not for the data behind it, the error has to be ``data`` (the name of
    an errno).
    """
    fd = device.fileno()
    assert outcome(lambda: fcntl.ioctl(fd, SET_IRQS, 0)) == "EFAULT"
    with before_a_hole(struct.pack("=IIIII", 24, EVENTFD | TRIGGER, index, 0, 1)) as header:
        assert outcome(lambda: fcntl.ioctl(fd, SET_IRQS, header)) == data


# ---- REQ -----------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ERR-01")
@pytest.mark.parametrize("case", bad_input.CASES)
def test_req(opened: Opened, case: str) -> None:
    check_counting(opened("alpha"), REQ, bad_input.CASES[case])


@pytest.mark.requirement("REQ-ERR-01")
@pytest.mark.parametrize("kind", bad_input.DESCRIPTORS)
def test_req_descriptor(opened: Opened, kind: str) -> None:
    with ExitStack() as stack:
        check_counting(opened("alpha"), REQ, [bad_input.DESCRIPTORS[kind].call(stack)])


@pytest.mark.requirement("REQ-ERR-01")
def test_req_unreadable(opened: Opened) -> None:
    device = opened("alpha")
    with armed(device, REQ) as eventfd:
        check_unreadable(device, REQ)
        device.loopback(REQ)
        assert eventfd.read() == 1


@pytest.mark.requirement("REQ-ERR-01")
def test_req_unarmed(opened: Opened) -> None:
    check_unarmed(opened("alpha"), REQ)


# ---- ERR -----------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ERR-02")
@pytest.mark.parametrize("case", bad_input.CASES)
def test_err(opened: Opened, case: str) -> None:
    check_counting(opened("express"), ERR, bad_input.CASES[case])


@pytest.mark.requirement("REQ-ERR-02")
@pytest.mark.parametrize("kind", bad_input.DESCRIPTORS)
def test_err_descriptor(opened: Opened, kind: str) -> None:
    with ExitStack() as stack:
        check_counting(opened("express"), ERR, [bad_input.DESCRIPTORS[kind].call(stack)])


@pytest.mark.requirement("REQ-ERR-02")
def test_err_unreadable(opened: Opened) -> None:
    device = opened("express")
    with armed(device, ERR) as eventfd:
        check_unreadable(device, ERR)
        device.loopback(ERR)
        assert eventfd.read() == 1


@pytest.mark.requirement("REQ-ERR-02")
def test_err_unarmed(opened: Opened) -> None:
    check_unarmed(opened("express"), ERR)


@pytest.mark.requirement("REQ-ERR-02")
@pytest.mark.parametrize("case", bad_input.CASES)
def test_err_conventional(opened: Opened, case: str) -> None:
    device, calls = opened("alpha"), bad_input.CASES[case]
    if bad_input.ERR_NEEDS_EXPRESS:
        check_refused(device, ERR, [*calls, *bad_input.UNARMED])
    else:
        check_counting(device, ERR, calls)


# ---- ACPI ----------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ERR-03")
@pytest.mark.parametrize("case", bad_input.CASES)
def test_acpi(opened: Opened, devices: dict[str, PciDevice], firmware: Firmware, case: str) -> None:
    check_queueing(opened("alpha"), devices["alpha"], firmware, bad_input.CASES[case])


@pytest.mark.requirement("REQ-ERR-03")
@pytest.mark.parametrize("kind", bad_input.DESCRIPTORS)
def test_acpi_descriptor(
    opened: Opened, devices: dict[str, PciDevice], firmware: Firmware, kind: str
) -> None:
    with ExitStack() as stack:
        calls = [bad_input.DESCRIPTORS[kind].call(stack)]
        check_queueing(opened("alpha"), devices["alpha"], firmware, calls)


@pytest.mark.requirement("REQ-ERR-03")
def test_acpi_unreadable(opened: Opened) -> None:
    device = opened("alpha")
    with armed(device, ACPI) as eventfd:
        check_unreadable(device, ACPI)
        device.loopback(ACPI)
        assert eventfd.read() == LOOPBACK


@pytest.mark.requirement("REQ-ERR-03")
def test_acpi_unarmed(opened: Opened) -> None:
    check_unarmed(opened("alpha"), ACPI)


@pytest.mark.requirement("REQ-ERR-06")
@pytest.mark.parametrize("initial", [0, 1])
def test_semaphore(
    opened: Opened, devices: dict[str, PciDevice], firmware: Firmware, initial: int
) -> None:
    with EventFd(initial, semaphore=True) as semaphore:
        calls = [bad_input.signal("semaphore", semaphore.fileno(), "EINVAL")]
        check_queueing(opened("alpha"), devices["alpha"], firmware, calls)
        assert fdinfo.counter(semaphore) == initial


@pytest.mark.requirement("REQ-ERR-06")
def test_semaphore_unarmed(opened: Opened) -> None:
    device = opened("alpha")
    with armed(device, ACPI):
        pass  # an eventfd without EFD_SEMAPHORE can be armed on the index
    with EventFd(semaphore=True) as semaphore:
        assert outcome(lambda: device.arm(semaphore, ACPI)) == "EINVAL"
        check_unarmed(device, ACPI)
        assert fdinfo.counter(semaphore) == 0


# ---- ACPI, with an eventfd that counts -----------------------------------------------------------


@pytest.mark.requirement("REQ-ERR-21")
@pytest.mark.parametrize("case", bad_input.CASES)
def test_counting(opened: Opened, case: str) -> None:
    check_counting(opened("alpha"), ACPI, bad_input.CASES[case])


@pytest.mark.requirement("REQ-ERR-21")
@pytest.mark.parametrize("kind", bad_input.DESCRIPTORS)
def test_counting_descriptor(opened: Opened, kind: str) -> None:
    with ExitStack() as stack:
        check_counting(opened("alpha"), ACPI, [bad_input.DESCRIPTORS[kind].call(stack)])


@pytest.mark.requirement("REQ-ERR-21")
def test_counting_unreadable(opened: Opened) -> None:
    device = opened("alpha")
    with armed(device, ACPI) as eventfd:
        check_unreadable(device, ACPI)
        device.loopback(ACPI)
        assert eventfd.read() == 1


@pytest.mark.requirement("REQ-ERR-21")
def test_counting_unarmed(opened: Opened) -> None:
    check_unarmed(opened("alpha"), ACPI)


# ---- index 5 without a companion, and without the series -----------------------------------------


def check_useless(device: vfio.Device, calls: Sequence[Call]) -> None:
    """Check that each call on the ACPI index fails with EINVAL, since the index cannot be used.

    The kernel does not have the index, or the device has no companion. Besides ``calls``, valid
    calls are made, which have to fail too.
    """
    with EventFd() as eventfd:
        good = bad_input.signal("eventfd", eventfd.fileno())
        check_refused(device, ACPI, [good, *calls, *bad_input.UNARMED])


def check_bare(device: vfio.Device) -> None:
    """Check that VFIO_DEVICE_GET_IRQ_INFO of the ACPI index returns flags 0 and count 0.

    The kernel then has the index, and the device has no companion.
    """
    assert device.irq_info(ACPI) == vfio.IrqInfo(index=5, flags=0, count=0)


@pytest.mark.requirement("REQ-ERR-07")
@pytest.mark.parametrize("case", bad_input.CASES)
def test_no_companion(opened: Opened, case: str) -> None:
    device = opened("bare")
    check_bare(device)
    check_useless(device, bad_input.CASES[case])


@pytest.mark.requirement("REQ-ERR-07")
def test_no_companion_descriptor(opened: Opened) -> None:
    device = opened("bare")
    check_bare(device)
    with ExitStack() as stack:
        check_useless(device, [kind.call(stack) for kind in bad_input.DESCRIPTORS.values()])


def check_unknown(device: vfio.Device) -> None:
    """Check that VFIO_DEVICE_GET_IRQ_INFO of the ACPI index fails with EINVAL.

    The kernel then does not have the index.
    """
    assert outcome(lambda: device.irq_info(ACPI)) == "EINVAL"


@pytest.mark.requirement("REQ-ERR-08")
@pytest.mark.parametrize("case", bad_input.CASES)
def test_unknown_index(opened: Opened, case: str) -> None:
    device = opened("alpha")
    check_unknown(device)
    check_useless(device, bad_input.CASES[case])


@pytest.mark.requirement("REQ-ERR-08")
def test_unknown_index_descriptor(opened: Opened) -> None:
    device = opened("alpha")
    check_unknown(device)
    with ExitStack() as stack:
        check_useless(device, [kind.call(stack) for kind in bad_input.DESCRIPTORS.values()])


# ---- GET_IRQ_INFO and DEVICE_FEATURE -------------------------------------------------------------


def irq_info(device: vfio.Device, argsz: int, index: int) -> str:
    """Call VFIO_DEVICE_GET_IRQ_INFO. Returns the name of the errno if it fails, else "".

    AssertionError if the call fails, but has written to struct vfio_irq_info.
    """
    buffer = bytearray(struct.pack("=IIII", argsz, 0xA5A5A5A5, index, 0x5A5A5A5A))
    before = bytes(buffer)
    result = outcome(lambda: fcntl.ioctl(device.fileno(), GET_IRQ_INFO, buffer))
    assert not result or buffer == before
    return result


@pytest.mark.requirement("REQ-ERR-04")
@pytest.mark.parametrize("argsz", [0, 1, 4, 8, 12, 15])
def test_irq_info_argsz(opened: Opened, argsz: int) -> None:
    device = opened("alpha")
    indices = [*range(device.info().num_irqs), 0xFFFF_FFFF]
    got = {index: irq_info(device, argsz, index) for index in indices}
    assert got == dict.fromkeys(indices, "EINVAL")


@pytest.mark.requirement("REQ-ERR-04")
@pytest.mark.parametrize("argsz", [16, 17, 4096, 0xFFFF_FFFF])
def test_irq_info_index(opened: Opened, argsz: int) -> None:
    device = opened("alpha")
    first = device.info().num_irqs
    indices = [first, first + 1, first + 255, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]
    got = {index: irq_info(device, argsz, index) for index in indices}
    assert got == dict.fromkeys(indices, "EINVAL")
    assert irq_info(device, argsz, REQ) == "", "and it is the index that is wrong"


@pytest.mark.requirement("REQ-ERR-05")
@pytest.mark.parametrize("case", bad_input.FEATURES)
def test_feature(opened: Opened, case: str) -> None:
    device, calls = opened("alpha"), bad_input.FEATURES[case]
    got = {call.name: feature(device, call) for call in calls}
    assert got == {call.name: call.outcome for call in calls}


def feature(device: vfio.Device, call: bad_input.Feature) -> str:
    """Call VFIO_DEVICE_FEATURE with the fields of ``call``.

    Returns the name of the errno if the ioctl fails, else "".
    """
    return outcome(lambda: device.feature(call.flags, argsz=call.argsz))
