# SPDX-License-Identifier: GPL-2.0-only
"""The interface of burst sources.

A burst source sends one burst of distinguishable notifications, and counts how many arrived, were
lost, doubled or reordered. A `Reader` reads the burst. The source evaluates what the reader has
read only after the burst, and without the decoders of uapi, which would slow the reader down. Each
mechanism's record opens its own kind of burst source.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from ktests.burst_result import BurstResult
from ktests.reader import Reader
from uapi.closing import Closing

# The first value of a burst whose values differ.
FIRST = 0x100
# The number, in `ktests.burst_result`, of a received message that is no notification of the burst.
NOT_SENT = -1


class BurstSource(Closing, ABC):
    """The interface of a burst source. A context manager."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor that a `Reader` has to read."""

    @abstractmethod
    def send(self, count: int) -> None:
        """Send a burst of ``count`` notifications. May be called once.

        Returns when firmware has sent the burst; handlers may run later.
        """

    @abstractmethod
    def finish(self, reader: Reader) -> BurstResult:
        """Wait until the burst is handled and read, then stop the reader. Returns the counts."""
