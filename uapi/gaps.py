# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Compute the number of lost acpi_event messages from their sequence numbers.

The kernel numbers the events of all devices with one counter. If the receive buffer of a listener's
socket is full (an overrun), the kernel drops all events until the listener has emptied the buffer.
The next recv(2) fails with ENOBUFS, which does not tell how many events were dropped. After it the
listener receives the events in the buffer; the gap in the sequence numbers follows these.

Several CPUs can send events at the same time, so an event can arrive after one with a higher
number, and a gap alone does not prove a loss. Therefore only a gap after an overrun counts, and an
event that arrives late from inside the gap is subtracted. The counter of an unpatched kernel is not
atomic (the netlink series makes it atomic), so two events can have the same number. Each such pair
among the dropped events makes the computed number too small by one.
"""

from __future__ import annotations

HALF = 1 << 31
MASK = (1 << 32) - 1


class Gaps:
    """Computes how many events one listener lost, from the sequence numbers that it received."""

    def __init__(self) -> None:
        self._highest: int | None = None
        self._overrun = False
        # The last gap that was reported: its first number and its length.
        self._reported = (0, 0)
        # The number of events in reported gaps that arrived late; the next count is reduced by it.
        self._credit = 0

    def overrun(self) -> None:
        """Record that the kernel reported an overrun (ENOBUFS)."""
        self._overrun = True

    def take(self, sequence: int) -> int:
        """Record an event with the number ``sequence``; return how many were lost just before it.

        Returns 0 for a gap that no overrun explains.
        """
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
        """Record an event that arrives after one with a higher or the same number.

        If its number is in the last reported gap, it was counted as lost, so the next count is
        reduced by one. The overrun then need not have caused that gap, so the next gap counts as a
        loss too.
        """
        first, length = self._reported
        if (sequence - first) & MASK < length:
            self._credit += 1
            self._overrun = True
