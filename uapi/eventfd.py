# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""An eventfd(2): a 64-bit counter with a descriptor that can be polled."""

from __future__ import annotations

import os
import select
import sys

from .polling import Pollable

SIZE = 8
# The largest value of the counter; write(2) refuses a larger number with EINVAL (fs/eventfd.c).
MAX = 0xFFFF_FFFF_FFFF_FFFE


class EventFd(Pollable):
    """A new eventfd, closed at the end of the ``with`` block.

    It is readable if its counter is not 0. ``initial`` is the initial value of the counter, 32
    bits. With ``semaphore`` (EFD_SEMAPHORE) each read subtracts 1 from the counter and returns 1.
    Without ``nonblocking``, a read waits while the counter is 0, and a write while the sum would be
    too large. `close` wakes up a thread that reads, but not one that writes.
    """

    what = "eventfd"

    def __init__(
        self, initial: int = 0, *, semaphore: bool = False, nonblocking: bool = True
    ) -> None:
        flags = os.EFD_CLOEXEC
        flags |= os.EFD_SEMAPHORE if semaphore else 0
        flags |= os.EFD_NONBLOCK if nonblocking else 0
        super().__init__(os.eventfd(initial, flags))
        self._nonblocking = nonblocking

    def write(self, n: int) -> None:
        """Add ``n`` to the counter.

        Raises BlockingIOError if the sum would exceed `MAX`; a blocking eventfd waits instead.
        """
        os.write(self.fileno(), n.to_bytes(SIZE, sys.byteorder))

    def read(self) -> int | None:
        """Return the counter and reset it to 0. Returns None if it is 0 (EAGAIN).

        A blocking eventfd and a semaphore differ; see `EventFd`. With a blocking one, None means
        that another thread has called `close`.
        """
        fd = self.fileno()
        word = bytearray(SIZE)
        while True:
            try:
                # read(2) of a blocking eventfd would wait, and close(2) does not wake it up. Linux
                # has RWF_NOWAIT for an eventfd since v5.8; the offset -1 is that of read(2).
                os.preadv(fd, [word], -1, 0 if self._nonblocking else os.RWF_NOWAIT)
            except BlockingIOError:
                if self._nonblocking or not self.waiters.wait(fd, select.POLLIN, None):
                    return None
            else:
                return int.from_bytes(word, sys.byteorder)
