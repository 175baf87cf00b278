# SPDX-License-Identifier: GPL-2.0-only
"""Threads that read a descriptor while notifications arrive, and keep the bytes."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Self

from ktests.task import SECONDS, Task

READ_SIZE = 1 << 12
# The longest time that a thread waits for data before it checks whether it has to stop, by default.
LOOK_SECONDS = 0.005


class Reader:
    """Threads that read the descriptor ``file``, which becomes non-blocking. A context manager.

    ``threads`` is the number of threads. Each reads as fast as it can, or pauses for ``pause``
    seconds after each read(2). ``receive`` is called instead of read(2), if given; it raises
    BlockingIOError if there is nothing. A thread waits at most ``look`` seconds for data before it
    checks whether it has to stop. The threads run on the CPUs ``cpus``, or on any CPU if
    ``cpus`` is empty. They start at the begin of the ``with`` block, and end at its end or at
    `stop`. `taken` collects the bytes of each read(2), and None for each read(2) that fails with
    ENOBUFS. With several threads, the order of its items is only roughly that of the read(2) calls.
    """

    def __init__(
        self,
        file: int,
        *,
        threads: int = 1,
        cpus: Collection[int] = (),
        pause: float = 0.0,
        receive: Callable[[], bytes] | None = None,
        look: float = LOOK_SECONDS,
    ) -> None:
        self.taken: list[bytes | None] = []
        self._file = file
        self._cpus = cpus
        self._pause = pause
        self._look = look
        self._receive = receive or partial(os.read, file, READ_SIZE)
        self._stop = threading.Event()
        self._idle = [0] * threads
        self._tasks: list[Task] = []
        os.set_blocking(file, False)

    def __enter__(self) -> Self:
        for number in range(len(self._idle)):
            self._tasks.append(Task(partial(self._read, number)))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the threads and wait for them. After that `taken` does not change any more.

        Raises the exception of a thread that failed; AssertionError if a thread does not end
        within `SECONDS`.
        """
        self._stop.set()
        while self._tasks:
            self._tasks.pop().join()

    def wait_idle(self) -> None:
        """Wait until each thread has tried to read after the begin of this call and found nothing.

        AssertionError if that takes longer than `SECONDS`, or if a thread has ended.
        """
        before = list(self._idle)
        self.wait_until(
            # Each thread has to find nothing twice: the first try may have begun before this call.
            lambda: all(now > then + 1 for now, then in zip(self._idle, before, strict=True))
        )

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Wait until ``done`` returns True.

        AssertionError if that takes longer than `SECONDS`, or if a thread has ended.
        """
        end = time.monotonic() + SECONDS
        while not done():
            assert all(task.running for task in self._tasks), "a reader has ended"
            assert time.monotonic() < end, f"not read within {SECONDS:g} s"
            time.sleep(self._look / 4)

    def _read(self, number: int) -> None:
        if self._cpus:
            os.sched_setaffinity(0, self._cpus)
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        while not self._stop.is_set():
            try:
                self.taken.append(self._receive())
            except BlockingIOError:
                if not poll.poll(self._look * 1000):
                    self._idle[number] += 1
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.taken.append(None)
            else:
                # Simulates a slow reader.
                if self._pause:
                    time.sleep(self._pause)
