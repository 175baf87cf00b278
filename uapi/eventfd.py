# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""An eventfd(2): a 64-bit counter with a descriptor that can be polled."""

from __future__ import annotations

import math
import os
import select
import sys
import time

from uapi.closing import Closing

SIZE = 8
# The largest value of the counter; write(2) refuses a larger number with EINVAL (fs/eventfd.c).
MAX = 0xFFFF_FFFF_FFFF_FFFE


class EventFd(Closing):
    """A new eventfd, closed at the end of the ``with`` block.

    ``initial`` is the initial count, 32 bits. With ``semaphore`` (EFD_SEMAPHORE) each read returns
    1. If the counter is 0, a read blocks unless ``nonblocking`` is set.
    """

    def __init__(
        self, initial: int = 0, *, semaphore: bool = False, nonblocking: bool = True
    ) -> None:
        flags = os.EFD_CLOEXEC
        flags |= os.EFD_SEMAPHORE if semaphore else 0
        flags |= os.EFD_NONBLOCK if nonblocking else 0
        self._fd = os.eventfd(initial, flags)

    def __repr__(self) -> str:
        return f"EventFd({'closed' if self._fd < 0 else self._fd})"

    def fileno(self) -> int:
        """Return the descriptor. Raises ValueError if it is closed."""
        if self._fd < 0:
            raise ValueError("the eventfd is closed")
        return self._fd

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def write(self, n: int) -> None:
        """Add ``n`` to the counter. Raises BlockingIOError if the sum would exceed `MAX`."""
        os.write(self.fileno(), n.to_bytes(SIZE, sys.byteorder))

    def read(self) -> int | None:
        """Return the counter and reset it to 0. Returns None if it is 0 (EAGAIN)."""
        try:
            return int.from_bytes(os.read(self.fileno(), SIZE), sys.byteorder)
        except BlockingIOError:
            return None

    def wait(self, seconds: float | None) -> bool:
        """Wait until the counter is not 0. Returns False after ``seconds``; None waits for ever."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        # Round up: rounding down to 0 ms would make callers poll in a busy loop.
        ready = poll.poll(None if seconds is None else math.ceil(max(0.0, seconds) * 1000))
        return any(events & select.POLLIN for _, events in ready)

    def wakes_up(self, seconds: float) -> bool:
        """Wait as `wait` does. Returns False also if the kernel does not wake up this thread.

        poll(2) looks at the counter once more when its time is up (do_poll() in fs/select.c).
        Therefore `wait` returns True after ``seconds`` if the counter is not 0 and nobody was woken
        up.
        """
        end = time.monotonic() + seconds
        return self.wait(seconds) and time.monotonic() < end
