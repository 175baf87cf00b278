# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The broker's end of the socket from which one VMM reads the notifications of one device.

The memory that it takes is bounded by `KEPT` and by the smallest send buffer of a socket. If the
VMM does not read, the oldest event that is not in the socket yet is dropped, never the newest. The
numbers of the events, which are the kernel's, tell the VMM what is missing.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque

from ..acpi_event import Notify
from ..closing import Closing
from ..eventq import EVENT

# The number of events that wait for a VMM: as many as the kernel's queue keeps by default.
KEPT = 256


class Outlet(Closing):
    """A socket for the VMM, ``theirs``, and the broker's end of it.

    ``theirs`` cannot send. It is to be closed here when the VMM has it.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._here, self.theirs = socket.socketpair(socket.AF_UNIX, kind)
        # The kernel takes its minimum instead of 0.
        self._here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
        self.theirs.shutdown(socket.SHUT_WR)
        self._waiting: deque[bytes] = deque(maxlen=KEPT)

    def fileno(self) -> int:
        """Return the descriptor of the broker's end."""
        return self._here.fileno()

    @property
    def waiting(self) -> int:
        """The number of events that are not in the socket yet."""
        return len(self._waiting)

    @property
    def gone(self) -> bool:
        """Whether the VMM has closed its end, or has died."""
        poll = select.poll()
        poll.register(self._here, 0)
        return bool(poll.poll(0))

    def put(self, notify: Notify) -> None:
        """Send a notification, or let it wait."""
        self._waiting.append(EVENT.pack(0, notify.sequence, notify.value, 0))
        self.flush()

    def flush(self) -> None:
        """Send the waiting events that the socket has room for. Does not block."""
        # The socket is full, or there is no memory: the events wait. Or the VMM is gone: poll(2)
        # tells that too, and the broker closes this.
        with contextlib.suppress(OSError):
            while self._waiting:
                self._here.send(self._waiting[0], socket.MSG_NOSIGNAL)
                self._waiting.popleft()

    def close(self) -> None:
        """Close both ends. The VMM still reads what is in the socket, then its end."""
        self._here.close()
        self.theirs.close()
