# SPDX-License-Identifier: GPL-2.0-only
"""Time system calls: `Call` objects are performed by clock.c, without Python between them.

The host compiles clock.c into the suite's image (kpatch/vm/guest_image.py).
"""

from __future__ import annotations

import ctypes
import os
import select
import statistics
import time
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from ktests.call import Call
from ktests.libc import PollFd
from ktests.task import SECONDS, Task

LIBRARY = Path(__file__).parents[2] / "clock.so"

# How often to look for an event that a `Follower` has not received yet.
LOOK_SECONDS = 0.0002

# A thread that has received an event is asleep again after this time.
REST_NANOSECONDS = ctypes.c_uint64(50_000)

Trip = Sequence[Call]


class _Call(ctypes.Structure):
    """struct call of clock.c."""

    _fields_ = (
        ("fd", ctypes.c_int32),
        ("request", ctypes.c_uint32),
        ("memory", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
    )


def time_trips(trips: Sequence[Trip], rounds: int) -> list[list[int]]:
    """Perform the ``trips`` in turn, ``rounds`` times; each is a sequence of calls.

    Returns for each trip the nanoseconds that it took in each round. OSError if a call fails, or
    does not become readable in 20 s.
    """
    calls = _calls(trips)
    lengths = (ctypes.c_uint32 * len(trips))(*map(len, trips))
    times = (ctypes.c_uint64 * (len(trips) * rounds))()
    _check("time_trips", _library().time_trips(calls, lengths, len(trips), rounds, times))
    return [times[number :: len(trips)] for number in range(len(trips))]


class Follower:
    """A thread that receives ``events`` notifications, and keeps the time of each.

    Each of ``sources`` has the calls that receive one notification; the first of them has the
    descriptor to wait for. The thread starts at once, and ends after the last notification.
    """

    def __init__(self, sources: Sequence[Trip], events: int) -> None:
        self._stamps = (ctypes.c_uint64 * events)()
        self._cpu = (ctypes.c_uint64 * events)()
        self._sleeps = ctypes.c_uint64()
        self._sources = sources  # the thread uses the memory of their calls
        self._polled = (PollFd * len(sources))(
            *(PollFd(source[0].fd, select.POLLIN, 0) for source in sources)
        )
        self._calls = _calls(sources)
        first = [0, *accumulate(map(len, sources))]
        self._first = (ctypes.c_uint32 * len(first))(*first)
        self._task = Task(self._follow)

    def _follow(self) -> None:
        status = _library().follow(
            self._polled,
            self._calls,
            self._first,
            len(self._polled),
            len(self._stamps),
            self._stamps,
            self._cpu,
            ctypes.byref(self._sleeps),
        )
        _check("follow", status)

    def feed(self, cause: Call) -> None:
        """Perform ``cause`` once for each event, as soon as the thread waits for the next one.

        OSError if that fails, or an event is not received within 20 s.
        """
        calls = _calls([[cause]])
        status = _library().send_each(calls, len(self._stamps), self._stamps, REST_NANOSECONDS)
        _check("send_each", status)

    def wait(self, number: int) -> int:
        """Wait until event ``number``, from 0, is received; return its time in nanoseconds.

        AssertionError if that takes longer than `SECONDS`, or the thread has ended before.
        """
        end = time.monotonic() + SECONDS
        while not self._stamps[number]:
            assert self._task.running or self._stamps[number], "the follower has ended"
            assert time.monotonic() < end, f"event {number} does not come"
            time.sleep(LOOK_SECONDS)
        return self._stamps[number]

    def usage(self) -> tuple[int, int]:
        """Wait for the thread's end. Returns how often it slept, and its CPU time for an event.

        That is the median in nanoseconds: on a busy host, an emulated processor counts time for
        which it did not run. Raises OSError if one of its system calls failed.
        """
        self._task.join()
        return self._sleeps.value, statistics.median_low(self._cpu)


def _library() -> Any:
    return ctypes.CDLL(str(LIBRARY), use_errno=True)


def _calls(trips: Sequence[Trip]) -> Any:
    """Return an array of struct call. The memory of the calls has to live as long as the array."""
    calls = [
        _Call(it.fd, it.request, _address(it.memory), len(it.memory))
        for it in chain.from_iterable(trips)
    ]
    return (_Call * len(calls))(*calls)


def _address(memory: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _check(name: str, status: int) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
