# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A base class for objects that have a file descriptor and wait for it with poll(2)."""

from __future__ import annotations

import math
import os
import select
import time
from abc import abstractmethod
from typing import ClassVar

from .closing import Closing


class Pollable(Closing):
    """An object with one descriptor, ``_fd``, closed at the end of the ``with`` block.

    ``_fd`` is -1 after `close`. ``wakes`` are the poll(2) events that end a `wait`.
    """

    wakes: ClassVar[int] = select.POLLIN
    _fd: int

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'closed' if self._fd < 0 else self._fd})"

    @property
    @abstractmethod
    def what(self) -> str:
        """The noun for the object in error messages, for instance "eventfd"."""

    def fileno(self) -> int:
        """Return the descriptor. Raises ValueError after `close`."""
        if self._fd < 0:
            raise ValueError(f"the {self.what} is closed")
        return self._fd

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def wait(self, seconds: float | None) -> bool:
        """Wait until one of the events `wakes` occurs, and return True.

        Returns False if none occurs within ``seconds`` (None: no limit).
        """
        poll = select.poll()
        poll.register(self.fileno(), self.wakes)
        # Round up: rounding down to 0 ms would make callers poll in a busy loop.
        ready = poll.poll(None if seconds is None else math.ceil(max(0.0, seconds) * 1000))
        return any(events & self.wakes for _, events in ready)

    def wakes_up(self, seconds: float) -> bool:
        """Wait as `wait` does, but return False if the kernel does not wake up this thread.

        A test can find a missing wakeup with it, but not with `wait`: when its time is up, poll(2)
        looks at the descriptor once more (do_poll() in fs/select.c), so `wait` then returns True.
        """
        end = time.monotonic() + seconds
        return self.wait(seconds) and time.monotonic() < end
