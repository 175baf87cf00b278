# SPDX-License-Identifier: GPL-2.0-only
"""The counter of the delivery and life-cycle tests, tested on the host."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from ktests import fdinfo
from ktests.burst_result import BurstResult, count_burst
from ktests.burst_source import FIRST
from ktests.killable_child import KillableChild, Say
from ktests.mechanisms.eventfd import count_words, words
from ktests.reader import Reader
from ktests.task import Task
from uapi.eventfd import EventFd

VALID, LOOPBACK = 1 << 32, 1 << 33


@pytest.mark.parametrize(
    ("marks", "reported", "expected"),
    [
        ([0, 1, 2, 3], 0, BurstResult(4, 4, 0, 0, 0, 0, 0)),
        ([0, 2, 1, 3], 0, BurstResult(4, 4, 0, 0, 0, 0, 1)),
        ([3, 0, 1, 2], 0, BurstResult(4, 4, 0, 0, 0, 0, 3)),
        ([0, 3], 2, BurstResult(4, 2, 2, 2, 0, 0, 0)),
        ([0, 1, 1, 2, 3], 0, BurstResult(4, 5, 0, 0, 1, 0, 0)),
        ([0, 7, 2, -1], 0, BurstResult(4, 4, 0, 2, 0, 2, 0)),
    ],
    ids=["whole", "swapped", "late", "lost", "doubled", "merged"],
)
def test_burst_is_counted(marks: list[int], reported: int, expected: BurstResult) -> None:
    assert count_burst(4, marks, reported) == expected


@pytest.mark.parametrize(
    ("marks", "reported", "whole", "accounted"),
    [
        ([1, 0, 2], 0, True, True),
        ([0, 2], 1, False, True),
        ([0, 2], 0, False, False),
        ([0, 1, 2], 1, False, False),
        ([0, 1, 1, 2], 0, False, False),
        ([0, 1, 2, 9], 0, False, False),
    ],
)
def test_verdict(marks: list[int], reported: int, whole: bool, accounted: bool) -> None:
    counted = count_burst(3, marks, reported)
    assert (counted.whole, counted.accounted) == (whole, accounted)


def test_words() -> None:
    one, two = VALID | FIRST, VALID | FIRST + 1
    assert count_words(2, [one, two, VALID | LOOPBACK]).whole
    # The sum of two words: the VALID bits add up to LOOPBACK, and the values to a value.
    assert count_words(2, [one + two]) == count_burst(2, [-1])
    assert count_words(2, [two | 1 << 48]).accounted


def has_taken(reader: Reader, number: int) -> bool:
    """Return whether the reader has read that many times."""
    return len(reader.taken) == number


@pytest.mark.parametrize("threads", [1, 3])
def test_reader(threads: int) -> None:
    with EventFd() as eventfd, Reader(eventfd.fileno(), threads=threads) as reader:
        for number in range(1, 50):
            eventfd.write(number)
            reader.wait_until(partial(has_taken, reader, number))
        reader.wait_idle()
        reader.stop()
        eventfd.write(99)
        assert Counter(words(reader.taken)) == Counter(range(1, 50))
        assert eventfd.read() == 99


def test_reader_that_fails(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as unreadable:
        reader = Reader(unreadable.fileno())
        reader.__enter__()
        with pytest.raises(AssertionError, match="a reader has ended"):
            reader.wait_idle()
        with pytest.raises(OSError, match="Bad file descriptor"):
            reader.stop()


def test_task() -> None:
    go = threading.Event()
    task = Task(go.wait)
    with pytest.raises(AssertionError, match="still not done"):
        task.join(0.01)
    go.set()
    task.join()
    assert not task.running
    with pytest.raises(ValueError, match="invalid literal"):
        Task(lambda: int("x")).join()


def test_contexts() -> None:
    before = fdinfo.free_contexts()
    with EventFd(0x123) as eventfd:
        assert fdinfo.counter(eventfd) == 0x123
        double = os.dup(eventfd.fileno())
        assert fdinfo.free_contexts() != before
    # The eventfd is closed, but its context still exists.
    assert fdinfo.free_contexts() != before
    os.close(double)
    assert fdinfo.free_contexts() == before


def test_victim() -> None:
    def life(say: Say) -> None:
        say()
        signal.pause()

    with KillableChild(life) as killable_child:
        killable_child.wait()
        assert not select.select([killable_child.heard], [], [], 0)[0], "it is gone already"
        killable_child.kill()
        assert os.read(killable_child.heard, 1) == b"", "still has the pipe"


def test_victim_that_fails() -> None:
    def life(say: Say) -> None:
        raise OSError("no such index")

    with (
        KillableChild(life) as killable_child,
        pytest.raises(AssertionError, match="OSError: no such index"),
    ):
        killable_child.wait()
