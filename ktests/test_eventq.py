# SPDX-License-Identifier: GPL-2.0-only
"""The queue of VFIO_DEVICE_FEATURE_ACPI_NOTIFY: the promises that only this mechanism makes.

The expected bytes are literals here, not constants of the library under test.
"""

from __future__ import annotations

import errno
import fcntl
import os
import queue
import resource
import select
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from ktests import libc
from ktests.acpi import Firmware
from ktests.channel import Channel
from ktests.conftest import Measure
from ktests.hole import before_a_hole
from ktests.hotplug import plugged
from ktests.killable_child import KillableChild, Say
from ktests.mechanisms.eventq import DEPTH, READ_SECONDS, EventqVmm, count_events, split
from ktests.ordered_notify import one_by_one
from ktests.pci import PciDevice, Port
from ktests.reader import Reader
from ktests.task import Task
from uapi import vfio
from uapi.errors import UapiError
from uapi.eventfd import EventFd
from uapi.eventq import EventQueue

Bind = Callable[[str], PciDevice]

FEATURE = 0x3B75  # the ioctl VFIO_DEVICE_FEATURE
NUMBER = 14
GET, SET, PROBE = (1 << bit | NUMBER for bit in (16, 17, 18))
GET_BIT, SET_BIT = 1 << 16, 1 << 17

SIZE = 16
LOOPBACK = 1
DEPTH_MAX = 65536

# The id of the capability of VFIO_DEVICE_GET_INFO that has the companion's path.
PATH_CAPABILITY = 6

# An address at which no process has memory.
NOWHERE = 8


class Open(Protocol):
    """The type of a function that starts a VMM with a queue on the device called ``name``.

    ``depth`` and ``open_method`` are those of `EventqVmm`.
    """

    def __call__(
        self, name: str, *, depth: int = DEPTH, open_method: str | None = None
    ) -> EventqVmm:
        """Start the VMM and return it."""


@pytest.fixture
def eventq_vmm(bind: Bind, firmware: Firmware) -> Iterator[Open]:
    """Yield a function that starts a VMM with a queue; close the VMMs at the end of the test."""
    with ExitStack() as stack:

        def start(name: str, *, depth: int = DEPTH, open_method: str | None = None) -> EventqVmm:
            return stack.enter_context(EventqVmm(bind(name), firmware, open_method, depth=depth))

        yield start


def event(flags: int, sequence: int, value: int) -> bytes:
    """Return the 16 bytes of an event, as the kernel has to write them."""
    return struct.pack("=IIII", flags, sequence, value, 0)


def feature(device: vfio.Device, operation: int, *fields: int, argsz: int = 24) -> int | str:
    """Call VFIO_DEVICE_FEATURE, and return the result of the ioctl or the name of its errno.

    ``operation`` is the member ``flags`` of the header: the number of the feature and GET, SET or
    PROBE. ``fields`` are the members of the data: flags, open_flags, depth, value.
    """
    buffer = bytearray(struct.pack("=IIIIII", argsz, operation, *fields))
    try:
        return int(fcntl.ioctl(device.fileno(), FEATURE, buffer))
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def polled(file: EventQueue) -> int:
    """Return the mask of the events that poll(2) reports now: POLLIN, POLLHUP, both or 0."""
    poll = select.poll()
    poll.register(file.fileno(), select.POLLIN)
    return sum(events for _, events in poll.poll(0))


def readable(file: EventQueue) -> None:
    """Wait until the queue has an event, or its device is closed.

    AssertionError if the kernel does not wake up the test within `READ_SECONDS`.
    """
    assert file.wakes_up(READ_SECONDS), "nothing to read"


# ---- format ------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-EVT-13")
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_event(eventq_vmm: Open, firmware: Firmware, name: str) -> None:
    vmm = eventq_vmm(name)
    for sequence, value in enumerate((0x80, 0xD1, 0xFF, 0x181, 0xFFFF)):
        firmware.notify(vmm.device.method, value)
        readable(vmm.queue)
        assert os.read(vmm.fileno(), 4 * SIZE) == event(0, sequence, value)


@pytest.mark.requirement("REQ-EVT-13")
@pytest.mark.parametrize(
    ("room", "whole"), [(SIZE, 1), (2 * SIZE - 1, 1), (3 * SIZE, 3), (3 * SIZE + 1, 3)]
)
def test_several(eventq_vmm: Open, firmware: Firmware, room: int, whole: int) -> None:
    vmm = eventq_vmm("alpha")
    values = [0x81, 0x82, 0x83, 0x84, 0x85]
    one_by_one(firmware, vmm.device, values)
    expected = b"".join(event(0, sequence, value) for sequence, value in enumerate(values))
    assert os.read(vmm.fileno(), room) == expected[: whole * SIZE]
    assert os.read(vmm.fileno(), 4096) == expected[whole * SIZE :]


@pytest.mark.requirement("REQ-EVT-14")
@pytest.mark.parametrize("value", [0, 0x7F, 0x81, 0xFFFF_FFFF], ids=hex)
def test_loopback(eventq_vmm: Open, value: int) -> None:
    vmm = eventq_vmm("alpha")
    vmm.vfio.notify_loopback(value)
    assert os.read(vmm.fileno(), SIZE) == event(LOOPBACK, 0, value)
    assert vmm.queue.read() is None, "and nothing else"


@pytest.mark.requirement("REQ-EVT-14")
def test_loopback_between(eventq_vmm: Open, firmware: Firmware) -> None:
    vmm = eventq_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x91])
    vmm.vfio.notify_loopback(0x91)
    one_by_one(firmware, vmm.device, [0x92])
    expected = event(0, 0, 0x91) + event(LOOPBACK, 1, 0x91) + event(0, 2, 0x92)
    assert os.read(vmm.fileno(), 4096) == expected


@pytest.mark.requirement("REQ-EVT-15")
@pytest.mark.parametrize("room", [0, 1, 8, SIZE - 1])
def test_short_read(eventq_vmm: Open, firmware: Firmware, room: int) -> None:
    vmm = eventq_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x82])
    with pytest.raises(OSError) as caught:
        os.read(vmm.fileno(), room)
    assert caught.value.errno == errno.EINVAL
    assert os.read(vmm.fileno(), SIZE) == event(0, 0, 0x82)


@pytest.mark.requirement("REQ-EVT-15")
@pytest.mark.parametrize("full", [False, True], ids=["room", "full"])
def test_bad_buffer(eventq_vmm: Open, firmware: Firmware, full: bool) -> None:
    vmm = eventq_vmm("alpha", depth=2 if full else DEPTH)
    one_by_one(firmware, vmm.device, [0x82, 0x83])
    for _ in range(3):
        with pytest.raises(OSError) as caught:
            libc.read(vmm.fileno(), NOWHERE, 4 * SIZE)
        assert caught.value.errno == errno.EFAULT
    assert os.read(vmm.fileno(), 4096) == event(0, 0, 0x82) + event(0, 1, 0x83)


@pytest.mark.requirement("REQ-EVT-15")
def test_buffer_that_ends(eventq_vmm: Open, firmware: Firmware) -> None:
    vmm = eventq_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82, 0x83])
    # In front of the page without memory there is room for one event and a half.
    with before_a_hole(bytes(SIZE + 8)) as memory:
        assert os.readv(vmm.fileno(), [memory]) == SIZE
        assert memory[:SIZE] == event(0, 0, 0x81)
    assert os.read(vmm.fileno(), 4096) == event(0, 1, 0x82) + event(0, 2, 0x83)


# ---- introspection -----------------------------------------------------------------------------


@pytest.mark.requirement("REQ-INT-12")
@pytest.mark.parametrize("name", ["alpha", "carrier", "bare", "express"])
def test_probe(bind: Bind, name: str) -> None:
    with vfio.Device.open(bind(name).bdf) as device:
        got = {
            operation: feature(device, PROBE | operation, 0, 0, 0, 0, argsz=argsz)
            for operation in (0, GET_BIT, SET_BIT, GET_BIT | SET_BIT)
            for argsz in (8, 24)
        }
        assert got == dict.fromkeys(got, 0)


@pytest.mark.requirement("REQ-INT-13")
@pytest.mark.parametrize("name", ["alpha", "beta", "carrier", "bare"])
def test_get(bind: Bind, firmware: Firmware, name: str) -> None:
    device = bind(name)
    for open_method in vfio.open_methods(device.bdf):
        with vfio.Device.open(device.bdf, open_method) as opened:
            got = feature(opened, GET, 0, os.O_CLOEXEC | os.O_NONBLOCK, DEPTH, 0)
            if name == "bare":
                assert got == "ENODEV"
                continue
            assert isinstance(got, int)
            with EventQueue(got) as file:
                firmware.notify(device.method, 0xC1)
                readable(file)
                assert os.read(got, SIZE) == event(0, 0, 0xC1)


@pytest.mark.requirement("REQ-INT-14")
@pytest.mark.parametrize("name", ["alpha", "carrier", "bare"])
def test_path(bind: Bind, acpi_path: Path, name: str) -> None:
    device = bind(name)
    expected = device.companion or None
    with vfio.Device.open(device.bdf) as opened:
        assert opened.acpi_path() is None
        acpi_path.write_text("Y")
        assert opened.acpi_path() == expected
        capability = opened.capabilities().get(PATH_CAPABILITY, b"")
        if expected:
            size = len(expected) + 1
            wanted = struct.pack("=HHII", PATH_CAPABILITY, 1, 0, size) + expected.encode() + b"\0"
            assert capability[: len(wanted)] == wanted
            assert not any(capability[len(wanted) :])
        else:
            assert capability == b""
        assert opened.info(argsz=24).cap_offset == 0, "there is no room for a capability"
        acpi_path.write_text("N")
        assert opened.acpi_path() is None


@pytest.mark.requirement("REQ-INT-13")
@pytest.mark.parametrize("cloexec", [0, os.O_CLOEXEC], ids=["kept", "cloexec"])
@pytest.mark.parametrize("nonblock", [0, os.O_NONBLOCK], ids=["blocking", "nonblock"])
def test_open_flags(bind: Bind, cloexec: int, nonblock: int) -> None:
    with vfio.Device.open(bind("alpha").bdf) as device:
        got = feature(device, GET, 0, cloexec | nonblock, 1, 0)
        assert isinstance(got, int)
        with EventQueue(got):
            assert fcntl.fcntl(got, fcntl.F_GETFD) == (fcntl.FD_CLOEXEC if cloexec else 0)
            flags = fcntl.fcntl(got, fcntl.F_GETFL)
            assert flags & (os.O_NONBLOCK | os.O_ACCMODE) == nonblock | os.O_RDONLY


# ---- delivery ----------------------------------------------------------------------------------


def overflow(vmm: EventqVmm, firmware: Firmware, sent: int, kept: int) -> list[bytes]:
    """Send ``sent`` notifications while nobody reads; then read the events that the queue has kept.

    Returns the 16 bytes of each event. The last ``kept`` notifications have the values 0x100, 0x101
    and so on; all before them have the value 0x80.
    """
    firmware.notify(vmm.device.method, 0x80, count=sent - kept)
    firmware.flush_handlers()
    firmware.notify(vmm.device.method, 0x100, step=1, count=kept)
    firmware.flush_handlers()
    got = b""
    with suppress(BlockingIOError):
        while more := os.read(vmm.fileno(), 1 << 16):
            got += more
    return [got[place : place + SIZE] for place in range(0, len(got), SIZE)]


@pytest.mark.requirement("REQ-DEL-15")
@pytest.mark.parametrize(
    ("depth", "kept"), [(1, 1), (2, 2), (3, 4), (100, 128), (256, 256)], ids=lambda n: str(n)
)
@pytest.mark.parametrize("more", [0, 1, 1000])
def test_unread(eventq_vmm: Open, firmware: Firmware, depth: int, kept: int, more: int) -> None:
    vmm = eventq_vmm("alpha", depth=depth)
    got = [struct.unpack("=IIII", raw) for raw in overflow(vmm, firmware, kept + more, kept)]
    # The handlers of the last notifications may run in any order.
    assert [sequence for _, sequence, _, _ in got] == list(range(more, more + kept))
    assert Counter(value for _, _, value, _ in got) == Counter(range(0x100, 0x100 + kept))


@pytest.mark.requirement("REQ-DEL-15")
def test_largest(eventq_vmm: Open, firmware: Firmware) -> None:
    vmm = eventq_vmm("alpha", depth=DEPTH_MAX)
    firmware.notify(vmm.device.method, 0x100, step=1, count=4096)
    assert Counter(vmm.values()) == Counter(range(0x100, 0x1100))


@pytest.mark.requirement("REQ-DEL-16")
def test_numbers(eventq_vmm: Open, firmware: Firmware) -> None:
    vmm = eventq_vmm("alpha", depth=4)
    got = []
    for sent in (1, 4, 5, 9, 0, 3):
        for _ in range(sent):
            vmm.vfio.notify_loopback(0x80)
        got += [item.sequence for item in vmm.events()]
    # The queue keeps 4 events: of 5 the first one is lost, of 9 the first five.
    assert got == [0, *range(1, 5), *range(6, 10), *range(15, 19), *range(19, 22)]


@pytest.mark.requirement("REQ-DEL-16")
@pytest.mark.parametrize("threads", [1, 4])
def test_numbers_in_burst(
    eventq_vmm: Open, firmware: Firmware, measure: Measure, threads: int
) -> None:
    vmm = eventq_vmm("alpha", depth=8)
    with Reader(vmm.fileno(), threads=threads) as reader:
        firmware.notify(vmm.device.method, 0x100, step=1, count=4096)
        firmware.flush_handlers()
        reader.wait_idle()
        reader.stop()
    events = split(reader.taken)
    result = count_events(4096, events)
    result.record(measure)
    assert result.accounted, result
    numbers = [item.sequence for item in events]
    assert len(set(numbers)) == len(numbers), "a number twice"
    assert max(numbers) == 4095
    # Each read(2) returns events in the order of their numbers.
    assert all(
        part == sorted(part)
        for part in ([item.sequence for item in split([raw])] for raw in reader.taken)
    )


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


# No way to wait has a time limit: poll(2) looks at the file once more when the time is up, and
# would then find an event for which the kernel has woken up nobody.
WAYS: dict[str, Callable[[int], Callable[[int], None]]] = {
    "poll": lambda file: by_poll,
    "epoll-level": lambda file: ByEpoll(file, select.EPOLLIN),
    "epoll-edge": lambda file: ByEpoll(file, select.EPOLLIN | select.EPOLLET),
    "read": lambda file: by_reading,
}


@pytest.mark.requirement("REQ-DEL-17")
@pytest.mark.parametrize("way", WAYS)
def test_wakeup(eventq_vmm: Open, firmware: Firmware, way: str) -> None:
    vmm = eventq_vmm("alpha")
    file = vmm.fileno()
    wait = WAYS[way](file)
    got: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        while got.empty() or got.queue[-1]:  # until read(2) has returned 0 bytes: the hang-up
            wait(file)
            with suppress(BlockingIOError):
                got.put(os.read(file, 4096))

    reader = Task(read)
    try:
        for sequence in range(8):
            firmware.notify(vmm.device.method, 0x80 + sequence)
            raw = got.get(timeout=READ_SECONDS)
            assert raw == event(0, sequence, 0x80 + sequence)
    finally:
        # Closing the device has to wake up the reader too.
        vmm.vfio.close()
        reader.join()
    assert got.get(timeout=READ_SECONDS) == b""


# ---- life cycle --------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-LIF-12")
def test_device_closed(eventq_vmm: Open, firmware: Firmware) -> None:
    vmm = eventq_vmm("alpha")
    one_by_one(firmware, vmm.device, [0x81, 0x82])
    assert polled(vmm.queue) == select.POLLIN
    vmm.vfio.close()
    one_by_one(firmware, vmm.device, [0x83])
    assert polled(vmm.queue) == select.POLLIN | select.POLLHUP
    assert os.read(vmm.fileno(), 4096) == event(0, 0, 0x81) + event(0, 1, 0x82)
    assert polled(vmm.queue) == select.POLLIN | select.POLLHUP, "readable: read(2) returns 0"
    assert [os.read(vmm.fileno(), 4096) for _ in range(2)] == [b"", b""]


@pytest.mark.requirement("REQ-LIF-12")
def test_device_closed_for_another(eventq_vmm: Open, firmware: Firmware) -> None:
    first = eventq_vmm("alpha")
    one_by_one(firmware, first.device, [0x81])
    first.vfio.close()
    # The queue of the first VMM is still open. Each queue holds only the events of its own VMM.
    second = eventq_vmm("alpha")
    one_by_one(firmware, second.device, [0x82])
    assert os.read(second.fileno(), 4096) == event(0, 0, 0x82)
    assert os.read(first.fileno(), 4096) == event(0, 0, 0x81)
    first.queue.close()
    one_by_one(firmware, second.device, [0x83])
    assert os.read(second.fileno(), 4096) == event(0, 1, 0x83)


@pytest.mark.requirement("REQ-LIF-13")
def test_queue_closed(eventq_vmm: Open, firmware: Firmware) -> None:
    vmm = eventq_vmm("alpha")
    double = os.dup(vmm.fileno())
    one_by_one(firmware, vmm.device, [0x81])
    vmm.queue.close()
    assert feature(vmm.vfio, GET, 0, 0, DEPTH, 0) == "EEXIST", "the duplicate is open"
    one_by_one(firmware, vmm.device, [0x82])
    assert os.read(double, SIZE) == event(0, 0, 0x81)
    os.close(double)
    one_by_one(firmware, vmm.device, [0x83])
    with vmm.vfio.notify_queue() as again:
        one_by_one(firmware, vmm.device, [0x84])
        assert os.read(again.fileno(), 4096) == event(0, 0, 0x84)


@pytest.mark.requirement("REQ-LIF-13")
def test_second_queue(eventq_vmm: Open, firmware: Firmware) -> None:
    vmm = eventq_vmm("alpha")
    assert [feature(vmm.vfio, GET, 0, 0, 1, 0) for _ in range(3)] == ["EEXIST"] * 3
    one_by_one(firmware, vmm.device, [0x81])
    assert vmm.values() == [0x81]


@pytest.mark.requirement("REQ-LIF-14")
@pytest.mark.parametrize("reads", [False, True], ids=["unread", "in-read"])
def test_killed(
    bind: Bind, eventq_vmm: Open, firmware: Firmware, measure: Measure, reads: bool
) -> None:
    device = bind("alpha")

    def life(say: Say) -> None:
        with EventqVmm(device, firmware, None) as mine:
            say()
            if reads:
                # The child is killed in a read(2) that blocks, or shortly before or after one.
                os.set_blocking(mine.fileno(), True)
                while True:
                    mine.queue.read(1)
                    say()
            signal.pause()

    with KillableChild(life) as killable_child:
        killable_child.wait()
        firmware.notify(device.method, 0x81, count=300)
        firmware.flush_handlers()
        if reads:
            killable_child.wait()
        killable_child.kill()
        began = time.monotonic()
        vmm = eventq_vmm("alpha")
        measure("seconds to open", round(time.monotonic() - began, 3))
    firmware.notify(device.method, 0x82)
    assert vmm.values() == [0x82]


@pytest.mark.requirement("REQ-LIF-15")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "burst"])
def test_unbind(eventq_vmm: Open, firmware: Firmware, busy: bool) -> None:
    vmm = eventq_vmm("alpha", depth=4)
    with EventFd() as request:
        vmm.vfio.arm(request, vfio.REQ)
        unbinding = Task(vmm.device.unbind)
        try:
            assert request.wakes_up(READ_SECONDS), "the user is not asked to let go"
            times = 4096 if busy else 1
            sending = Task(partial(firmware.notify, vmm.device.method, 0x81, count=times))
            readable(vmm.queue)
            assert unbinding.running, "unbound while in use"
        finally:
            # The queue stays open: it must not delay the unbinding.
            vmm.vfio.close()
        unbinding.join()
        sending.join()
    assert vmm.device.driver == ""
    assert polled(vmm.queue) & select.POLLHUP
    firmware.flush_handlers()
    again = eventq_vmm("alpha")
    firmware.notify(again.device.method, 0x82)
    assert again.values() == [0x82]


@pytest.mark.requirement("REQ-LIF-15")
def test_unplug(port: Port, host: Channel, firmware: Firmware) -> None:
    with ExitStack() as stack:
        for value in (0x81, 0x82):
            with plugged(host, port) as device:
                device.bind()
                opened = stack.enter_context(vfio.Device.open(device.bdf))
                file = stack.enter_context(opened.notify_queue())
                firmware.notify_path(port.path, value)
                firmware.flush_handlers()
                opened.close()
            # The device is gone, but its queue is still open.
            firmware.notify_path(port.path, 0x83)
            firmware.flush_handlers()
            assert os.read(file.fileno(), 4096) == event(0, 0, value)
            assert os.read(file.fileno(), 4096) == b""


STRESS_SECONDS = 3.0


@pytest.mark.requirement("REQ-LIF-16")
def test_stress(eventq_vmm: Open, firmware: Firmware, measure: Measure) -> None:
    first = eventq_vmm("alpha")
    bdf, method = first.device.bdf, first.device.method
    first.close()
    done: Counter[str] = Counter()
    end = time.monotonic() + STRESS_SECONDS
    for number in count():
        if time.monotonic() > end:
            break
        stop = threading.Event()
        with vfio.Device.open(bdf) as device:
            acts = (get, get, read_and_close, loop_back)
            shared: list[EventQueue] = []
            tasks = [Task(partial(repeat, act, device, shared, stop, done)) for act in acts]
            firmware.notify(method, 0x80, count=512)
            if number % 2:
                device.close()
            stop.set()
            for task in tasks:
                task.join()
        for file in shared:
            file.close()
        done["rounds"] += 1
    firmware.flush_handlers()
    for name, times in sorted(done.items()):
        measure(name, times)
    vmm = eventq_vmm("alpha")
    firmware.notify(vmm.device.method, 0x82)
    assert vmm.values() == [0x82]


# EEXIST: another thread has a queue. ENOENT: no thread has one. The others: the device was closed,
# or the number of its descriptor belongs to another file.
RIGHT = frozenset({errno.EEXIST, errno.ENOENT, errno.EBADF, errno.ENOTTY, errno.EINVAL})

Act = Callable[[vfio.Device, list[EventQueue]], None]


def repeat(
    act: Act,
    device: vfio.Device,
    shared: list[EventQueue],
    stop: threading.Event,
    done: Counter[str],
) -> None:
    """Call ``act`` until ``stop`` is set.

    ``done`` counts the calls that succeed, by the name of ``act``. Raises UapiError if a call fails
    with an errno that is not in `RIGHT`. ``shared`` are the queues that the threads share.
    """
    while not stop.is_set():
        try:
            act(device, shared)
            done[act.__name__] += 1
        except UapiError as error:
            if error.errno not in RIGHT:
                raise
        os.sched_yield()


def get(device: vfio.Device, shared: list[EventQueue]) -> None:
    """Get a queue from ``device`` and share it with the other threads."""
    shared.append(device.notify_queue(8))


def read_and_close(device: vfio.Device, shared: list[EventQueue]) -> None:
    """Take a queue from ``shared``, read it once and close it. Do nothing if there is none.

    ``device`` is not used.
    """
    with suppress(IndexError), shared.pop() as file:
        file.read()


def loop_back(device: vfio.Device, shared: list[EventQueue]) -> None:
    """Cause a loopback on the device's queue. ``shared`` is not used."""
    device.notify_loopback(0x90)


# ---- errors ------------------------------------------------------------------------------------

GETS = {
    "flags": (1, 0, DEPTH, 0),
    "flags-high": (1 << 31, 0, DEPTH, 0),
    "rdwr": (0, os.O_RDWR, DEPTH, 0),
    "append": (0, os.O_APPEND, DEPTH, 0),
    "open-flags-high": (0, 1 << 31, DEPTH, 0),
    "depth-0": (0, 0, 0, 0),
    "depth-max-1": (0, 0, DEPTH_MAX + 1, 0),
    "depth-high": (0, 0, 0xFFFF_FFFF, 0),
    "value": (0, 0, DEPTH, 0x80),
}
SETS = {
    "set-flags": (1, 0, 0, 0x80),
    "set-open-flags": (0, os.O_CLOEXEC, 0, 0x80),
    "set-depth": (0, 0, 1, 0x80),
}


@pytest.mark.requirement("REQ-ERR-09")
@pytest.mark.parametrize("case", [*GETS, *SETS])
@pytest.mark.parametrize("has", [False, True], ids=["without", "with"])
def test_bad_fields(bind: Bind, firmware: Firmware, case: str, has: bool) -> None:
    operation, fields = (GET, GETS[case]) if case in GETS else (SET, SETS[case])
    device = bind("alpha")
    with vfio.Device.open(device.bdf) as opened, ExitStack() as stack:
        file = stack.enter_context(opened.notify_queue(2)) if has else None
        if file is not None:
            one_by_one(firmware, device, [0x81, 0x82])
        assert feature(opened, operation, *fields) == "EINVAL"
        if file is not None:
            assert os.read(file.fileno(), 4096) == event(0, 0, 0x81) + event(0, 1, 0x82)


@pytest.mark.requirement("REQ-ERR-09")
def test_bad_calls(bind: Bind) -> None:
    with vfio.Device.open(bind("alpha").bdf) as device:
        good = (0, 0, DEPTH, 0)
        got = {
            "both": feature(device, GET | SET, *good),
            "neither": feature(device, NUMBER, *good),
            "short get": feature(device, GET, *good, argsz=23),
            "header": feature(device, GET, *good, argsz=8),
            "short set": feature(device, SET, 0, 0, 0, 0x80, argsz=23),
            "no queue": feature(device, SET, 0, 0, 0, 0x80),
        }
        assert got == dict.fromkeys(got, "EINVAL") | {"no queue": "ENOENT"}


@pytest.mark.requirement("REQ-ERR-09")
@pytest.mark.parametrize("operation", [GET, SET], ids=["get", "set"])
def test_unreadable_fields(bind: Bind, operation: int) -> None:
    header = struct.pack("=II", 24, operation)
    with vfio.Device.open(bind("alpha").bdf) as device, before_a_hole(header) as memory:
        with pytest.raises(OSError) as caught:
            fcntl.ioctl(device.fileno(), FEATURE, memory)
        assert caught.value.errno == errno.EFAULT


@pytest.mark.requirement("REQ-ERR-09")
def test_larger_argsz(bind: Bind) -> None:
    with vfio.Device.open(bind("alpha").bdf) as device:
        got = feature(device, GET, 0, os.O_CLOEXEC, DEPTH, 0, argsz=4096)
        assert isinstance(got, int)
        os.close(got)


@pytest.mark.requirement("REQ-ERR-09")
@pytest.mark.parametrize("name", ["bare"])
def test_without_companion(bind: Bind, name: str) -> None:
    with vfio.Device.open(bind(name).bdf) as device:
        got = [feature(device, GET, 0, 0, DEPTH, 0), feature(device, SET, 0, 0, 0, 0x80)]
        assert got == ["ENODEV", "ENOENT"]


def lowest_free(device: vfio.Device) -> int:
    """Return the lowest descriptor number that this process does not use, by dup(2) of ``device``.

    A number that the kernel has reserved for a file, but not given to one yet
    (get_unused_fd_flags()), counts as used.
    """
    number = os.dup(device.fileno())
    os.close(number)
    return number


@pytest.mark.requirement("REQ-ERR-09")
def test_no_descriptor_left(bind: Bind) -> None:
    with vfio.Device.open(bind("alpha").bdf) as device, device.notify_queue():
        before = lowest_free(device)
        assert feature(device, GET, 0, 0, DEPTH, 0) == "EEXIST"
        assert lowest_free(device) == before


@pytest.mark.requirement("REQ-ERR-09")
def test_no_descriptor_free(bind: Bind) -> None:
    with vfio.Device.open(bind("alpha").bdf) as device:
        lowest = lowest_free(device)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            got = feature(device, GET, 0, 0, DEPTH, 0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert got == "EMFILE"
        with device.notify_queue():
            pass
