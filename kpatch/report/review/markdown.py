# SPDX-License-Identifier: GPL-2.0-only
"""Write a review as GitHub's Markdown, for the summary of a job or a comment.

In texts of patches and tools, every character that is not plain prose becomes a character
reference, so that GitHub takes no part of them as markup, a link, or a mention of somebody. The
output of a tool is a block of code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kpatch.lib import sanitize
from kpatch.model import Check, Finding
from kpatch.report.review import words
from kpatch.report.review.record import Review, worst
from kpatch.tables.outcomes import CheckOutcome

FINDINGS = 40  # largest number of findings to show
DETAILS = 20  # lines of a tool's output for one finding
TOOL_LINE = 300  # characters of a line of a tool's output

_WORDS = {CheckOutcome.FAIL: "**fail**", CheckOutcome.WARN: "**warn**", CheckOutcome.PASS: "pass"}

# GitHub makes links of "www." and "https:", emoji of ":name:", and mentions of "@name".
_MARKUP = re.compile(r"[^\w ,;/'=%?.()+-]|_|(?<=www)\.", re.IGNORECASE)

# At the start of a line, "-", "+", "1." and "1)" begin lists, and spaces indent code.
_START = re.compile(r"(\d{1,9}(?=[.)])|(?=[ +-]))([ +.)-])")


def render(review: Review) -> str:
    """Return the review as Markdown text."""
    lines = [f"## {escape(sanitize.line(review.title, limit=200))}", ""]
    lines += [f"**{escape(words.verdict(review))}**", ""]
    lines += [f"- {name}: {escape(value)}" for name, value in words.inputs(review).items()]
    lines += ["", *_table(review)]
    for check, finding in review.findings[:FINDINGS]:
        lines += ["", *_finding(review, check, finding)]
    left = words.count(review.findings[FINDINGS:])
    if left:
        lines += ["", f"And {left}: see report.html or review.json."]
    lines += ["", escape(words.tested(review))]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return Markdown that GitHub displays as exactly ``text``, which is one line."""
    start = _START.match(text)
    begin = f"{start[1]}{_character(start[2])}" if start else ""
    rest = text[start.end() :] if start else text
    return begin + _MARKUP.sub(lambda match: _character(match[0]), rest)


def _character(one: str) -> str:
    return f"&#{ord(one)};"


def _table(review: Review) -> Iterator[str]:
    """Yield the lines of the table: a row for each check, columns for the series and each patch."""
    numbers = [0, *(one.number for one in review.patches)]
    yield f"| check | series |{''.join(f' {number} |' for number in numbers[1:])}"
    yield f"| --- |{' --- |' * len(numbers)}"
    for check in review.checks:
        places = review.places(check)
        if places:
            cells = [_cell(places.get(number)) for number in numbers]
        else:
            reason = sanitize.line(check.reason, limit=120)
            selected = check.outcome is not CheckOutcome.NOT_SELECTED
            told = (
                f"{check.outcome.value}: {reason}" if selected and reason else check.outcome.value
            )
            cells = [escape(told), *[""] * (len(numbers) - 1)]
        yield f"| {check.name} | {' | '.join(cells)} |"


def _cell(found: tuple[Finding, ...] | None) -> str:
    if found is None:
        return ""
    return f"{_WORDS[worst(found)]} {len(found) if len(found) > 1 else ''}".strip()


def _finding(review: Review, check: Check, finding: Finding) -> Iterator[str]:
    where = escape(sanitize.line(review.patch(finding.patch), limit=200))
    yield f"### {finding.outcome.value}: {check.name}, {where}"
    yield ""
    yield escape(words.cause(finding))
    gone = words.removed(finding)
    if gone:
        yield f"({escape(gone)})"
    details = words.details(finding, limit=TOOL_LINE)
    lines = [f"{'>> ' if new else '   '}{line}" for new, line in details[:DETAILS]]
    if len(details) > DETAILS:
        lines.append(f"   [{words.number(len(details) - DETAILS, 'more line', 'more lines')}]")
    yield from _block(lines)
    command = words.command(check, finding)
    if command:
        yield from ["", "repeat:", *_block([command])]


def _block(lines: list[str]) -> Iterator[str]:
    """Yield ``lines`` as a block of code; nothing if there are none.

    The fence has more backticks than any run of backticks in ``lines``.
    """
    if not lines:
        return
    longest = max((len(run) for run in re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)
    yield from ["", fence, *lines, fence]
