# SPDX-License-Identifier: GPL-2.0-only
"""Describe a review and its findings in words: clean text of one line, for several outputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from kpatch.lib import sanitize
from kpatch.model import Check, Finding
from kpatch.report.review.record import Review
from kpatch.series.export import describe
from kpatch.tables.outcomes import CheckOutcome, ExitCode

_MESSAGE = re.compile(
    r"(?P<place>[^\s:]+:\d+):(?:\d+:)?\s*(?:fatal )?(?:error|warning): (?P<text>.+)"
)

_WORDS = ((CheckOutcome.FAIL, "failure"), (CheckOutcome.WARN, "warning"))

COMPILERS = ("compiler", "clang")
"""The keys of `Review.tools` that are compilers."""


def verdict(review: Review) -> str:
    """Return the sentence that sums up a review: its patches, checks and findings by number."""
    said = f"{number(len(review.patches), 'patch', 'patches')}, {_judged(review)}"
    found = count(review.findings)
    if review.exit_code is ExitCode.INTERRUPTED:
        return f"{said} before the review was interrupted: {found or 'nothing found so far'}."
    if not review.judged:
        return f"{said}: nothing is known of the series."
    return f"{said}: {found or 'nothing found'}."


def _judged(review: Review) -> str:
    """Return in words how many checks have judged the series, and how many could not run."""
    missed = len(review.ended(CheckOutcome.COULD_NOT_RUN))
    said = f"judged by {number(len(review.judged), 'check', 'checks')}"
    return f"{said} ({missed} could not run)" if missed else said


def inputs(review: Review, *, limit: int = 300) -> dict[str, str]:
    """Return the inputs of a review in words, each in a line of at most ``limit`` characters.

    The keys are "tree", "base" (how the tree was chosen), "compilers", "QEMU", "config" and
    "thread". An input that is unknown is left out.
    """
    kernel, tools = review.kernel, review.tools
    rows = {
        "tree": "" if kernel is None else describe(kernel.version, kernel.provider, kernel.origin),
        "base": review.base,
        "compilers": "; ".join(tools[name] for name in COMPILERS if name in tools),
        "QEMU": tools.get("qemu", ""),
        "config": " ".join(part for part in (review.flavor, review.config_id) if part),
        "thread": f"<{review.message_id}>" if review.message_id else "",
    }
    return {name: sanitize.line(value, limit=limit) for name, value in rows.items() if value}


def tested(review: Review) -> str:
    """Return the sentence that names the kernel, the checks that judged, duration and version.

    The version is that of vfio-acpi. Returns "Tested: nothing." if no check has judged.
    """
    names = ", ".join(check.name for check in review.judged)
    if not names:
        return "Tested: nothing."
    patches = number(len(review.patches), "patch", "patches")
    tree = f" on Linux {sanitize.line(review.kernel.version, limit=80)}" if review.kernel else ""
    tool = sanitize.line(f"vfio-acpi {review.tools.get('vfio-acpi', '')}", limit=80)
    return (
        f"Tested: {patches}{tree} by {names}, in {sanitize.duration(review.seconds)}, with {tool}."
    )


def count(pairs: Iterable[tuple[Check, Finding]]) -> str:
    """Return the number of findings by outcome, "1 failure and 2 warnings"; "" without findings."""
    counts = Counter(found.outcome for _, found in pairs)
    told = (number(counts[one], word, f"{word}s") for one, word in _WORDS if counts[one])
    return " and ".join(told)


def number(amount: int, one: str, many: str) -> str:
    """Return ``amount`` and the noun ``one`` or ``many``: "1 patch", "2 patches"."""
    return f"{amount} {one if amount == 1 else many}"


def cause(finding: Finding, *, limit: int = sanitize.LINE_LIMIT) -> str:
    """Return file, line and text of a finding, "a.c:12: no previous prototype".

    It is cut at ``limit`` characters.
    """
    place, text = sanitize.line(finding.place), sanitize.line(finding.text)
    return sanitize.line(f"{place}: {text}" if place else text, limit=limit)


def removed(finding: Finding) -> str:
    """Return "patch N takes it away again" if a later patch N removes the finding, else ""."""
    return f"patch {finding.removed_by} takes it away again" if finding.removed_by else ""


def command(check: Check, finding: Finding) -> str:
    """Return the shell line that shows ``finding`` again.

    It is the finding's own command, else the last command of ``check``; "" if neither has one.
    """
    line = finding.command or (check.commands[-1] if check.commands else "")
    return sanitize.line(line, limit=2000)


def details(finding: Finding, *, limit: int) -> list[tuple[bool, str]]:
    """Return the lines of the tool's output, each after a flag: (flag, line).

    The flag is True for the finding's own message, False for context. Lines are cut at ``limit``
    characters; blank lines are left out.
    """
    flat = (" ".join(sanitize.clean(one).expandtabs().splitlines()) for one in finding.details)
    cut = (line if len(line) <= limit else line[: limit - 1] + "…" for line in flat)
    return [(_is_message(finding, line), line.rstrip()) for line in cut if line.strip()]


def _is_message(finding: Finding, line: str) -> bool:
    """Return whether ``line`` is the compiler's message from which ``finding`` was made.

    It is if ``line`` is an error or a warning with the finding's place (file:line), or with a text
    that is part of the finding's text.
    """
    message = _MESSAGE.match(line)
    if message is None:
        return False
    return message["place"] == finding.place or message["text"] in finding.text
