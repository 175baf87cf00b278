# SPDX-License-Identifier: GPL-2.0-only
"""The record of a review, and its JSON form."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from kpatch.lib.stage import StageRecord
from kpatch.model import Check
from kpatch.report.result import ErrorInfo, KernelInfo
from kpatch.tables.outcomes import CheckOutcome, ExitCode

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class PatchInfo:
    """A patch of the series: its number, title, author, and the Message-ID of its mail ("")."""

    number: int
    subject: str
    author: str
    message_id: str = ""


@dataclass(frozen=True)
class Review:
    """The result of a review: the results of all checks of a series.

    ``subject`` and ``message_id`` are those of the mail that begins the thread; ``version`` is 2
    for [PATCH v2 …]. ``base`` says how the base was chosen. ``started`` is UTC in ISO 8601,
    ``seconds`` the duration. ``tools`` maps names to versions. ``error`` ended the review early.
    """

    exit_code: ExitCode
    name: str
    subject: str
    message_id: str
    version: int
    patches: tuple[PatchInfo, ...]
    started: str
    seconds: float
    kernel: KernelInfo | None = None
    base: str = ""
    flavor: str = ""
    config_id: str = ""
    confinement: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    command: str = ""
    error: ErrorInfo | None = None

    def count(self, outcome: CheckOutcome) -> int:
        """Return the number of checks with this outcome."""
        return Counter(check.outcome for check in self.checks)[outcome]


def dump(review: Review) -> str:
    """Return the review as JSON text, keys in the order of the dataclass."""
    data = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(review)}
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
