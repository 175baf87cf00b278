# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A base class for objects that have a file descriptor and wait for it with poll(2)."""

from __future__ import annotations

import os
import select
import time
from abc import abstractmethod
from typing import ClassVar

from .closing import Closing
from .errors import ClosedError
from .waiting import Waiters


class Pollable(Closing):
    """An object with one descriptor, ``fd``, closed at the end of the ``with`` block.

    ``wakes`` are the poll(2) events that end a `wait`. ``waiters`` are those who wait.
    """

    wakes: ClassVar[int] = select.POLLIN

    def __init__(self, fd: int) -> None:
        self._fd = fd  # -1 after `close`
        self.waiters = Waiters()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'closed' if self._fd < 0 else self._fd})"

    @property
    @abstractmethod
    def what(self) -> str:
        """The noun for the object in error messages, for instance "eventfd"."""

    def fileno(self) -> int:
        """Return the descriptor. Raises ClosedError after `close`."""
        if self._fd < 0:
            raise ClosedError(f"the {self.what} is closed")
        return self._fd

    def close(self) -> None:
        """Close the descriptor; threads and tasks that wait for it return.

        A second call does nothing.
        """
        fd, self._fd = self._fd, -1
        self.waiters.close()
        if fd >= 0:
            os.close(fd)

    def wait(self, seconds: float | None) -> bool:
        """Wait until one of the events `wakes` occurs, and return True.

        Returns False if none occurs within ``seconds`` (None: no limit), and if another thread
        calls `close`. Raises ClosedError if it is closed already.
        """
        return self.waiters.wait(self.fileno(), self.wakes, seconds)

    def wakes_up(self, seconds: float) -> bool:
        """Wait as `wait` does, but return False if the kernel does not wake up this thread.

        A test can find a missing wakeup with it, but not with `wait`: when its time is up, poll(2)
        looks at the descriptor once more (do_poll() in fs/select.c), so `wait` then returns True.
        """
        end = time.monotonic() + seconds
        return self.wait(seconds) and time.monotonic() < end
