# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""An eventfd(2): a counter of 64 bits behind a descriptor that can be polled."""

from __future__ import annotations

import math
import os
import select
import sys

from uapi.closing import Closing

SIZE = 8
# What a counter can hold; one more is what write(2) refuses (fs/eventfd.c).
MAX = 0xFFFF_FFFF_FFFF_FFFE


class EventFd(Closing):
    """A new eventfd, closed at the end of the ``with`` block.

    ``initial`` has 32 bits. With ``semaphore`` each read gives 1. Unless ``nonblocking``, a read
    of a counter that is 0 waits.
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
        """The descriptor; ValueError if it is closed."""
        if self._fd < 0:
            raise ValueError("the eventfd is closed")
        return self._fd

    def close(self) -> None:
        """Close the descriptor; a second time does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def write(self, n: int) -> None:
        """Add ``n``, at most `MAX`. BlockingIOError if the sum would be more than that."""
        os.write(self.fileno(), n.to_bytes(SIZE, sys.byteorder))

    def read(self) -> int | None:
        """The counter, which becomes 0; None if it was 0 (EAGAIN)."""
        try:
            return int.from_bytes(os.read(self.fileno(), SIZE), sys.byteorder)
        except BlockingIOError:
            return None

    def wait(self, seconds: float | None) -> bool:
        """Whether the counter is, or within ``seconds`` becomes, other than 0; None: wait on."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        # Up, not down: the last part of a millisecond is no reason to spin.
        ready = poll.poll(None if seconds is None else math.ceil(max(0.0, seconds) * 1000))
        return any(events & select.POLLIN for _, events in ready)
