# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Compute the number of lost acpi_event messages from their sequence numbers.

The kernel numbers the events of all devices with one counter. If a listener's buffer is full, recv
fails with ENOBUFS, which does not tell how many events were dropped. The kernel drops all events
until the listener has emptied the buffer. So the gap is after the events that were in the buffer.

Several CPUs can send events at the same time, so an event can arrive after one with a higher
number, and a gap alone does not prove a loss. Therefore only a gap after an overrun counts, and an
event that arrives late from inside the gap is subtracted. The counter of an unpatched kernel is not
atomic (the netlink series makes it atomic): two events can have the same number there, and the
count is off by the number of such pairs.
"""

from __future__ import annotations

HALF = 1 << 31
MASK = (1 << 32) - 1


class Gaps:
    """The sequence numbers that one listener has received."""

    def __init__(self) -> None:
        self._highest: int | None = None
        self._overrun = False
        # The last gap that was reported: its first number and its length.
        self._reported = (0, 0)
        self._credit = 0

    def overrun(self) -> None:
        """Record that the kernel reported an overrun (ENOBUFS)."""
        self._overrun = True

    def take(self, sequence: int) -> int:
        """Record an event with the number ``sequence``; return how many were lost before it."""
        if self._highest is None:
            self._highest = sequence
            return 0
        step = (sequence - self._highest) & MASK
        if not 0 < step < HALF:
            self._late(sequence)
            return 0
        first, self._highest = (self._highest + 1) & MASK, sequence
        if step == 1 or not self._overrun:
            return 0
        self._overrun = False
        self._reported = (first, step - 1)
        lost, self._credit = max(0, step - 1 - self._credit), 0
        return lost

    def _late(self, sequence: int) -> None:
        """Handle an event that arrives after one with a higher number.

        If it is in the last gap that was reported, it was counted as lost: the next count gets
        smaller by one. That gap then need not be the one of the overrun, so the next gap counts as
        a loss as well.
        """
        first, length = self._reported
        if (sequence - first) & MASK < length:
            self._credit += 1
            self._overrun = True
