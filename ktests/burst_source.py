# SPDX-License-Identifier: GPL-2.0-only
"""The interface of burst sources, `Intake`.

A burst source sends one burst of notifications, each of which can be told from the others, and
counts what became of them. A `Reader` reads the burst. What it has read is evaluated only after the
burst, and not by the decoders of uapi: they would be slower than any reader. Each mechanism's
record opens a burst source of its own kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from ktests.burst_result import Tally
from ktests.reader import Reader
from uapi.closing import Closing

# The first value of a burst whose values differ.
FIRST = 0x100
# The number of what was received and is no notification of the burst: `ktests.burst_result`.
NOT_SENT = -1


class Intake(Closing, ABC):
    """What the intakes of all mechanisms have in common; a context manager."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor that a reader reads."""

    @abstractmethod
    def send(self, count: int) -> None:
        """Send a burst, the only one; it may not have been handled when this returns."""

    @abstractmethod
    def finish(self, reader: Reader) -> Tally:
        """Wait until all of the burst was handled and read, and count; ends the reader."""
