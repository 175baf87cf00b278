# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The VMM's end of a slot's ring in the guest's memory (`uapi.vmm.guest_table.Access.RING`)."""

from __future__ import annotations

import struct
from typing import Protocol

from .guest_table import RING_FIRST, RING_WORDS
from .mailbox import EMPTY, Mailbox
from .relay import Deliver, Resynchronise

HEAD, TAIL = 0, 4
_NUMBER = struct.Struct("<I")
_WORD = struct.Struct("<Q")
_MASK = 0xFFFF_FFFF


class Memory(Protocol):
    """The guest's physical memory."""

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` at ``address``."""

    def read32(self, address: int) -> int:
        """Return the little-endian number of 32 bits at ``address``."""


class Ring:
    """The ring of ``slot`` at ``address``, and the mailbox of what has no room in it.

    Words that an earlier `Ring` has written stay. The guest can write anything to its memory; only
    the tail is read again after that, and a guest that writes a wrong one harms only itself.
    """

    def __init__(self, memory: Memory, address: int, slot: int) -> None:
        self._memory = memory
        self._address = address
        self._slot = slot
        self._mailbox = Mailbox()
        self._next = EMPTY  # popped from the mailbox, not written yet
        self._head = memory.read32(address + HEAD)
        self._taken = memory.read32(address + TAIL)
        if self._waiting > RING_WORDS:
            self._restart()

    @property
    def pending(self) -> bool:
        """Whether words wait for room in the ring."""
        return self._next != EMPTY

    @property
    def room(self) -> int:
        """A number of words that can be put; at least 1, which is kept if the ring is full."""
        return max(1, RING_WORDS - self._waiting)

    def put(self, action: Deliver | Resynchronise) -> None:
        """Keep ``action`` for the guest; `fill` hands it over. Never blocks."""
        self._mailbox.put(action)
        self._fetch()

    def fill(self) -> int:
        """Write waiting words into the ring, as many as have room, and return their number.

        If the guest's tail does not belong to the ring, the guest has started again and cleared its
        memory: what it had not taken counts as lost. Raises the errors of the memory.
        """
        if not self.pending:
            return 0
        unseen = self._waiting
        self._taken = self._memory.read32(self._address + TAIL)
        if self._waiting > RING_WORDS:
            self._mailbox.put(Resynchronise(self._slot, unseen, None))
            self._restart()
        written = 0
        while self.pending and self._waiting < RING_WORDS:
            place = self._head % RING_WORDS * _WORD.size
            self._memory.write(self._address + RING_FIRST + place, _WORD.pack(self._next))
            self._head = self._head + 1 & _MASK
            self._next = EMPTY
            self._fetch()
            written += 1
        if written:
            self._write_head()
        return written

    @property
    def _waiting(self) -> int:
        return self._head - self._taken & _MASK

    def _fetch(self) -> None:
        if not self.pending:
            self._next = self._mailbox.pop()

    def _restart(self) -> None:
        self._head = self._taken
        self._write_head()

    def _write_head(self) -> None:
        self._memory.write(self._address + HEAD, _NUMBER.pack(self._head))
