# SPDX-License-Identifier: GPL-2.0-only
"""Write a review as one HTML file, which needs no script, no network, and no other file.

Every text from a patch or a tool is cleaned and cut to one line; the template escapes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kpatch.lib import sanitize, template
from kpatch.model import Check, Finding
from kpatch.report.review import words
from kpatch.report.review.record import Review, worst
from kpatch.tables.outcomes import JUDGED, CheckOutcome

TEMPLATE = Path(__file__).parent.parent / "templates" / "review.html.j2"

ARCHIVE = "https://lore.kernel.org/all/"

_MESSAGE_ID = re.compile(r"[!-;=?-~]{1,200}@[!-;=?-~]{1,200}")

FINDINGS = 400  # largest number of findings to show; review.json has all
DETAILS = 200  # lines of a tool's output for one finding
TOOL_LINE = 1000  # characters of a line of a tool's output

MEANING: dict[CheckOutcome, str] = {
    CheckOutcome.PASS: "nothing found",
    CheckOutcome.WARN: "warning",
    CheckOutcome.FAIL: "failure",
    CheckOutcome.COULD_NOT_RUN: "could not run",
    CheckOutcome.NOT_APPLICABLE: "not applicable",
    CheckOutcome.NOT_SELECTED: "not selected",
}


@dataclass(frozen=True)
class _Cell:
    """The outcome of one check for one patch, or for the series as a whole.

    ``label`` is the patch's number, or "series". ``outcome`` is "" if the check says nothing of
    this patch; ``meaning`` is the outcome in words. ``target`` is the key of the first of the
    ``count`` findings (`_Found`).
    """

    label: str
    outcome: str = ""
    meaning: str = ""
    count: int = 0
    target: str = ""


@dataclass(frozen=True)
class _Found:
    """A finding as texts for the template.

    ``key`` is its anchor in the document, "f1" for the first. ``cause`` has its place and text.
    ``details`` are lines of a tool's output, each with whether it is the finding's own message
    (else context); ``more`` is the number of lines that are left out. ``removed`` says which later
    patch corrects it, ``command`` shows it again.
    """

    key: str
    outcome: str
    meaning: str
    check: str
    patch: str
    cause: str
    removed: str
    details: tuple[tuple[bool, str], ...]
    more: int
    command: str


@dataclass(frozen=True)
class _Row:
    """A check as texts for the template.

    ``cells`` has a cell for the series, then one for each patch; none if the check has not judged.
    """

    name: str
    title: str
    outcome: str
    meaning: str
    reason: str
    cells: tuple[_Cell, ...]
    commands: tuple[str, ...]
    notes: tuple[str, ...]
    reused: str
    seconds: str


def render(review: Review) -> str:
    """Return the review as the text of an HTML document."""
    found = {id(one): f"f{number}" for number, (_, one) in enumerate(review.findings, 1)}
    shown = review.findings[:FINDINGS]
    return template.render(
        TEMPLATE,
        html=True,
        title=sanitize.line(review.title, limit=200),
        verdict=words.verdict(review),
        outcome=_overall(review),
        inputs=words.inputs(review),
        link=_link(review.message_id),
        patches=[(one.number, sanitize.line(one.subject, limit=200)) for one in review.patches],
        rows=[_row(review, check, found) for check in review.checks],
        findings=[_found(review, check, one, found[id(one)]) for check, one in shown],
        more=words.count(review.findings[FINDINGS:]),
        symbols={one.value: MEANING[one] for one in CheckOutcome},
        tested=words.tested(review),
        started=review.started,
        command=sanitize.line(review.command, limit=2000),
    )


def _link(message_id: str) -> str:
    """Return the URL of the mail ``message_id`` at lore.kernel.org; "" if that is no Message-ID."""
    known = _MESSAGE_ID.fullmatch(message_id)
    return f"{ARCHIVE}{quote(message_id, safe='@')}/" if known else ""


def _overall(review: Review) -> str:
    """Return the worst outcome of the checks that judged; "could-not-run" if none has judged."""
    outcomes = [check.outcome for check in review.judged]
    return max(outcomes, key=JUDGED.index, default=CheckOutcome.COULD_NOT_RUN).value


def _row(review: Review, check: Check, keys: dict[int, str]) -> _Row:
    reused = f"{check.reused} of {check.parts} parts reused" if check.reused else ""
    return _Row(
        check.name,
        sanitize.line(check.title),
        check.outcome.value,
        MEANING[check.outcome],
        sanitize.line(check.reason),
        tuple(_cells(review, check, keys)),
        tuple(sanitize.line(line, limit=2000) for line in check.commands),
        tuple(sanitize.line(note) for note in check.notes),
        reused,
        sanitize.duration(check.seconds),
    )


def _cells(review: Review, check: Check, keys: dict[int, str]) -> Iterator[_Cell]:
    """Yield the check's cell for the series, then one for each patch; none if it has not judged.

    ``keys`` has the key (`_Found.key`) of each finding, by the finding's id().
    """
    places = review.places(check)
    if not places:
        return
    for number in (0, *(one.number for one in review.patches)):
        label = str(number) if number else "series"
        found = places.get(number)
        if found is None:
            yield _Cell(label)
            continue
        outcome = worst(found)
        meaning = MEANING[outcome]
        if found:
            meaning += f": {words.number(len(found), 'finding', 'findings')}"
        target = keys[id(found[0])] if found else ""
        yield _Cell(label, outcome.value, meaning, len(found), target)


def _found(review: Review, check: Check, finding: Finding, key: str) -> _Found:
    details = words.details(finding, limit=TOOL_LINE)
    return _Found(
        key,
        finding.outcome.value,
        MEANING[finding.outcome],
        check.name,
        sanitize.line(review.patch(finding.patch), limit=200),
        words.cause(finding),
        words.removed(finding),
        tuple(details[:DETAILS]),
        max(0, len(details) - DETAILS),
        words.command(check, finding),
    )
