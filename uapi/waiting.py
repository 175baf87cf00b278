# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Wait for a descriptor until it is ready or its object is closed.

close(2) does not wake up a poll(2) of the same descriptor, so an object has to know who waits.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
from collections.abc import Callable, Iterator


class Waiters:
    """The threads and the asyncio tasks that wait for the descriptor of one object.

    ``closed`` is whether `close` was called.
    """

    def __init__(self) -> None:
        self.closed = False
        self._lock = threading.Lock()
        self._wakes: list[Callable[[], object]] = []

    def close(self) -> None:
        """Wake up all who wait. To be called before the descriptor is closed."""
        with self._lock:
            self.closed = True
            for wake in self._wakes:
                wake()

    @contextlib.contextmanager
    def woken_by(self, wake: Callable[[], object]) -> Iterator[None]:
        """Have `close` call ``wake``, from any thread, within the ``with`` block."""
        with self._lock:
            self._wakes.append(wake)
            if self.closed:
                wake()
        try:
            yield
        finally:
            with self._lock:
                self._wakes.remove(wake)

    def wait(self, fd: int, events: int, seconds: float | None) -> bool:
        """Wait until ``fd`` has one of the ``events``, and return True.

        Returns False if none occurs within ``seconds`` (None: no limit), or after `close`.
        """
        poll = select.poll()
        poll.register(fd, events)
        # Round up: rounding down to 0 ms would make callers poll in a busy loop.
        limit = None if seconds is None else math.ceil(max(0.0, seconds) * 1000)
        ready = poll.poll(0)
        if not ready and limit != 0:
            closing = os.eventfd(0, os.EFD_CLOEXEC)
            try:
                poll.register(closing, select.POLLIN)
                with self.woken_by(lambda: os.eventfd_write(closing, 1)):
                    ready = poll.poll(limit)
            finally:
                os.close(closing)
        return not self.closed and any(number == fd and got & events for number, got in ready)
