# SPDX-License-Identifier: GPL-2.0-only
"""The interface of burst sources.

A burst source sends one burst of distinguishable notifications to a VMM, and counts those that
arrived, were lost, doubled, merged or reordered. A `Reader` reads the VMM's descriptor during the
burst. Its messages are decoded only after the burst, since decoding would slow the reader down.
Each mechanism has its own burst source (`Mechanism.burst_source`).
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

from ktests.burst_result import BurstResult
from ktests.reader import READ_SIZE, Reader
from uapi.closing import Closing

# The first value of a burst in which each notification has another value.
FIRST = 0x100
# Stands in ``marks`` of `count_burst` for a message that is no notification of the burst.
NOT_SENT = -1


class BurstSource(Closing, ABC):
    """The interface of a burst source. A context manager, which closes the VMM at its end."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor that a `Reader` has to read."""

    def receive(self) -> bytes:
        """Receive what there is, for `Reader`: by default one read(2) of the descriptor.

        Raises BlockingIOError if there is nothing.
        """
        return os.read(self.fileno(), READ_SIZE)

    @abstractmethod
    def send(self, count: int) -> None:
        """Send a burst of ``count`` notifications. May be called once.

        Returns when the AML has run; Notify handlers may run later.
        """

    @abstractmethod
    def finish(self, reader: Reader) -> BurstResult:
        """Wait until ``reader`` has read the whole burst, then stop it. Returns the counts.

        Waits first until the Notify handlers of all notifications have run. AssertionError if the
        reader takes longer than `task.SECONDS`.
        """
