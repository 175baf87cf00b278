# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""How many acpi_event messages are missing, told from their sequence numbers.

The kernel numbers the events of all devices with one counter. When a listener's buffer is full it
says so (ENOBUFS), but not how much was dropped: everything until the listener has emptied the
buffer, so that the gap stands behind what was still in it.

Events can be sent from several CPUs at once, so that numbers come late, and a gap alone proves
nothing. So only a gap that follows an overrun counts, and what comes late out of it is taken off.
The counter of an unpatched kernel is not atomic (the netlink series makes it so): numbers come
twice there, and the count can be off by how many did.
"""

from __future__ import annotations

HALF = 1 << 31
MASK = (1 << 32) - 1


class Gaps:
    """The account of one listener."""

    def __init__(self) -> None:
        self._highest: int | None = None
        self._overrun = False
        # The last gap that was reported: its first number and its length.
        self._reported = (0, 0)
        self._credit = 0

    def overrun(self) -> None:
        """The kernel has said that something was dropped."""
        self._overrun = True

    def take(self, sequence: int) -> int:
        """How many events were lost between those before and this one."""
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
        """It was reported as lost and is not, so the gap of the overrun is another one."""
        first, length = self._reported
        if (sequence - first) & MASK < length:
            self._credit += 1
            self._overrun = True
