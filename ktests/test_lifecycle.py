# SPDX-License-Identifier: GPL-2.0-only
"""Life cycle: devices and eventfds are added, replaced and removed while notifications arrive."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain, count

import pytest

from ktests import fdinfo
from ktests.acpi import Firmware, Unrelated
from ktests.burst_source import FIRST
from ktests.channel import Channel
from ktests.conftest import Measure, OpenEventfdVmm, OpenVmm, Watch
from ktests.hotplug import plugged
from ktests.killable_child import KillableChild, Say
from ktests.mechanism import Mechanism
from ktests.mechanisms.eventfd import (
    KEPT,
    QUEUE,
    READ_SECONDS,
    EventfdVmm,
    count_words,
    overflow,
    take,
    take_all,
    take_full,
    words,
)
from ktests.ordered_notify import one_by_one
from ktests.pci import PciDevice, Port
from ktests.reader import Reader
from ktests.stress import Stress
from ktests.task import SECONDS, Task
from uapi import probe, vfio
from uapi.errors import UapiError
from uapi.eventfd import EventFd
from uapi.notification import Notification

Bind = Callable[[str], PciDevice]

VALID, LOOPBACK = 1 << 32, 1 << 33


# ---- devices -----------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-LIF-01")
def test_unregistered(
    mechanism: Mechanism,
    vmm: OpenVmm,
    bind: Bind,
    devices: dict[str, PciDevice],
    firmware: Firmware,
    watch: Watch,
) -> None:
    alpha, beta = vmm("alpha"), devices["beta"]

    def notify_both(value: int) -> None:
        firmware.notify(beta.method, value)
        firmware.notify(alpha.device.method, value)
        firmware.flush_handlers()

    beta.unbind()
    notify_both(0x81)
    expected = [0x81]
    if not mechanism.registered_by_binding:
        bind("beta")
        notify_both(0x82)
        with vfio.Device.open(beta.bdf):
            notify_both(0x83)
        expected += [0x82, 0x83]
    assert alpha.values() == mechanism.seen(expected)
    assert beta.bdf not in {bus for bus, _ in watch.vfio()}


@pytest.mark.requirement("REQ-LIF-02")
def test_unbind(bind: Bind, firmware: Firmware, watch: Watch) -> None:
    alpha, beta = bind("alpha"), bind("beta")
    firmware.notify(alpha.method, 0x81)
    assert watch.vfio() == [(alpha.bdf, 0x81)]
    alpha.unbind()
    firmware.notify(alpha.method, 0x82)
    firmware.notify(beta.method, 0x83)
    assert watch.vfio() == [(beta.bdf, 0x83)]


@pytest.mark.requirement("REQ-LIF-02")
def test_unbind_in_burst(bind: Bind, firmware: Firmware, watch: Watch) -> None:
    device = bind("alpha")
    # When the AML has run, handlers of the burst are still queued. Unbinding has to wait for them.
    firmware.notify(device.method, 0x90, count=512)
    device.unbind()
    while_bound = watch.vfio()
    firmware.notify(device.method, 0x91, count=64)
    assert watch.vfio() == []
    assert while_bound == [(device.bdf, 0x90)] * len(while_bound)
    assert while_bound, "no notification of the burst arrived"


@pytest.mark.requirement("REQ-LIF-03")
@pytest.mark.parametrize("rebind", [False, True], ids=["closed", "unbound"])
def test_again(mechanism: Mechanism, vmm: OpenVmm, firmware: Firmware, rebind: bool) -> None:
    for value in range(0x80, 0x88):
        before = vmm("alpha")
        one_by_one(firmware, before.device, [value])
        before.close()
        if rebind:
            before.device.unbind()
    alpha = vmm("alpha")
    one_by_one(firmware, alpha.device, [0x90, 0x91])
    assert alpha.values() == mechanism.seen([0x90, 0x91])


@pytest.mark.requirement("REQ-LIF-04")
def test_hotplug(
    mechanism: Mechanism,
    port: Port,
    host: Channel,
    firmware: Firmware,
    family: probe.Family,
    watch: Watch,
) -> None:
    heard = []
    # If a handler of the first round stayed installed, the second round would receive its value
    # twice, or fail to register.
    for value in (0x86, 0x88):
        with plugged(host, port) as device:
            device.bind()
            with mechanism.vmm(device, firmware, family) as owner:
                firmware.notify_path(port.path, value)
                heard.append(owner.values())
        # The device was pulled while it was bound. The ACPI object can still be notified.
        assert port.plugged is None
        watch.vfio()
        firmware.notify_path(port.path, value + 1)
        assert watch.vfio() == []
    assert heard == [mechanism.seen([value]) for value in (0x86, 0x88)]


# The time limit for closing and unbinding a device. It is less than acpi.BUSY_SECONDS.
UNBIND_SECONDS = 10.0


@pytest.mark.requirement("REQ-LIF-17")
def test_other_handlers(
    mechanism: Mechanism, vmm: OpenVmm, firmware: Firmware, unrelated: dict[str, Unrelated]
) -> None:
    alpha = vmm("alpha")
    one_by_one(firmware, alpha.device, [0x81])
    assert alpha.values() == mechanism.seen([0x81])

    def end() -> None:
        alpha.close()
        alpha.device.unbind()

    with firmware.busy_handler(unrelated["ac"]):
        ending = Task(end)
        # This has to be done before the busy handler ends by itself.
        ending.join(UNBIND_SECONDS)
    assert alpha.device.driver == ""


# ---- another eventfd ---------------------------------------------------------------------------


@pytest.mark.requirement("REQ-LIF-05")
@pytest.mark.parametrize("unread", [0, 1, 2, 3, KEPT])
def test_swap(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, unread: int) -> None:
    alpha = eventfd_vmm("alpha")
    sent = range(FIRST, FIRST + unread)
    one_by_one(firmware, alpha.device, sent[:1])
    firmware.notify(alpha.device.method, FIRST + 1, step=1, count=max(0, unread - 1))
    firmware.flush_handlers()
    with EventFd() as new:
        alpha.vfio.arm(new)
        # The readable notification stays in the old eventfd, which receives no further one.
        in_old = [VALID | value for value in sent[:1]]
        assert fdinfo.counter(alpha.eventfd) == sum(in_old)
        got = take_all(firmware, alpha.vfio, new)
        assert Counter(item.value for item in got) == Counter(sent[1:])
        assert all(item.lost == 0 for item in got)
        firmware.notify(alpha.device.method, 0x81)
        assert take_all(firmware, alpha.vfio, new) == [Notification(0x81)]
        assert [alpha.eventfd.read(), alpha.eventfd.read()] == [*in_old, None, None][:2]


@pytest.mark.requirement("REQ-LIF-05")
def test_swap_with_itself(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    double = os.dup(alpha.eventfd.fileno())
    try:
        one_by_one(firmware, alpha.device, [0x81, 0x82])
        alpha.vfio.arm(alpha.eventfd)
        one_by_one(firmware, alpha.device, [0x83])
        alpha.vfio.arm(double)
        assert alpha.values() == [0x81, 0x82, 0x83]
    finally:
        os.close(double)


@pytest.mark.requirement("REQ-LIF-05")
def test_swap_there_and_back(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    with EventFd() as other:
        one_by_one(firmware, alpha.device, [0x81])
        alpha.vfio.arm(other)
        one_by_one(firmware, alpha.device, [0x82])
        alpha.vfio.arm(alpha.eventfd)
        one_by_one(firmware, alpha.device, [0x83])
        assert take(other) == Notification(0x82)
        assert alpha.values() == [0x81, 0x83]
        assert other.read() is None


@pytest.mark.requirement("REQ-LIF-05")
def test_swap_from_duplicated(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    double = os.dup(alpha.eventfd.fileno())
    try:
        one_by_one(firmware, alpha.device, [0x81, 0x82])
        # The duplicate still refers to the old eventfd, so that its notification can be read.
        alpha.eventfd.close()
        with EventFd() as new:
            alpha.vfio.arm(new)
            assert take_all(firmware, alpha.vfio, new) == [Notification(0x82)]
        assert os.eventfd_read(double) == VALID | 0x81
    finally:
        os.close(double)


BURST = 8192


@contextmanager
def burst(firmware: Firmware, device: PciDevice) -> Iterator[Task]:
    """Send a burst of `BURST` notifications to ``device`` while the ``with`` block runs.

    The values are `FIRST`, `FIRST` + 1 and so on. Yields the task that sends. At the end of the
    block, waits until the whole burst has been sent and handled. AssertionError if sending takes
    longer than three times `SECONDS`.
    """
    sending = Task(partial(firmware.notify, device.method, FIRST, step=1, count=BURST))
    try:
        yield sending
    finally:
        sending.join(3 * SECONDS)
    firmware.flush_handlers()


@pytest.mark.requirement("REQ-LIF-05")
def test_swap_in_burst(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, measure: Measure) -> None:
    alpha = eventfd_vmm("alpha")
    with ExitStack() as stack:
        eventfds = [stack.enter_context(EventFd()) for _ in range(3)]
        readers = [stack.enter_context(Reader(eventfd.fileno())) for eventfd in eventfds]
        swaps = 0
        # The VMM's own eventfd, which nobody reads, is replaced before the burst.
        alpha.vfio.arm(eventfds[swaps])
        with burst(firmware, alpha.device) as sending:
            while sending.running:
                swaps += 1
                alpha.vfio.arm(eventfds[swaps % 3])
        alpha.vfio.arm(eventfds[0])
        alpha.vfio.loopback()
        readers[0].wait_until(lambda: any(w & LOOPBACK for w in words(readers[0].taken[-1:])))
        for reader in readers:
            reader.wait_idle()
            reader.stop()
        burst_result = count_words(
            BURST, words(chain.from_iterable(each.taken for each in readers))
        )
    burst_result.record(measure)
    measure("swaps", swaps)
    assert burst_result.accounted, burst_result


# ---- no eventfd --------------------------------------------------------------------------------


ENDS: dict[str, Callable[[vfio.Device], None]] = {
    "minus-one": vfio.Device.disarm,
    "count-0": vfio.Device.teardown,
    "close": vfio.Device.close,
}


@pytest.mark.requirement("REQ-LIF-07")
@pytest.mark.parametrize("unread", [1, 3, KEPT + 43])
@pytest.mark.parametrize("end", ENDS)
def test_end(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, end: str, unread: int) -> None:
    alpha = eventfd_vmm("alpha")
    one_by_one(firmware, alpha.device, [0x81])
    firmware.notify(alpha.device.method, 0x82, count=unread - 1)
    firmware.flush_handlers()
    ENDS[end](alpha.vfio)
    one_by_one(firmware, alpha.device, [0x83])
    assert alpha.eventfd.read() == VALID | 0x81
    assert alpha.eventfd.read() is None
    # The queued notifications neither arrive later nor are reported as lost.
    again = eventfd_vmm("alpha") if end == "close" else alpha
    again.vfio.arm(alpha.eventfd)
    firmware.notify(alpha.device.method, 0x84)
    assert take_all(firmware, again.vfio, alpha.eventfd) == [Notification(0x84)]


@pytest.mark.requirement("REQ-LIF-07")
@pytest.mark.parametrize("end", ENDS)
def test_end_in_burst(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, end: str) -> None:
    alpha = eventfd_vmm("alpha")
    with burst(firmware, alpha.device):
        # A notification has arrived: the burst is under way.
        assert alpha.eventfd.wakes_up(READ_SECONDS)
        ENDS[end](alpha.vfio)
        left = [alpha.eventfd.read(), alpha.eventfd.read()]
    assert left[0] is not None
    assert left[1] is None
    assert alpha.eventfd.read() is None


@pytest.mark.requirement("REQ-LIF-08")
@pytest.mark.parametrize("unread", [False, True], ids=["read", "unread"])
def test_closed_stays_assigned(
    eventfd_vmm: OpenEventfdVmm, firmware: Firmware, unread: bool
) -> None:
    alpha = eventfd_vmm("alpha")
    one_by_one(firmware, alpha.device, [0x81, 0x82])
    if not unread:
        assert [take(alpha.eventfd).value for _ in range(2)] == [0x81, 0x82]
    alpha.eventfd.close()
    one_by_one(firmware, alpha.device, [0x83, 0x84])
    with EventFd() as new:
        alpha.vfio.arm(new)
        got = take_all(firmware, alpha.vfio, new)
    # 0x81 was readable in the eventfd that was closed, 0x82 was queued.
    expected = (*((0x82,) if unread else ()), 0x83, 0x84)
    assert got == [Notification(value) for value in expected]


@pytest.mark.requirement("REQ-LIF-08")
def test_closed_for_one_in_use(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    alpha.eventfd.close()
    one_by_one(firmware, alpha.device, [0x81, 0x82])
    with EventFd(5) as new:
        alpha.vfio.arm(new)
        assert new.read() == 5
        got = take_all(firmware, alpha.vfio, new)
    assert got == [Notification(value) for value in (0x81, 0x82)]


@pytest.mark.requirement("REQ-LIF-08")
def test_closed_for_long(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    alpha.eventfd.close()
    overflow(firmware, alpha.device, 1000)
    with EventFd() as new:
        alpha.vfio.arm(new)
        got = take_full(firmware, alpha.vfio, new)
    assert [item.lost for item in got] == [1000 - QUEUE, *[0] * (QUEUE - 1)]
    assert Counter(item.value for item in got) == Counter(range(0x100, 0x200))


@pytest.mark.requirement("REQ-LIF-08")
def test_closed_in_burst(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, measure: Measure) -> None:
    alpha = eventfd_vmm("alpha")
    got: list[int] = []
    closed = 0
    with ExitStack() as stack:
        with burst(firmware, alpha.device) as sending:
            eventfd = alpha.eventfd
            while sending.running:
                # Some notifications are read here, others are unread when the eventfd is closed.
                got += [word for word in (eventfd.read(), eventfd.read()) if word is not None]
                eventfd.close()
                eventfd = stack.enter_context(EventFd())
                alpha.vfio.arm(eventfd)
                closed += 1
        # If the queue is full, the loopback replaces a notification, which is reported as lost.
        alpha.vfio.loopback()
        while not got or not got[-1] & LOOPBACK:
            assert eventfd.wakes_up(READ_SECONDS), "the last ones do not come"
            got += [word for word in (eventfd.read(),) if word is not None]
    burst_result = count_words(BURST, got)
    burst_result.record(measure)
    measure("closed", closed)
    # A word that was readable in a closed eventfd is lost, and with it the number of lost
    # notifications that it reported.
    assert not (burst_result.doubled or burst_result.merged), burst_result


# ---- a VMM that is killed ----------------------------------------------------------------------


@pytest.mark.requirement("REQ-LIF-09")
def test_killed(
    bind: Bind, eventfd_vmm: OpenEventfdVmm, firmware: Firmware, measure: Measure
) -> None:
    device = bind("alpha")

    def life(say: Say) -> None:
        with EventfdVmm(device, firmware, None):
            say()
            signal.pause()

    with KillableChild(life) as killable_child:
        killable_child.wait()
        firmware.notify(device.method, 0x81, count=300)
        firmware.flush_handlers()
        killable_child.kill()
        began = time.monotonic()
        alpha = eventfd_vmm("alpha")
        measure("seconds to open", round(time.monotonic() - began, 3))
    firmware.notify(device.method, 0x82)
    assert alpha.values() == [0x82]


@pytest.mark.requirement("REQ-LIF-09")
def test_killed_in_burst(bind: Bind, eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    device = bind("alpha")

    def life(say: Say) -> None:
        with EventfdVmm(device, firmware, None) as mine:
            say()
            # The child is killed in a blocking read(2), or shortly before or after one.
            os.set_blocking(mine.eventfd.fileno(), True)
            mine.eventfd.read()
            say()
            while True:
                mine.eventfd.read()

    with KillableChild(life) as killable_child:
        killable_child.wait()
        with burst(firmware, device):
            killable_child.wait()
            killable_child.kill()
            alpha = eventfd_vmm("alpha")
    # The new VMM receives the rest of the burst, some of which may be reported as lost.
    for item in take_all(firmware, alpha.vfio, alpha.eventfd):
        assert FIRST <= item.value < FIRST + BURST
    firmware.notify(device.method, 0x82)
    assert alpha.values() == [0x82]


# ---- unbinding and pulling ---------------------------------------------------------------------


@pytest.mark.requirement("REQ-LIF-10")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "burst"])
def test_unbind_armed(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, busy: bool) -> None:
    alpha = eventfd_vmm("alpha")
    with EventFd() as request:
        alpha.vfio.arm(request, vfio.REQ)
        unbinding = Task(alpha.device.unbind)
        try:
            assert request.wakes_up(READ_SECONDS), "the user is not asked to let go"
            sending = Task(
                partial(firmware.notify, alpha.device.method, 0x81, count=4096 if busy else 1)
            )
            # The user may keep the device open for any time, and still receives notifications.
            assert alpha.read() == Notification(0x81)
            assert unbinding.running, "unbound while in use"
        finally:
            alpha.close()
        unbinding.join()
        sending.join()
    assert alpha.device.driver == ""
    firmware.flush_handlers()
    again = eventfd_vmm("alpha")
    firmware.notify(again.device.method, 0x82)
    assert again.values() == [0x82]


@pytest.mark.requirement("REQ-LIF-10")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "burst"])
def test_unplug_armed(port: Port, host: Channel, firmware: Firmware, busy: bool) -> None:
    def notify(times: int) -> None:
        for _ in range(times):
            firmware.notify_path(port.path, 0x81)

    with plugged(host, port) as device:
        device.bind()
        with EventfdVmm(device, firmware, None) as owner, EventFd() as request:
            owner.vfio.arm(request, vfio.REQ)
            host.request("unplug")
            assert request.wakes_up(READ_SECONDS), "the user is not asked to let go"
            sending = Task(partial(notify, 100 if busy else 1))
            assert owner.read() == Notification(0x81)
            assert port.plugged is not None, "gone while in use"
        port.wait_empty()
        sending.join()
    with plugged(host, port) as device:
        device.bind()
        with EventfdVmm(device, firmware, None) as owner:
            firmware.notify_path(port.path, 0x82)
            assert owner.values() == [0x82]


# ---- everything at once ------------------------------------------------------------------------


def swap(vmm: EventfdVmm) -> None:
    """Arm two new eventfds, one after the other.

    When the first one is armed, the eventfd that it replaces is already closed. When the second one
    is armed, the first one, which it replaces, is still open.
    """
    with EventFd() as first, EventFd() as second:
        vmm.vfio.arm(first)
        vmm.vfio.arm(second)


def swap_unread(vmm: EventfdVmm) -> None:
    """Arm an eventfd, cause two loopbacks and close the eventfd without reading it.

    One loopback is readable in the eventfd and is lost. The other one, and any that earlier calls
    have left, stay queued for the eventfd that is armed next.
    """
    with EventFd() as first:
        vmm.vfio.arm(first)
        vmm.vfio.loopback()
        vmm.vfio.loopback()


def arm_again(vmm: EventfdVmm) -> None:
    """Arm an eventfd, and then arm the same eventfd once more."""
    with EventFd() as eventfd:
        vmm.vfio.arm(eventfd)
        vmm.vfio.arm(eventfd)


def disarm(vmm: EventfdVmm) -> None:
    """Arm an eventfd, cause a loopback, and de-assign the eventfd twice by the descriptor -1."""
    with EventFd() as eventfd:
        vmm.vfio.arm(eventfd)
        vmm.vfio.loopback()
        vmm.vfio.disarm()
        vmm.vfio.disarm()


def tear_down(vmm: EventfdVmm) -> None:
    """Arm an eventfd, cause a loopback, and de-assign the eventfd by DATA_NONE with count 0."""
    with EventFd() as eventfd:
        vmm.vfio.arm(eventfd)
        vmm.vfio.loopback()
        vmm.vfio.teardown()


def refuse(vmm: EventfdVmm) -> None:
    """Try to arm an EFD_SEMAPHORE eventfd, which the kernel refuses."""
    with EventFd(semaphore=True) as eventfd, suppress(UapiError):
        vmm.vfio.arm(eventfd)


def reopen(vmm: EventfdVmm) -> None:
    """Arm an eventfd, cause two loopbacks, close the device and open it again.

    When the device is closed, one loopback is readable in the eventfd, and the other one is queued.
    """
    with EventFd() as eventfd:
        vmm.vfio.arm(eventfd)
        vmm.vfio.loopback()
        vmm.vfio.loopback()
        vmm.vfio.close()
    vmm.vfio = vfio.Device.open(vmm.device.bdf)


OPERATIONS: dict[str, Callable[[EventfdVmm], None]] = {
    "swap": swap,
    "swap-unread": swap_unread,
    "arm-again": arm_again,
    "minus-one": disarm,
    "count-0": tear_down,
    "refused": refuse,
    "close-device": reopen,
}


@pytest.mark.requirement("REQ-LIF-11")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_contexts_freed(eventfd_vmm: OpenEventfdVmm, operation: str) -> None:
    before = fdinfo.free_contexts()
    alpha = eventfd_vmm("alpha")
    alpha.eventfd.close()
    assert fdinfo.free_contexts() != before, "the check does not see one that the kernel holds"
    for _ in range(8):
        OPERATIONS[operation](alpha)
    alpha.vfio.close()
    assert fdinfo.free_contexts() == before


STRESS_SECONDS = 3.0


@pytest.mark.requirement("REQ-LIF-11")
def test_stress(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, measure: Measure) -> None:
    first = eventfd_vmm("alpha")
    first.close()
    before = fdinfo.free_contexts()
    done: Counter[str] = Counter()
    end = time.monotonic() + STRESS_SECONDS
    for number in count():
        if time.monotonic() > end:
            break
        with vfio.Device.open(first.device.bdf) as device, Stress(device) as stress:
            firmware.notify(first.device.method, 0x80, count=512)
            if number % 2:
                # The device is closed while the threads use it.
                device.close()
        done += stress.done
        done["rounds"] += 1
    firmware.flush_handlers()
    for name, times in sorted(done.items()):
        measure(name, times)
    assert fdinfo.free_contexts() == before
    alpha = eventfd_vmm("alpha")
    firmware.notify(alpha.device.method, 0x82)
    assert alpha.values() == [0x82]
