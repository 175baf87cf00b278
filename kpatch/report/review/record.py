# SPDX-License-Identifier: GPL-2.0-only
"""The record of a review, and its JSON form (review.schema.json has every field)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kpatch.lib.stage import StageRecord
from kpatch.model import Check, Finding
from kpatch.report import result
from kpatch.report.result import KernelInfo
from kpatch.tables.outcomes import JUDGED, CheckOutcome, ExitCode

SCHEMA_VERSION = 1
SCHEMA = Path(__file__).with_name("review.schema.json")


@dataclass(frozen=True)
class PatchInfo:
    """A patch of the series; ``number`` counts from 1.

    ``subject`` is the title without tags, ``author`` is "name <address>". ``message_id`` is the
    Message-ID of its mail, "" if it has none. ``sha256`` is the SHA-256 of its diff in hexadecimal
    digits, "" if unknown.
    """

    number: int
    subject: str
    author: str
    message_id: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Review:
    """The result of a review: the results of all checks of a series.

    ``name`` is the name of the series. ``subject`` and ``message_id`` are those of the mail that
    begins the thread; ``version`` is 2 for [PATCH v2 …]. ``kernel`` is the tree, ``base`` says how
    it was chosen. ``started`` is UTC in ISO 8601, ``seconds`` the duration. ``tools`` maps names of
    programs to versions. ``config_id`` is the id of the config of the series' kernel in ``flavor``,
    "" if none was made. ``command`` is a shell line that repeats the review. ``fail_on`` is the
    mildest outcome of a check that makes the review fail.
    """

    exit_code: ExitCode
    name: str
    subject: str
    message_id: str
    version: int
    patches: tuple[PatchInfo, ...]
    started: str
    seconds: float
    fail_on: CheckOutcome = CheckOutcome.FAIL
    kernel: KernelInfo | None = None
    base: str = ""
    flavor: str = ""
    config_id: str = ""
    confinement: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    command: str = ""

    @property
    def title(self) -> str:
        """The subject of the thread; the name of the series if there is no subject."""
        return self.subject or self.name

    @property
    def judged(self) -> tuple[Check, ...]:
        """The checks that have judged the series, in order."""
        return tuple(check for check in self.checks if check.outcome in JUDGED)

    @property
    def findings(self) -> tuple[tuple[Check, Finding], ...]:
        """Every finding and its check, the worst first, then in the order of the checks."""
        pairs = [(check, found) for check in self.checks for found in check.findings]
        return tuple(sorted(pairs, key=lambda pair: -JUDGED.index(pair[1].outcome)))

    def ended(self, outcome: CheckOutcome) -> tuple[Check, ...]:
        """Return the checks whose outcome is ``outcome``, in order."""
        return tuple(check for check in self.checks if check.outcome is outcome)

    def counts(self, outcome: CheckOutcome) -> bool:
        """Return whether a check or finding with ``outcome`` makes the review fail.

        ``outcome`` is one of JUDGED.
        """
        return JUDGED.index(outcome) >= JUDGED.index(self.fail_on)

    def places(self, check: Check) -> dict[int, tuple[Finding, ...]]:
        """Return the findings of ``check`` by the number of their patch; 0 is the whole series.

        A check with the scope "patch" has an entry for every patch, and one with the scope "series"
        an entry for 0, also without findings. Any other number has an entry only if there are
        findings. A check that has not judged has no entries.
        """
        if check.outcome not in JUDGED:
            return {}
        every = [one.number for one in self.patches] if check.scope == "patch" else [0]
        found = [one.patch for one in check.findings]
        return {
            number: tuple(one for one in check.findings if one.patch == number)
            for number in sorted({*every, *found})
        }

    def patch(self, number: int) -> str:
        """Return "patch 2/3 (title)" for ``number`` 2; "the series" for 0 or an unknown number."""
        for one in self.patches:
            if one.number == number:
                return f"patch {number}/{len(self.patches)} ({one.subject})"
        return "the series"


def worst(findings: Iterable[Finding]) -> CheckOutcome:
    """Return the worst outcome of ``findings``; PASS if there are none."""
    outcomes = (finding.outcome for finding in findings)
    return max(outcomes, key=JUDGED.index, default=CheckOutcome.PASS)


def dump(review: Review) -> str:
    """Return the review as JSON text: schema version, verdict, then the fields of Review."""
    data = {
        "schema_version": SCHEMA_VERSION,
        "verdict": review.exit_code.word,
        **dataclasses.asdict(review),
    }
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load(path: Path) -> Review:
    """Read a review from the JSON file ``path``.

    HarnessError (exit 7) if it cannot be read, or does not fit the schema of this version.
    """
    data = result.read(path, SCHEMA, again="review the series again")
    del data["schema_version"], data["verdict"]
    return result.record(data, Review)
