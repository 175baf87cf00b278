# SPDX-License-Identifier: GPL-2.0-only
"""Count the notifications of a burst that arrived, were lost, doubled, merged or reordered."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class BurstResult:
    """The counts of one burst.

    ``sent``       notifications that firmware has sent
    ``received``   messages, without those that only mark the begin or the end of the burst
    ``reported``   notifications that the mechanism has reported as lost
    ``missing``    notifications that were sent, but never received
    ``doubled``    messages that repeat a notification that was received before
    ``merged``     messages that are no notification of the burst, such as two added into one
    ``reordered``  messages that were received after a notification that was sent later
    """

    sent: int
    received: int
    reported: int
    missing: int
    doubled: int
    merged: int
    reordered: int

    @property
    def whole(self) -> bool:
        """True if each notification was received exactly once and unchanged."""
        return not (self.reported or self.missing or self.doubled or self.merged)

    @property
    def accounted(self) -> bool:
        """True if each notification was received once and unchanged, or was reported as lost."""
        return self.missing == self.reported and not (self.doubled or self.merged)

    def record(self, measure: Callable[[str, float | str], None]) -> None:
        """Add each count to the test's result. ``measure`` is the fixture of that name."""
        for name, value in asdict(self).items():
            measure(name, value)


def count_burst(sent: int, marks: Sequence[int], reported: int = 0) -> BurstResult:
    """Return the counts of a burst of ``sent`` notifications, numbered from 0 in sending order.

    ``marks`` are the numbers of the received notifications in receiving order. A number outside of
    the burst (`burst_source.NOT_SENT`) stands for a message that is no notification of the burst.
    ``reported`` is the number of notifications that the mechanism reported as lost.
    """
    known = [mark for mark in marks if 0 <= mark < sent]
    different = len(set(known))
    return BurstResult(
        sent=sent,
        received=len(marks),
        reported=reported,
        missing=sent - different,
        doubled=len(known) - different,
        merged=len(marks) - len(known),
        reordered=_reordered(known),
    )


def _reordered(marks: Sequence[int]) -> int:
    return sum(map(operator.lt, marks[1:], itertools.accumulate(marks, max)))
