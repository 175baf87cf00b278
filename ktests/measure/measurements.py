# SPDX-License-Identifier: GPL-2.0-only
"""The measurements: each function measures on a `Stand`, and returns its values by name.

A list of times is one text: nanoseconds, separated by spaces. The reference of a loopback is that
of VFIO_PCI_REQ_IRQ_INDEX (DATA_BOOL), a plain eventfd_signal(): the trips of both alternate. The
reference of a notification by firmware is a second Notify handler on the same device, which does
no more than eventfd_signal() (`ktests.measure.reference`). That of a sleeping device is the same
device awake. If a mechanism lacks what is measured, the result is the reason alone, under `ABSENT`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice

from ktests import call, cpu
from ktests.burst_result import BurstResult
from ktests.burst_source import BurstSource
from ktests.call import Call
from ktests.interrupt import Notifications
from ktests.measure.clock import Follower, Trip, time_trips
from ktests.measure.reference import Reference
from ktests.measure.stand import Stand, slab
from ktests.pci import PciDevice
from ktests.reader import Reader
from uapi import mirror, vfio
from uapi.eventfd import EventFd

Values = dict[str, float | str]

ABSENT = "absent"
NO_LOOPBACK: Values = {ABSENT: "the mechanism has no loopback"}

# The trips of loopbacks are timed in blocks with a pause after each, so that a moment in which the
# host is busy affects few of them.
BLOCKS = 10
REST_SECONDS = 0.05
# Trips of each block that are not counted: caches fill, and code is run for the first time.
WARM_UP = 200
# Notifications by firmware take so long that only one sample of this many is taken.
SPARSE = 20
# Notifications whose wake-ups are counted, one after the other.
WAKE_UPS = 200
# The least number of notifications of a sleeping device.
MIN_ASLEEP = 5

# The value of a measured notification.
VALUE = 0x81

# Notifications that each device has pending when memory is measured: fewer than any queue keeps.
PENDING = 128
CYCLES = 2

# A burst has this many notifications, so that each has a value of its own (0x100 to 0xffff).
ROUND = 50_000
# In the paced count, this many notifications are sent before the reader has read them all.
PACE = 240
# The paced reader counts as idle if it has found nothing for this time.
LOOK_SECONDS = 0.001
# The size of a socket's buffer in bytes, for mechanisms that have a socket.
BUFFER = 4 << 20
# The least number of notifications for the late reader: more than any mechanism keeps, so that some
# are lost.
MIN_OVERRUN = 20_000


@dataclass(frozen=True)
class Parameters:
    """The parameters of the host's job: ``count`` notifications, ``samples`` of each time."""

    count: int
    samples: int


# ---- loopbacks -----------------------------------------------------------------------------------


def loopback(stand: Stand, parameters: Parameters, *, devices: int) -> Values:
    """Time the system calls that cause a loopback and receive it, on ``devices`` in turn."""
    with stand.vmms(stand.devices[:devices]) as vmms, ExitStack() as stack:
        causes = [vmm.loopback() for vmm in vmms]
        if None in causes:
            return NO_LOOPBACK
        trips: list[tuple[Call, ...]] = []
        for vmm, cause in zip(vmms, causes, strict=True):
            assert cause is not None
            trips += [_reference(cause.fd, stack), (cause, *vmm.receive_loopback())]
        rounds = -(-parameters.samples // (devices * BLOCKS))
        times: list[list[int]] = [[] for _ in trips]
        for _ in range(BLOCKS):
            time_trips(trips, WARM_UP // devices)
            for taken, block in zip(times, time_trips(trips, rounds), strict=True):
                taken += block
            time.sleep(REST_SECONDS)
    return {"reference": _joined(times[::2]), "mechanism": _joined(times[1::2])}


def _reference(fd: int, stack: ExitStack) -> tuple[Call, ...]:
    """Arm the REQ index of the device that is open as ``fd``; return the calls of its loopback."""
    device = vfio.Device.from_fd(fd)
    eventfd = stack.enter_context(EventFd())
    device.arm(eventfd, vfio.REQ)
    stack.callback(device.disarm, vfio.REQ)
    return call.loopback(device, vfio.REQ), call.read(eventfd.fileno(), 8)


def _joined(trips: Sequence[Sequence[int]]) -> str:
    """Return the times of all devices' trips in the order in which they were taken."""
    return _text([taken for a_round in zip(*trips, strict=True) for taken in a_round])


def _text(times: Sequence[int]) -> str:
    return " ".join(map(str, times))


# ---- notifications by firmware -------------------------------------------------------------------


def interrupt(
    stand: Stand, parameters: Parameters, *, devices: int = 1, listeners: int = 1
) -> Values:
    """Time notifications: from the interrupt to the end of the system calls that receive one.

    They go to ``devices`` in turn, and alternate with those of the reference. The first of
    ``listeners`` VMMs on each device is timed. Where a VMM receives the notifications of all
    devices, it is the first VMM of all.
    """
    if listeners > 1 and not stand.mechanism.shared:
        return {ABSENT: "one listener a device"}
    chosen = stand.devices[:devices]
    times: list[int] = []
    references: list[int] = []
    with stand.vmms(chosen) as vmms, stand.vmms(chosen * (listeners - 1)):
        sources = [vmm.receive() for vmm in (vmms[:1] if stand.mechanism.of_all_devices else vmms)]
        for device in islice(cycle(chosen), -(-parameters.samples // SPARSE)):
            [taken] = _interrupted(stand, device, sources)
            times.append(taken)
            with Reference(device.path) as reference:
                # The mechanism has to receive this one too: it may keep the next one back.
                taken, _ = _interrupted(stand, device, [reference.receive()], sources)
            references.append(taken)
    return {"reference": _text(references), "mechanism": _text(times)}


def _interrupted(stand: Stand, device: PciDevice, *groups: Sequence[Trip]) -> list[int]:
    """Raise an interrupt that notifies ``device``; one source of each of ``groups`` receives that.

    Returns for each group the nanoseconds from the interrupt until it has received. What is
    readable before is discarded: a socket also has the events of other devices.
    """
    followers = [_following(sources) for sources in groups]
    stand.interrupts.interrupt(Notifications(device.method, VALUE))
    stamps = [follower.wait(0) for follower in followers]
    for follower in followers:
        follower.usage()
    begin = stand.clock.read()
    return [stamp - begin for stamp in stamps]


def _following(sources: Sequence[Trip], events: int = 1) -> Follower:
    """Discard what is readable, and return a thread that receives ``events`` notifications."""
    for first, *_ in sources:
        os.set_blocking(first.fd, False)
        with suppress(BlockingIOError):
            while os.read(first.fd, call.READ_SIZE):
                pass
    return Follower(sources, events)


def wake_ups(stand: Stand, parameters: Parameters) -> Values:
    """Count how often a thread that receives notifications sleeps; measure its CPU time for one.

    Each is sent by an interrupt, when the thread has received the one before and sleeps again.
    """
    device = stand.devices[0]
    values: Values = {"events": WAKE_UPS}
    with stand.vmms([device]) as [vmm]:
        values |= _usage("mechanism", stand, device, vmm.receive())
    with Reference(device.path) as reference:
        values |= _usage("reference", stand, device, reference.receive())
    return values


def _usage(name: str, stand: Stand, device: PciDevice, source: Trip) -> Values:
    follower = _following([source], WAKE_UPS)
    for number in range(WAKE_UPS):
        stand.interrupts.interrupt(Notifications(device.method, VALUE))
        follower.wait(number)
    sleeps, nanoseconds = follower.usage()
    return {f"{name} sleeps": sleeps, f"{name} cpu": nanoseconds}


# ---- a sleeping device ---------------------------------------------------------------------------


def asleep(stand: Stand, parameters: Parameters) -> Values:
    """Time notifications of a device in D3hot against those of the same device in D0.

    Counts how often receiving one has woken the device. A VMM that has its device open lets it
    sleep by VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY; another one never keeps it awake.
    """
    device = stand.sleeper
    times: list[int] = []
    references: list[int] = []
    woken = 0
    rounds = max(MIN_ASLEEP, parameters.samples // SPARSE // 4)
    with stand.vmms([device]) as [vmm]:
        # VMMs that have their device open have it in this attribute.
        opened: vfio.Device | None = getattr(vmm, "vfio", None)
        if opened is not None:
            opened.feature(vfio.SET | mirror.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY)
        for _ in range(rounds):
            with device.awake():
                references += _interrupted(stand, device, [vmm.receive()])
            device.wait_asleep()
            before = device.active_milliseconds
            times += _interrupted(stand, device, [vmm.receive()])
            device.wait_asleep()
            woken += device.active_milliseconds != before
    return {
        "reference": _text(references),
        "mechanism": _text(times),
        "events": rounds,
        "woken": woken,
    }


# ---- memory --------------------------------------------------------------------------------------


def memory(stand: Stand, parameters: Parameters) -> Values:
    """Measure slab memory: of an open device, of a registered VMM, and of a pending notification.

    All are differences over all devices, in bytes for each. They are the largest of `CYCLES`: the
    allocator may have free memory of the same size from before, which hides an allocation.
    """
    seen: dict[str, list[float]] = {"open": [], "registered": [], "pending": []}
    for _ in range(CYCLES):
        _cycle(stand, seen)
    largest = {name: max(figures) for name, figures in seen.items()}
    return {"devices": len(stand.devices), "notifications": PENDING, **largest}


def _cycle(stand: Stand, seen: Mapping[str, list[float]]) -> None:
    devices = stand.devices
    none = slab()
    with ExitStack() as stack:
        for device in devices:
            stack.enter_context(vfio.Device.open(device.bdf))
        seen["open"].append((slab() - none) / len(devices))
    none = slab()
    with stand.vmms(devices) as vmms:
        registered = slab()
        for device in devices:
            stand.firmware.notify(device.method, VALUE, count=PENDING)
        stand.firmware.flush_handlers()
        # Each VMM that receives the notifications of all devices has all of them.
        messages = PENDING * len(devices) * (len(vmms) if stand.mechanism.of_all_devices else 1)
        seen["registered"].append((registered - none) / len(devices))
        seen["pending"].append((slab() - registered) / messages)


# ---- counting ------------------------------------------------------------------------------------


def count(stand: Stand, parameters: Parameters) -> Values:
    """Count notifications by value, with a reader that keeps up: the firmware waits for it."""
    return _counted(stand, parameters.count, pace=PACE)


def overrun(stand: Stand, parameters: Parameters) -> Values:
    """Count notifications by value, with a reader that begins after the last one.

    A reader that is slow could be fast enough on a machine that sends slowly.
    """
    return _counted(stand, min(max(parameters.count, MIN_OVERRUN), ROUND), late=True)


def _counted(stand: Stand, total: int, *, pace: int = 0, late: bool = False) -> Values:
    """Send ``total`` notifications in bursts of `ROUND`, each with a reader of its own.

    AML and the Notify handlers run on CPU 0 and the reader on CPU 1, so that the kernel's dispatch
    does not change the order.
    """
    counts: Counter[str] = Counter()
    begin = time.monotonic()
    with cpu.pinned(cpu.interpreter(), {0}):
        for sent in range(0, total, ROUND):
            counts.update(asdict(_burst(stand, min(ROUND, total - sent), pace, late)))
    stated: Values = {"kept": stand.mechanism.kept, "pace": pace, "buffer": BUFFER}
    return {**counts, **stated, "seconds": time.monotonic() - begin}


def _burst(stand: Stand, size: int, pace: int, late: bool) -> BurstResult:
    firmware = stand.firmware
    opened = stand.mechanism.burst_source(stand.devices[0], firmware, buffer=BUFFER)
    with opened as source:
        if late:
            source.send(size)
            firmware.flush_handlers()
        with _reader(source) as reader:
            if not late:
                with firmware.paced(reader, pace):
                    source.send(size)
            return source.finish(reader)


def _reader(source: BurstSource) -> Reader:
    return Reader(source.fileno(), cpus={1}, receive=source.receive, look=LOOK_SECONDS)


# ---- the table -----------------------------------------------------------------------------------

Measurement = Callable[[Stand, Parameters], Values]

MEASUREMENTS: dict[str, Measurement] = {
    "memory": memory,  # before anything has left free memory behind
    **{f"loopback {n}": partial(loopback, devices=n) for n in (1, 8, 16)},
    **{f"interrupt {n}": partial(interrupt, devices=n) for n in (1, 8, 16)},
    **{f"listeners {n}": partial(interrupt, listeners=n) for n in (1, 8, 64)},
    "wake-ups": wake_ups,
    "asleep": asleep,
    "count": count,
    "overrun": overrun,
}
"""Each measurement by name; a number in it is that of devices or listeners."""

LIMITS: dict[str, Callable[[Parameters], float]] = {
    "count": lambda parameters: 120 + parameters.count / 500,
    "overrun": lambda parameters: 600,
}
"""The time limit in seconds of a measurement that may take longer than `LIMIT`."""

LIMIT = 300.0
