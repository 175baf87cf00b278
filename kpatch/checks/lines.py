# SPDX-License-Identifier: GPL-2.0-only
"""The lines that a patch adds and removes, and where a finding in them ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from kpatch.checks.context import Context
from kpatch.model import Finding, Patch

_HUNK = re.compile(r"@@ -\d+(?:,(?P<old>\d+))? \+(?P<start>\d+)(?:,(?P<new>\d+))? @@")


@dataclass(frozen=True)
class Line:
    """A line that a patch adds to ``file``; ``number`` is its place after the patch."""

    file: str
    number: int
    text: str


@dataclass(frozen=True)
class Lines:
    """The lines of a patch: those that it adds, and the text of those that it removes."""

    added: tuple[Line, ...]
    removed: frozenset[str]


def lines(patch: Patch) -> Lines:
    """Return the lines of ``patch``, whose diff git has accepted."""
    added: list[Line] = []
    removed: list[str] = []
    file, number, old, new = "", 0, 0, 0
    for text in patch.diff.decode(errors="replace").split("\n"):
        if old or new:
            sign = text[:1]
            if sign == "+":
                added.append(Line(file, number, text[1:]))
            elif sign == "-":
                removed.append(text[1:])
            elif sign == "\\":
                continue
            old -= sign != "+"
            new -= sign != "-"
            number += sign != "-"
        elif text.startswith("+++ "):
            file = _path(text[4:], patch.strip)
        elif match := _HUNK.match(text):
            old, new = int(match["old"] or 1), int(match["new"] or 1)
            number = int(match["start"])
    return Lines(tuple(added), frozenset(removed))


def _path(name: str, strip: int) -> str:
    name = name.partition("\t")[0]
    return name if name == "/dev/null" else name.split("/", strip)[-1]


def new_files(context: Context, patch: Patch) -> list[str]:
    """Return the files that are there after ``patch`` and were not before, in order."""
    before, after = context.after(patch.number - 1), context.after(patch.number)
    return [
        path
        for path in sorted(patch.paths)
        if context.content(before, path) is None and context.content(after, path) is not None
    ]


def placed(context: Context, patch: Patch, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield ``findings`` as those of ``patch``, each with the later patch that takes it away.

    A finding is taken away by the patch after which its file no longer has the line.
    """
    for found in findings:
        mine = replace(found, patch=patch.number)
        yield replace(mine, removed_by=_removed_by(context, mine)) if found.line else mine


def _removed_by(context: Context, found: Finding) -> int:
    assert found.line is not None
    content = _lines(context, found.patch, found.file)
    if not 0 < found.line <= len(content):
        return 0
    text = content[found.line - 1]
    for patch in context.patches[found.patch :]:
        if found.file in patch.paths and text not in _lines(context, patch.number, found.file):
            return patch.number
    return 0


def _lines(context: Context, count: int, file: str) -> list[bytes]:
    return (context.content(context.after(count), file) or b"").split(b"\n")
