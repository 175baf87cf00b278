# SPDX-License-Identifier: GPL-2.0-only
"""Write a review as a reply to the thread, in the shape of the kernel test robot's mails.

The report is meant to fit on one screen (SCREEN lines). It shows at least the worst finding; those
that do not fit are counted, and the report names the files that have them. Prose is wrapped for
mail; commands and lines of tools are not.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from kpatch.lib import sanitize
from kpatch.model import Check, Finding
from kpatch.report.review import words
from kpatch.report.review.record import Review
from kpatch.tables.outcomes import CheckOutcome

WIDTH = 72
SCREEN = 50  # lines of the whole report
DETAILS = 6  # lines of a tool's output for one finding
TOOL_LINE = 160  # characters of a line of a tool's output
REASON = 130  # characters of the reason why a check did not run

NEW, OLD = ">> ", "   "

REST = "report.html or review.json"
"""The files with all findings, to which the report refers for those that it does not show."""

_LABEL = len("compilers: ")


def render(review: Review) -> str:
    """Return the report as text. Every line ends with a newline."""
    head = [f"Re: {_subject(review)}", "", *_wrap(words.verdict(review)), "", *_inputs(review)]
    tail = ["", *_others(review), "", *_wrap(words.tested(review))]
    lines = [*head, *_findings(review, SCREEN - len(head) - len(tail)), *tail]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _subject(review: Review) -> str:
    return re.sub(r"^(?:re: *)+", "", sanitize.line(review.title, limit=200), flags=re.I)


def _inputs(review: Review) -> Iterator[str]:
    for name, value in words.inputs(review, limit=2 * (WIDTH - _LABEL)).items():
        yield from _wrap(value, first=f"{name}:".ljust(_LABEL), later=" " * _LABEL)


def _findings(review: Review, room: int) -> list[str]:
    """Return lines about the findings, the worst first: as many as fit into ``room`` lines.

    The worst one is shown in any case. A finding that does not fit with its details is shown
    without them. Further lines count the findings that are left out.
    """
    lines: list[str] = []
    left = list(review.findings)
    told: set[str] = set()
    while left:
        check, finding = left[0]
        command = words.command(check, finding)
        repeat = [f"  repeat: {command}"] if command and command not in told else []
        free = room - len(lines) - (2 if len(left) > 1 else 0)
        block = ["", *_head(review, check, finding), *_details(finding), *repeat]
        if len(block) > free:
            block = ["", *_head(review, check, finding)]
            if lines and len(block) > free:
                break
        else:
            told.add(command)
        lines += block
        del left[0]
    if left:
        lines += ["", *_wrap(f"And {words.count(left)}: see {REST}.")]
    return lines


def _head(review: Review, check: Check, finding: Finding) -> Iterator[str]:
    """Yield the lines that name the outcome, the check, the patch, and the cause of a finding."""
    where = sanitize.line(review.patch(finding.patch), limit=120)
    gone = words.removed(finding)
    first = f"{finding.outcome.value.upper()} {check.name}: "
    yield from _wrap(f"{where}; {gone}" if gone else where, first=first, later="    ")
    yield from _wrap(words.cause(finding, limit=3 * WIDTH), first="  ", later="    ")


def _details(finding: Finding) -> Iterator[str]:
    """Yield at most DETAILS lines of the tool's output, so that the first new one is among them.

    A new line is the finding's own message; it begins with NEW, lines of context begin with OLD. If
    more lines follow, a last line has their number.
    """
    lines = words.details(finding, limit=TOOL_LINE)
    new = [index for index, (is_new, _) in enumerate(lines) if is_new]
    start = max(0, min(new[0], len(lines) - DETAILS)) if new else 0
    for is_new, line in lines[start : start + DETAILS]:
        yield f"{NEW if is_new else OLD}{line}"
    left = len(lines) - start - DETAILS
    if left > 0:
        yield f"{OLD}[{words.number(left, 'more line', 'more lines')}]"


def _others(review: Review) -> Iterator[str]:
    """Yield lines about the checks that have no findings.

    They name the checks that passed, those that could not run or do not apply, with the reasons,
    and those that were not selected.
    """
    fine = review.ended(CheckOutcome.PASS)
    if fine:
        yield from _wrap(f"Nothing found by: {', '.join(check.name for check in fine)}.")
    for outcome, said in (
        (CheckOutcome.COULD_NOT_RUN, "Could not run"),
        (CheckOutcome.NOT_APPLICABLE, "Not applicable"),
    ):
        reasons: dict[str, list[str]] = {}
        for check in review.ended(outcome):
            reasons.setdefault(check.reason, []).append(check.name)
        for reason, names in reasons.items():
            why = sanitize.line(reason, limit=REASON)
            yield from _wrap(f"{said}: {', '.join(names)} ({why}).", later="  ")
    left = review.ended(CheckOutcome.NOT_SELECTED)
    if left:
        yield from _wrap(f"Not selected: {', '.join(check.name for check in left)}.")


def _wrap(text: str, *, first: str = "", later: str = "") -> list[str]:
    """Return ``text`` in lines of at most WIDTH characters; a longer word is broken.

    The first line begins with ``first``, the others with ``later``. If ``text`` is "", the result
    is the line ``first``.
    """
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    ) or [first]
