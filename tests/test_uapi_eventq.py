# SPDX-License-Identifier: GPL-2.0-only
"""The queue of ACPI notifications, without hardware: a pipe stands for it.

A nonblocking pipe fails with EAGAIN if it is empty, and returns 0 once its writer has closed it, as
a queue does once its device is closed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import struct
from collections.abc import Iterator

import pytest

from uapi import eventq, rules, vfio
from uapi.errors import FormatError, UapiError
from uapi.eventq import Event, EventQueue, Gaps
from uapi.notification import Notification
from uapi.notifications import QueueNotifications

GET, SET = 1 << 16 | 14, 1 << 17 | 14


def raw(flags: int, sequence: int, value: int) -> bytes:
    """Return an event in bytes."""
    return struct.pack("=IIII", flags, sequence, value, 0)


class Writer:
    """The kernel's end of a simulated queue."""

    def __init__(self) -> None:
        self.theirs, self._ours = os.pipe2(os.O_NONBLOCK)

    def send(self, *events: bytes) -> None:
        """Make the events readable."""
        os.write(self._ours, b"".join(events))

    def close(self) -> None:
        """Hang up. A second call does nothing."""
        if self._ours >= 0:
            os.close(self._ours)
        self._ours = -1


@pytest.fixture
def kernel() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.close()


def test_decode() -> None:
    data = raw(0, 7, 0xD1) + raw(1, 8, 0xFFFF_FFFF)
    first, second = eventq.decode(data)
    assert (first, first.loopback) == (Event(0, 7, 0xD1), False)
    assert (second, second.loopback) == (Event(1, 8, 0xFFFF_FFFF), True)
    assert eventq.decode(b"") == []
    # A later kernel may set other flags.
    assert not eventq.decode(raw(2, 0, 0x80))[0].loopback


@pytest.mark.parametrize("length", [1, 15, 17])
def test_a_part_of_an_event_is_none(length: int) -> None:
    with pytest.raises(FormatError, match=f"^{length} bytes are no whole number of events"):
        eventq.decode(bytes(length))


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [
        ([0, 1, 2], [0, 0, 0]),
        ([3, 4, 9], [3, 0, 4]),
        ([0xFFFF_FFFF, 0, 1], [0xFFFF_FFFF, 0, 0]),
    ],
    ids=["none", "at the begin", "around the end of 32 bits"],
)
def test_gaps(numbers: list[int], lost: list[int]) -> None:
    gaps = Gaps()
    assert [gaps.take(Event(0, number, 0x80)).lost for number in numbers] == lost


def test_queue(kernel: Writer) -> None:
    with EventQueue(kernel.theirs) as queue:
        assert queue.read() is None
        assert not queue.wait(0)
        kernel.send(raw(0, 0, 0x80), raw(0, 1, 0x81), raw(0, 2, 0x82))
        assert queue.wakes_up(1.0)
        assert [event.value for event in queue.read(2) or []] == [0x80, 0x81]
        assert [event.value for event in queue.read() or []] == [0x82]
        kernel.close()
        assert queue.wait(1.0), "the hang-up ends a wait"
        assert queue.read() == []
        assert repr(queue) == f"EventQueue({kernel.theirs})"
    assert repr(queue) == "EventQueue(closed)"
    with pytest.raises(ValueError, match=r"^the queue is closed$"):
        queue.fileno()


def test_stream(kernel: Writer) -> None:
    with QueueNotifications(EventQueue(kernel.theirs)) as stream:
        assert stream.read(0) is None
        kernel.send(raw(0, 0, 0xD1), raw(1, 1, 0x7F), raw(0, 5, 0xFFFF))
        assert next(stream) == Notification(0xD1)
        assert select.select([stream], [], [], 0)[0], "there are more"
        assert next(stream) == Notification(0x7F, loopback=True)
        assert next(stream) == Notification(0xFFFF, lost=3)
        assert not select.select([stream], [], [], 0)[0]
        kernel.send(raw(0, 6, 0x80))
        kernel.close()
        assert list(stream) == [Notification(0x80)]
        assert stream.read() is None


def test_stream_in_asyncio(kernel: Writer) -> None:
    async def main() -> list[int]:
        with QueueNotifications(EventQueue(kernel.theirs)) as stream:
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            kernel.send(raw(0, 0, 0x80), raw(0, 1, 0x81))
            first = await waiting
            kernel.close()
            return [first.value, *[item.value async for item in stream]]

    assert asyncio.run(main()) == [0x80, 0x81]


@pytest.mark.parametrize(
    ("number", "facts", "text"),
    [
        ("EINVAL", {"depth": 0}, "depth 0 is not from 1 to 65536"),
        ("EINVAL", {"depth": 65537}, "depth 65537 is not from 1 to 65536"),
        ("ENODEV", {"depth": 1}, "the device has no ACPI companion"),
        ("EEXIST", {"depth": 1}, "the device has an open queue"),
        ("EBUSY", {"depth": 1}, "another device with the same ACPI companion"),
        ("ENOENT", {"flags": SET}, "the device has no open queue"),
        ("ENOTTY", {"depth": 1}, "the kernel does not know feature 14"),
    ],
)
def test_rules(number: str, facts: dict[str, int], text: str) -> None:
    known = {"argsz": 24, "size": 8, "flags": GET} | facts
    told = rules.broken("VFIO_DEVICE_FEATURE", getattr(errno, number), known)
    assert told.startswith(text)


def test_a_refused_queue_is_told() -> None:
    with vfio.Device(os.open("/dev/null", os.O_RDWR)) as null:
        for call in (null.notify_queue, lambda: null.notify_loopback(0x81)):
            with pytest.raises(UapiError, match="ENOTTY: the kernel does not know feature 14"):
                call()
        with pytest.raises(OverflowError):
            null.notify_queue(1 << 32)
