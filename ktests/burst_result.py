# SPDX-License-Identifier: GPL-2.0-only
"""What became of a burst of notifications, counted."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Tally:
    """All in notifications.

    ``reported``   lost by the mechanism's own account
    ``missing``    sent, and never received
    ``doubled``    received once more than sent
    ``merged``     received, and never sent: several in one, or something else altogether
    ``reordered``  received after one that was sent later
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
        """Each was received, once and as it was."""
        return not (self.reported or self.missing or self.doubled or self.merged)

    @property
    def accounted(self) -> bool:
        """Each was received once and as it was, or reported as lost."""
        return self.missing == self.reported and not (self.doubled or self.merged)

    def record(self, measure: Callable[[str, float | str], None]) -> None:
        """Put the figures into the test's result."""
        for name, value in asdict(self).items():
            measure(name, value)


def burst_result(sent: int, marks: Sequence[int], reported: int = 0) -> Tally:
    """Count. The notifications are numbered from 0 as they are sent; ``marks`` are the received."""
    known = [mark for mark in marks if 0 <= mark < sent]
    different = len(set(known))
    return Tally(
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
