# SPDX-License-Identifier: GPL-2.0-only
"""Delivery: notifications that arrive faster than they are read, or from several devices.

Since Linux 6.8 Notify handlers run on several CPUs, so that the notifications of a burst may be
delivered in another order than they were sent. A test that needs a certain order waits until each
notification has been handled before it sends the next (`one_by_one`).
"""

from __future__ import annotations

import math
import os
import queue
import select
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack, nullcontext

import pytest

from ktests import cpu, fdinfo
from ktests.acpi import Firmware
from ktests.conftest import Measure, OpenBurstSource, OpenEventfdVmm, OpenVmm
from ktests.kernellog import KernelLog
from ktests.mechanism import Mechanism
from ktests.mechanisms.eventfd import (
    KEPT,
    READ_SECONDS,
    EventfdVmm,
    overflow,
    take,
    take_all,
    take_full,
    words,
)
from ktests.ordered_notify import one_by_one
from ktests.pci import PciDevice
from ktests.reader import Reader
from ktests.task import Task
from uapi import probe, vfio
from uapi.eventfd import EventFd
from uapi.notification import Notification, decode

Bind = Callable[[str], PciDevice]

BURSTS = (1, 2, 64, 256)
VALID = 1 << 32
LONG = 240  # time limit in seconds of a test with the longest bursts, on a busy host
WARNING = "ACPI notifications lost, user does not read them"
WARNINGS_AT_ONCE, WARNINGS_SECONDS = 10, 5.0  # DEFAULT_RATELIMIT_BURST, _INTERVAL


# ---- bursts ------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-01")
@pytest.mark.parametrize("count", BURSTS)
def test_burst(vmm: OpenVmm, firmware: Firmware, count: int) -> None:
    alpha = vmm("alpha")
    firmware.notify(alpha.device.method, 0x80, count=count)
    first = Counter(alpha.values())
    firmware.notify(alpha.device.method, 0xFF, count=count)
    assert (first, Counter(alpha.values())) == ({0x80: count}, {0xFF: count})


@pytest.mark.requirement("REQ-DEL-01")
@pytest.mark.parametrize(
    ("sender", "reader"),
    [({0}, {0}), ({0}, {1}), ({1}, {0}), (None, {1})],
    ids=["same-cpu", "reader-on-1", "sender-on-1", "sender-moves"],
)
def test_burst_on_cpus(
    burst_source: OpenBurstSource,
    measure: Measure,
    sender: Collection[int] | None,
    reader: Collection[int],
) -> None:
    alpha = burst_source("alpha", buffer=4 << 20)
    with sending(sender), Reader(alpha.fileno(), cpus=reader, receive=alpha.receive) as reads:
        alpha.send(256)
        burst_result = alpha.finish(reads)
    burst_result.record(measure)
    assert burst_result.whole, burst_result


def sending(cpus: Collection[int] | None) -> AbstractContextManager[None]:
    """Return a context manager in whose block AML runs on ``cpus``; None: on all CPUs in turn."""
    if cpus is None:
        return cpu.moving(cpu.interpreter())
    return cpu.pinned(cpu.interpreter(), cpus)


@pytest.mark.requirement("REQ-DEL-02")
def test_overrun(bind: Bind, firmware: Firmware, measure: Measure) -> None:
    device = bind("alpha")
    with probe.Listener(buffer=4096) as slow:
        firmware.notify(device.method, 0x80, count=256)
        firmware.flush_handlers()
        first = list(slow.pending())
        firmware.notify(device.method, 0x81)
        firmware.flush_handlers()
        [last] = slow.pending()
    events = [item.event for item in first if isinstance(item, probe.Received)]
    assert isinstance(last, probe.Received)
    assert first.count(probe.Overrun()) == 1
    assert events and len(events) < 256
    gap = last.event.sequence - min(event.sequence for event in events) - len(events)
    assert gap == 256 - len(events)
    measure("received of 256", len(events))


SLOW_SECONDS = 0.001


@pytest.mark.requirement("REQ-DEL-04")
@pytest.mark.limit(LONG)
@pytest.mark.parametrize("count", [257, 1024, 8192, 32768])
@pytest.mark.parametrize("reads", ["during", "after"])
def test_sum(
    burst_source: OpenBurstSource, firmware: Firmware, measure: Measure, reads: str, count: int
) -> None:
    alpha = burst_source("alpha")
    reader = Reader(alpha.fileno(), receive=alpha.receive)
    with ExitStack() as stack:
        if reads == "during":
            stack.enter_context(reader)
        alpha.send(count)
        if reads == "after":
            firmware.flush_handlers()
            stack.enter_context(reader)
        burst_result = alpha.finish(reader)
    burst_result.record(measure)
    assert burst_result.accounted, burst_result


@pytest.mark.requirement("REQ-DEL-04")
@pytest.mark.parametrize(
    ("pause", "moves"),
    [(SLOW_SECONDS, False), (0.0, True), (SLOW_SECONDS, True)],
    ids=["slow", "sender-moves", "slow-sender-moves"],
)
def test_sum_when(
    burst_source: OpenBurstSource, measure: Measure, pause: float, moves: bool
) -> None:
    alpha = burst_source("alpha")
    place = sending(None) if moves else nullcontext()
    with place, Reader(alpha.fileno(), pause=pause, receive=alpha.receive) as reader:
        alpha.send(4096)
        burst_result = alpha.finish(reader)
    burst_result.record(measure)
    assert burst_result.accounted, burst_result


@pytest.mark.requirement("REQ-DEL-05")
@pytest.mark.limit(LONG)
@pytest.mark.parametrize("count", [KEPT, KEPT + 1, 1024, 8192])
def test_unread(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, count: int) -> None:
    alpha = eventfd_vmm("alpha")
    overflow(firmware, alpha.device, count)
    got = take_full(firmware, alpha.vfio, alpha.eventfd)
    assert got[0] == Notification(0x80)
    assert got[1].lost == count - KEPT
    assert all(item.lost == 0 for item in got[2:])
    assert Counter(item.value for item in got[1:]) == Counter(range(0x100, 0x200))


@pytest.mark.requirement("REQ-DEL-05")
@pytest.mark.limit(LONG)
def test_unread_for_long(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, measure: Measure) -> None:
    alpha = eventfd_vmm("alpha")
    began = time.monotonic()
    overflow(firmware, alpha.device, KEPT + 0xFFFF + 100)
    measure("seconds", round(time.monotonic() - began, 2))
    got = take_full(firmware, alpha.vfio, alpha.eventfd)
    # The field has 16 bits. Its maximum means "65535 or more".
    assert [item.lost for item in got[:3]] == [0, 0xFFFF, 0]
    assert len(got) == KEPT


# ---- several devices ---------------------------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-03")
def test_devices_in_turn(vmm: OpenVmm, firmware: Firmware) -> None:
    vmms = [vmm(name) for name in ("alpha", "beta", "carrier")]
    for offset in range(16):
        for base, owner in zip((0x80, 0xA0, 0xC0), vmms, strict=True):
            firmware.notify(owner.device.method, base + offset)
    got = [Counter(owner.values()) for owner in vmms]
    assert got == [Counter(range(base, base + 16)) for base in (0x80, 0xA0, 0xC0)]


@pytest.mark.requirement("REQ-DEL-03")
def test_devices_at_once(vmm: OpenVmm, firmware: Firmware) -> None:
    vmms = [vmm(name) for name in ("alpha", "beta", "carrier")]
    with sending(None):
        for _ in range(2):
            for base, owner in zip((0x80, 0xA0, 0xC0), vmms, strict=True):
                firmware.notify(owner.device.method, base, step=1, count=16)
    got = [Counter(owner.values()) for owner in vmms]
    assert got == [Counter([*range(base, base + 16)] * 2) for base in (0x80, 0xA0, 0xC0)]


@pytest.mark.requirement("REQ-DEL-11")
@pytest.mark.parametrize("reads", ["during", "after"])
def test_shared(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, reads: str) -> None:
    alpha, beta = eventfd_vmm("alpha"), eventfd_vmm("beta")
    with EventFd() as shared, ExitStack() as stack:
        alpha.vfio.arm(shared)
        beta.vfio.arm(shared)
        reader = Reader(shared.fileno())
        if reads == "during":
            stack.enter_context(reader)
        for base in (0x100, 0x1000):
            for owner in (alpha, beta):
                firmware.notify(owner.device.method, base, step=1, count=100)
        firmware.flush_handlers()
        # Each loopback is queued behind all notifications of its device. So both loopbacks together
        # mark the end of the notifications.
        alpha.vfio.loopback()
        beta.vfio.loopback()
        if reads == "after":
            stack.enter_context(reader)
        reader.wait_until(lambda: sum(item.loopback for item in notifications(reader)) == 2)
        reader.stop()
        got = [item for item in notifications(reader) if not item.loopback]
    assert sum(item.lost for item in got) == 0
    both = Counter([*range(0x100, 0x164), *range(0x1000, 0x1064)])
    assert Counter(item.value for item in got) == both + both


@pytest.mark.requirement("REQ-DEL-11")
def test_shared_closed_unread(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha, beta = eventfd_vmm("alpha"), eventfd_vmm("beta")
    with EventFd() as shared:
        alpha.vfio.arm(shared)
        beta.vfio.arm(shared)
        one_by_one(firmware, alpha.device, [0x81])
        assert take(shared) == Notification(0x81)
        # The notification of beta is still unread when the eventfd is closed, and is lost. It must
        # not be delivered to the eventfds that are set next.
        one_by_one(firmware, beta.device, [0x81])
    with EventFd() as first, EventFd() as second:
        alpha.vfio.arm(first)
        beta.vfio.arm(second)
        assert take_all(firmware, alpha.vfio, first) == []
        assert take_all(firmware, beta.vfio, second) == []


def notifications(reader: Reader) -> list[Notification]:
    """Return the notifications that ``reader`` has read from an eventfd.

    FormatError if a word is no notification, for example since user space wrote to the eventfd.
    """
    return [decode(word) for word in words(reader.taken)]


# ---- order, and one at a time ------------------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-06")
def test_order(vmm: OpenVmm, firmware: Firmware) -> None:
    alpha = vmm("alpha")
    values = [0x80, 0xFF, 0x81, 0x81, 0xC0, 0x80, 0xD5, 0xD1]
    with sending(None):
        one_by_one(firmware, alpha.device, values)
    assert alpha.values() == values


@pytest.mark.requirement("REQ-DEL-07")
def test_one_at_a_time(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    values = [0x81, 0xFFFF, 0x81, 0x100]
    one_by_one(firmware, alpha.device, values)
    for value in values:
        assert alpha.eventfd.wakes_up(READ_SECONDS), f"{value:#x} does not become readable"
        assert fdinfo.counter(alpha.eventfd) == VALID | value
        assert alpha.eventfd.read() == VALID | value
    assert alpha.values() == [], "more than was sent"


@pytest.mark.requirement("REQ-DEL-07")
def test_no_wakeup_while_unread(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    with select.epoll() as epoll:
        epoll.register(alpha.eventfd.fileno(), select.EPOLLIN | select.EPOLLET)
        edges = []
        for value in (0x81, 0x82, 0x83):
            one_by_one(firmware, alpha.device, [value])
            edges.append(len(epoll.poll(0)))
        assert edges == [1, 0, 0]
        assert alpha.read() == Notification(0x81)
        assert epoll.poll(READ_SECONDS), "no edge for the second one"
        assert alpha.read() == Notification(0x82)


@pytest.mark.requirement("REQ-DEL-08")
def test_zero(vmm: OpenVmm, firmware: Firmware) -> None:
    alpha = vmm("alpha")
    # ACPICA selects the handler by the whole value, and passes only its low 16 bits, which are 0.
    one_by_one(firmware, alpha.device, [0x10000])
    assert select.select([alpha], [], [], 0)[0], "not readable"
    one_by_one(firmware, alpha.device, [0x81, 0x10000, 0x10000, 0x82])
    assert alpha.values() == [0, 0x81, 0, 0, 0x82]


@pytest.mark.requirement("REQ-DEL-09")
def test_before(mechanism: Mechanism, vmm: OpenVmm, bind: Bind, firmware: Firmware) -> None:
    one_by_one(firmware, bind("alpha"), [0x81, 0x82])
    alpha = vmm("alpha")
    firmware.notify(alpha.device.method, 0x83)
    assert alpha.values() == mechanism.seen([0x83])


@pytest.mark.requirement("REQ-DEL-09")
def test_between(mechanism: Mechanism, vmm: OpenVmm, firmware: Firmware) -> None:
    first = vmm("alpha")
    one_by_one(firmware, first.device, [0x81])
    first.close()
    one_by_one(firmware, first.device, [0x82])
    second = vmm("alpha")
    firmware.notify(second.device.method, 0x83)
    values = second.values()
    for value, pause in enumerate(second.pauses(), 0x84):
        with pause:
            one_by_one(firmware, second.device, [value])
        values += second.values()
    firmware.notify(second.device.method, 0x86)
    assert values + second.values() == mechanism.seen([0x83, 0x86])


# ---- several readers, and other writers --------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-10")
@pytest.mark.parametrize("threads", [2, 4])
def test_several_readers(burst_source: OpenBurstSource, measure: Measure, threads: int) -> None:
    alpha = burst_source("alpha", buffer=4 << 20)
    with Reader(alpha.fileno(), threads=threads, receive=alpha.receive) as reader:
        alpha.send(256)
        burst_result = alpha.finish(reader)
    burst_result.record(measure)
    assert burst_result.whole, burst_result


@pytest.mark.requirement("REQ-DEL-12")
def test_written_first(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    alpha.eventfd.write(5)
    one_by_one(firmware, alpha.device, [0x81, 0x82])
    assert fdinfo.counter(alpha.eventfd) == 5
    assert alpha.eventfd.read() == 5
    assert alpha.values() == [0x81, 0x82]


@pytest.mark.requirement("REQ-DEL-12")
def test_written_to_unread(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    one_by_one(firmware, alpha.device, [0x81, 0x82])
    alpha.eventfd.write(5)
    assert alpha.eventfd.read() == (VALID | 0x81) + 5
    assert alpha.values() == [0x82]


@pytest.mark.requirement("REQ-DEL-12")
def test_written_during(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    # The test adds to reserved bits, by which its writes differ from the kernel's notifications.
    shift, writes = 34, 200

    def write() -> None:
        for _ in range(writes):
            alpha.eventfd.write(1 << shift)
            os.sched_yield()

    with Reader(alpha.eventfd.fileno()) as reader:
        writer = Task(write)
        firmware.notify(alpha.device.method, 0x100, step=1, count=256)
        writer.join()
        firmware.flush_handlers()
        alpha.vfio.loopback()
        reader.wait_until(lambda: any(word >> 33 & 1 for word in words(reader.taken)))
        # All writes were done before the loopback was caused, so that the reader has read them.
        reader.stop()
    got = words(reader.taken)
    notified = [word for word in got if word & VALID and not word >> 33 & 1]
    assert sum(word >> 48 for word in got) == 0, "lost"
    assert sum(word >> shift & 0x3FFF for word in got) == writes
    assert Counter(word & 0xFFFFFFFF for word in notified) == Counter(range(0x100, 0x200))


# ---- a reader in the kernel --------------------------------------------------------------------

UNMASK, DATA_EVENTFD, INTX = 1 << 4, 1 << 2, 0


def unmask(device: vfio.Device, fd: int) -> None:
    """Set the eventfd ``fd`` for ACTION_UNMASK of INTX, so that the kernel reads this eventfd.

    ``fd`` -1 removes the eventfd. Source: virqfd_wakeup() in drivers/vfio/virqfd.c.
    """
    data = fd.to_bytes(4, sys.byteorder, signed=True)
    device.set_irqs(INTX, DATA_EVENTFD | UNMASK, count=1, data=data)


# Seconds in which a work item of the kernel has surely run. Emulation may be slow.
WORK_SECONDS = 0.3


@pytest.mark.requirement("REQ-DEL-18")
@pytest.mark.parametrize("pending", [0, 1, 3])
def test_kernel_reads(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, pending: int) -> None:
    alpha = eventfd_vmm("alpha")
    one_by_one(firmware, alpha.device, range(0x81, 0x81 + pending))
    with EventFd() as intx:
        alpha.vfio.arm(intx, vfio.INTX)
        unmask(alpha.vfio, alpha.eventfd.fileno())
        # The kernel does not read a notification that was readable before. When something is added
        # to the counter, the kernel reads all of it, and then the queued ones.
        assert fdinfo.counter(alpha.eventfd) == (VALID | 0x81 if pending else 0)
        alpha.eventfd.write(1)
        time.sleep(WORK_SECONDS)
        unmask(alpha.vfio, -1)
        alpha.vfio.disarm(vfio.INTX)
    # On a slow machine some may be left. They do not wait for the next notification.
    while alpha.eventfd.wait(WORK_SECONDS):
        assert alpha.eventfd.read() is not None
    one_by_one(firmware, alpha.device, [0xA1, 0xA2])
    assert alpha.values() == [0xA1, 0xA2]


@pytest.mark.requirement("REQ-DEL-18")
def test_notifications_that_the_kernel_reads(
    eventfd_vmm: OpenEventfdVmm, firmware: Firmware
) -> None:
    alpha = eventfd_vmm("alpha")
    with EventFd() as intx:
        alpha.vfio.arm(intx, vfio.INTX)
        unmask(alpha.vfio, alpha.eventfd.fileno())
        firmware.notify(alpha.device.method, 0x91, step=1, count=300)
        firmware.flush_handlers()
        assert fdinfo.counter(alpha.eventfd) == 0, "the kernel reads each as it comes"
        unmask(alpha.vfio, -1)
        alpha.vfio.disarm(vfio.INTX)
    one_by_one(firmware, alpha.device, [0xA1, 0xA2])
    assert alpha.values() == [0xA1, 0xA2]


# ---- a reader that never reads -----------------------------------------------------------------


@pytest.mark.requirement("REQ-DEL-13")
def test_others_not_delayed(
    eventfd_vmm: OpenEventfdVmm, firmware: Firmware, measure: Measure
) -> None:
    stuck, reads = eventfd_vmm("alpha"), eventfd_vmm("beta")

    def latency(value: int) -> float:
        began = time.monotonic()
        firmware.notify(reads.device.method, value)
        assert reads.read() == Notification(value)
        return time.monotonic() - began

    before = [latency(value) for value in range(0x80, 0x90)]
    after = []
    for value in range(0x80, 0x90):
        firmware.notify(stuck.device.method, 0xC0, count=KEPT)
        firmware.flush_handlers()
        firmware.notify(stuck.device.method, 0xC0)
        after.append(latency(value))
    measure("median ms before", median_ms(before))
    measure("median ms beside it", median_ms(after))
    assert fdinfo.counter(stuck.eventfd) == VALID | 0xC0
    assert reads.values() == []


def median_ms(seconds: list[float]) -> float:
    """Return the upper median of ``seconds`` in milliseconds, rounded to two decimals.

    The module `statistics` is not used, since importing it would take longer than the test.
    """
    return round(sorted(seconds)[len(seconds) // 2] * 1000, 2)


@pytest.mark.requirement("REQ-DEL-13")
def test_log(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, measure: Measure) -> None:
    alpha = eventfd_vmm("alpha")
    with KernelLog() as log:
        began = time.monotonic()
        one_by_one(firmware, alpha.device, [0x80])
        firmware.notify(alpha.device.method, 0x81, count=KEPT - 1)
        firmware.flush_handlers()
        assert log.said(WARNING) == [], "logged, and none was lost"
        # All devices share one rate limit, which other tests may have used up. So the test makes
        # gaps until a message is logged.
        logged = gaps = 0
        while not logged:
            assert time.monotonic() < began + 2 * WARNINGS_SECONDS, "never logged"
            make_gap(alpha, firmware)
            gaps, logged = gaps + 1, len(log.said(WARNING))
        for _ in range(3 * WARNINGS_AT_ONCE):
            make_gap(alpha, firmware)
        # Closing the device waits for the work that logs, so that no further message can come.
        alpha.close()
        gaps, logged = gaps + 3 * WARNINGS_AT_ONCE, logged + len(log.said(WARNING))
        elapsed = time.monotonic() - began
    measure("gaps", gaps)
    measure("logged", logged)
    measure("seconds", round(elapsed, 2))
    # The intervals of the rate limit that may have begun in this time, and one that began before.
    intervals = 1 + math.ceil(elapsed / WARNINGS_SECONDS)
    assert logged <= min(gaps, WARNINGS_AT_ONCE * intervals), "not limited"


@pytest.mark.requirement("REQ-DEL-13")
def test_log_of_one_gap(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    with KernelLog() as log:
        for _ in range(16):
            firmware.notify(alpha.device.method, 0x81, count=KEPT)
        firmware.flush_handlers()
        got = take_full(firmware, alpha.vfio, alpha.eventfd)
        assert [item.lost for item in got[:3]] == [0, 15 * KEPT, 0]
        alpha.close()
        assert len(log.said(WARNING)) <= 1


def make_gap(vmm: EventfdVmm, firmware: Firmware) -> None:
    """Make one more gap of lost notifications for a VMM whose queue is full.

    Send 8 notifications. The first takes the place that the previous call has left, if any; for
    each of the others the oldest notification in the queue is lost. Then read one notification,
    which leaves a place in the queue.
    """
    firmware.notify(vmm.device.method, 0x82, count=8)
    firmware.flush_handlers()
    vmm.read()
    assert vmm.eventfd.wakes_up(READ_SECONDS), "the next one does not come"


@pytest.mark.requirement("REQ-DEL-13")
def test_gaps_told_apart(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    alpha = eventfd_vmm("alpha")
    firmware.notify(alpha.device.method, 0x81, count=KEPT + 5)
    firmware.flush_handlers()
    lost = [alpha.read().lost]
    assert alpha.eventfd.wakes_up(READ_SECONDS)
    for more in (8, 1, 3):
        # The first of these takes the place that the last read left in the queue. For each of the
        # others the oldest one in the queue is lost.
        firmware.notify(alpha.device.method, 0x82, count=more)
        firmware.flush_handlers()
        lost.append(alpha.read().lost)
        assert alpha.eventfd.wakes_up(READ_SECONDS)
    assert lost == [0, 5, 7, 0]
    assert [item.lost for item in alpha.read_all()] == [2, *[0] * 255]


# ---- wakeups -----------------------------------------------------------------------------------


def by_select(file: int) -> None:
    """Wait with select(2), without a time limit, until ``file`` is readable."""
    select.select([file], [], [])


def by_poll(file: int) -> None:
    """Wait with poll(2), without a time limit, until ``file`` is readable."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    poll.poll()


class ByEpoll:
    """A callable that waits with epoll(7) for the descriptor ``file``.

    The descriptor is registered once, with the event mask ``flags``.
    """

    def __init__(self, file: int, flags: int) -> None:
        self._epoll = select.epoll()
        self._epoll.register(file, flags)

    def __call__(self, _: int) -> None:
        """Wait until epoll_wait(2) returns an event of the registered descriptor."""
        self._epoll.poll()


def by_reading(file: int) -> None:
    """Make the descriptor ``file`` blocking, so that the read(2) after this call waits."""
    os.set_blocking(file, True)


Wait = Callable[[int], None]
# No way to wait has a time limit: select(2) and poll(2) look at the file once more when the time is
# up, and would then find a notification for which the kernel has woken up nobody.
WAYS: dict[str, Callable[[int], Wait]] = {
    "select": lambda file: by_select,
    "poll": lambda file: by_poll,
    "epoll-level": lambda file: ByEpoll(file, select.EPOLLIN),
    "epoll-edge": lambda file: ByEpoll(file, select.EPOLLIN | select.EPOLLET),
    "read": lambda file: by_reading,
}
WAKEUP_SECONDS = 5.0


@pytest.mark.requirement("REQ-DEL-14")
@pytest.mark.parametrize("way", WAYS)
def test_wakeup(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, way: str) -> None:
    alpha = eventfd_vmm("alpha")
    file = alpha.eventfd.fileno()
    wait = WAYS[way](file)
    got: queue.Queue[int] = queue.Queue()
    ended = threading.Event()

    def read() -> None:
        # There is exactly one read(2) for each wakeup, as in a VMM's event loop.
        while not ended.is_set():
            wait(file)
            got.put(int.from_bytes(os.read(file, 8), sys.byteorder))

    def word() -> int:
        try:
            return got.get(timeout=WAKEUP_SECONDS)
        except queue.Empty:
            raise AssertionError(f"no wakeup within {WAKEUP_SECONDS:g} s") from None

    reader = Task(read)
    try:
        for value in range(0x80, 0x88):
            firmware.notify(alpha.device.method, value)
            assert word() == VALID | value
        burst = range(0x100, 0x140)
        firmware.notify(alpha.device.method, burst[0], step=1, count=len(burst))
        assert Counter(word() for _ in burst) == Counter(VALID | value for value in burst)
    finally:
        # A write(2) wakes up the reader, which has to end before its descriptor is closed.
        ended.set()
        alpha.eventfd.write(1)
        reader.join()
