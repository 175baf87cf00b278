# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""An eventfd(2): a 64-bit counter with a descriptor that can be polled."""

from __future__ import annotations

import os
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
    too large.
    """

    what = "eventfd"

    def __init__(
        self, initial: int = 0, *, semaphore: bool = False, nonblocking: bool = True
    ) -> None:
        flags = os.EFD_CLOEXEC
        flags |= os.EFD_SEMAPHORE if semaphore else 0
        flags |= os.EFD_NONBLOCK if nonblocking else 0
        super().__init__(os.eventfd(initial, flags))

    def write(self, n: int) -> None:
        """Add ``n`` to the counter.

        Raises BlockingIOError if the sum would exceed `MAX`; a blocking eventfd waits instead.
        """
        os.write(self.fileno(), n.to_bytes(SIZE, sys.byteorder))

    def read(self) -> int | None:
        """Return the counter and reset it to 0. Returns None if it is 0 (EAGAIN).

        A blocking eventfd and a semaphore differ; see `EventFd`.
        """
        try:
            return int.from_bytes(os.read(self.fileno(), SIZE), sys.byteorder)
        except BlockingIOError:
            return None
