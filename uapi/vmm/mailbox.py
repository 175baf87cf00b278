# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The mailbox of a slot: the notifications that the guest has not fetched. No I/O.

The guest pops a word of 64 bits. It has the layout of the eventfd's word (`uapi.notification`),
without LOOPBACK::

    bits
     0-31  value
     32    VALID: the word has a value, which may be 0
     48-63 number of notifications lost just before this value; 0xffff means that many or more

0 means that the mailbox is empty. A loss without a later value is a word without VALID.
"""

from __future__ import annotations

from collections import deque

from ..notification import LOST_MAX, LOST_SHIFT, Notification, encode
from .relay import Deliver, Resynchronise

DEPTH = 256
EMPTY = 0


class Mailbox:
    """The words of one slot, at most ``depth``. If it is full, the oldest value is lost.

    The newest value is kept because a driver that was slow needs the latest power level, not the
    first one. ValueError if ``depth`` is not positive.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        if depth < 1:
            raise ValueError(f"mailbox: depth {depth} is not positive")
        self._depth = depth
        # Pairs (lost before this value, value).
        self._entries: deque[tuple[int, int]] = deque()
        self._lost = 0  # after the last entry

    def put(self, action: Deliver | Resynchronise) -> None:
        """Keep ``action`` for the guest. Never blocks.

        The value of a `Resynchronise` is not stored: the guest's table has it.
        """
        if isinstance(action, Resynchronise):
            self._lost += action.lost
            return
        self._entries.append((self._lost, action.value))
        self._lost = 0
        if len(self._entries) > self._depth:
            lost, _ = self._entries.popleft()
            before, value = self._entries.popleft()
            self._entries.appendleft((before + lost + 1, value))

    def pop(self) -> int:
        """Return the oldest word and remove it; `EMPTY` if there is none."""
        if self._entries:
            lost, value = self._entries.popleft()
            return encode(Notification(value, lost=min(lost, LOST_MAX)))
        lost, self._lost = self._lost, 0
        return min(lost, LOST_MAX) << LOST_SHIFT
