# SPDX-License-Identifier: GPL-2.0-only
"""The listener on a real netlink socket that really overruns, and the count of lost events.

The tests use another protocol than generic netlink, so that they can send the messages. Joining its
groups needs CAP_NET_ADMIN, so some of these tests need root.
"""

from __future__ import annotations

import asyncio
import os
import struct
import threading
from collections.abc import Iterator

import pytest

from tests import netlink_group
from tests.netlink_group import Send
from uapi import probe
from uapi.acpi_event import Event, FormatError
from uapi.errors import ClosedError, OpenError
from uapi.gaps import Gaps
from uapi.probe import Family, Listener, Lost, Overrun, Received

GROUP = 5
FAMILY = Family(id=28, version=1, groups={"acpi_mc_group": GROUP})

OVERRUN = "overrun"


def message(sequence: int) -> bytes:
    head = struct.pack("=IHHII BBH HH", 68, FAMILY.id, 0, sequence, 0, 1, 1, 0, 48, 1)
    return head + struct.pack("=20s15sxII", b"vfio_pci", b"0000:00:10.0", 0xD1, 0)


def event(sequence: int) -> Event:
    return Event(sequence, "vfio_pci", "0000:00:10.0", 0xD1, 0)


@pytest.fixture
def send() -> Iterator[Send]:
    with netlink_group.sending(GROUP) as send:
        yield send


@pytest.fixture
def listener() -> Iterator[Listener]:
    with netlink_group.joined(Listener, FAMILY) as listener:
        yield listener


def test_a_family_without_the_group() -> None:
    other = Family(id=28, version=1, groups={"acpi_mc_group2": GROUP})
    with pytest.raises(OpenError, match="acpi_event: this kernel's has no group acpi_mc_group"):
        Listener(known=other)


def read_all(listener: Listener) -> list[Event | Lost]:
    got = []
    while (item := listener.read(0)) is not None:
        got.append(item)
    return got


def test_receive(listener: Listener, send: Send) -> None:
    assert listener.receive(0) is None
    send(message(7))
    assert listener.receive(10) == Received(event(7), message(7))


def test_overrun_is_told_once(listener: Listener, send: Send) -> None:
    send(*map(message, range(100)))
    got = list(listener.pending())
    assert got.count(Overrun()) == 1
    assert len(got) < 100
    send(message(100))
    assert listener.receive(10) == Received(event(100), message(100))


def test_each_loss_is_counted(listener: Listener, send: Send) -> None:
    for first in (0, 100):
        send(*map(message, range(first, first + 98)))
        # The messages in the buffer come first, the loss after them.
        kept = read_all(listener)
        assert kept == [event(first + number) for number in range(len(kept))]
        assert 0 < len(kept) < 98
        send(message(first + 98), message(first + 99))
        assert read_all(listener) == [Lost(98 - len(kept)), event(first + 98), event(first + 99)]


def test_a_gap_without_overrun_is_no_loss(listener: Listener, send: Send) -> None:
    numbers = (1, 3, 2, 3, 9)
    send(*map(message, numbers))
    assert read_all(listener) == [event(number) for number in numbers]


def test_iterate(listener: Listener, send: Send) -> None:
    threading.Timer(0.02, send, map(message, range(3))).start()
    items = iter(listener)
    assert [next(items) for _ in range(3)] == [event(0), event(1), event(2)]


def test_iterate_in_asyncio(listener: Listener, send: Send) -> None:
    async def main() -> list[Event | Lost]:
        send(*map(message, range(100)))
        got = []
        asyncio.get_running_loop().call_later(0.05, send, message(100))
        async for item in listener:
            got.append(item)
            if item == event(100):
                break
        return got

    got = asyncio.run(asyncio.wait_for(main(), 10))
    *kept, lost, last = got
    assert kept == [event(number) for number in range(len(kept))]
    assert (lost, last) == (Lost(100 - len(kept)), event(100))


def test_closing_ends_a_task_and_a_thread_that_wait(listener: Listener) -> None:
    async def main() -> object:
        waiting = asyncio.ensure_future(anext(listener, None))
        thread = asyncio.create_task(asyncio.to_thread(listener.read))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert not thread.done()
        listener.close()
        return await asyncio.gather(waiting, thread)

    assert asyncio.run(asyncio.wait_for(main(), 10)) == [None, None]


def test_other_tasks_run_while_there_are_events(listener: Listener, send: Send) -> None:
    async def main() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        send(*map(message, range(8)))
        task = asyncio.ensure_future(other())
        for number in range(8):
            assert await anext(listener) == event(number)
        task.cancel()
        return turns

    assert asyncio.run(main()) >= 8


def test_foreign_message(listener: Listener, send: Send) -> None:
    send(b"x" * 20, message(1))
    with pytest.raises(FormatError):
        listener.read(10)
    assert listener.read(10) == event(1)


def test_a_request_beside_it_takes_no_event(listener: Listener, send: Send) -> None:
    send(message(1))
    assert probe.family("nlctrl").id == probe.GENL_ID_CTRL
    assert listener.read(10) == event(1)


def test_nothing_stays_open() -> None:
    with pytest.raises(OpenError):
        Listener(known=Family(28, 1, {}))
    with Listener(known=probe.Family(28, 1, {"acpi_mc_group": 16})) as made:
        assert made.fileno() >= 0
    with pytest.raises(ClosedError):
        made.fileno()


def test_closed_once() -> None:
    made = Listener(known=probe.Family(28, 1, {"acpi_mc_group": 16}))
    number = made.fileno()
    made.close()
    other = os.open(os.devnull, os.O_RDONLY)
    os.dup2(other, number)
    del made  # must not close the number, which is somebody else's now
    os.fstat(number)
    for fd in {other, number}:
        os.close(fd)


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [
        ([1, 2, 3], []),
        ([OVERRUN, 7, 8], []),
        ([1, OVERRUN, 2, 3, 10], [6]),
        ([1, OVERRUN, 10, OVERRUN, 11, 13], [8, 1]),
        # The counter wraps around.
        ([0xFFFFFFFE, OVERRUN, 0xFFFFFFFF, 3], [3]),
        # Late, twice, or missing without an overrun: the events raced, and none is lost.
        ([1, 3, 2, 4], []),
        ([1, 1, 2, 2, 3], []),
        ([1, 5, 6], []),
        # The gap of a race was taken for that of the overrun; in the end the sum is right.
        ([1, OVERRUN, 2, 4, 3, 5, 50], [1, 43]),
        ([1, OVERRUN, 3, 2, 4], [1]),
    ],
)
def test_gaps(numbers: list[int | str], lost: list[int]) -> None:
    gaps, found = Gaps(), []
    for number in numbers:
        if isinstance(number, str):
            gaps.overrun()
        elif count := gaps.take(number):
            found.append(count)
    assert found == lost
