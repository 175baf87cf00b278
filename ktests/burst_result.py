# SPDX-License-Identifier: GPL-2.0-only
"""Count how many notifications of a burst arrived, were lost, doubled, merged or reordered."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class BurstResult:
    """The counts of one burst. Each is a number of notifications.

    ``sent``       sent by firmware
    ``received``   received messages, without those that only mark begin or end of the burst
    ``reported``   reported as lost by the mechanism
    ``missing``    sent, but never received
    ``doubled``    received again after the first time
    ``merged``     received, but never sent: several notifications in one, or any other message
    ``reordered``  received after a notification that was sent later
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
        """Add the counts to the test's result with the fixture ``measure``."""
        for name, value in asdict(self).items():
            measure(name, value)


def count_burst(sent: int, marks: Sequence[int], reported: int = 0) -> BurstResult:
    """Return the counts of a burst of ``sent`` notifications, numbered from 0 in sending order.

    ``marks`` are the numbers of the received notifications in receiving order. A number outside of
    the burst, as `NOT_SENT`, stands for any other message. ``reported`` is the number of
    notifications that the mechanism reported as lost.
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
