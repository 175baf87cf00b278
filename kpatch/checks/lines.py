# SPDX-License-Identifier: GPL-2.0-only
"""The lines that a patch adds and removes, and where a finding in them ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kpatch.checks.context import Context
from kpatch.model import Finding, Patch

HUNK = re.compile(r"@@ -(?P<old_start>\d+)(?:,(?P<old>\d+))? \+(?P<start>\d+)(?:,(?P<new>\d+))? @@")


@dataclass(frozen=True)
class Line:
    """A line that a patch adds to ``file``; ``number`` is its place after the patch."""

    file: str
    number: int
    text: str


@dataclass(frozen=True)
class Lines:
    """The lines of a patch: those that it adds, and the text of those that it removes.

    ``offsets`` has for each line of the diff, by file and number there, how far from it the line
    stands after the patch: git applies a hunk also where lines before it came or went.
    """

    added: tuple[Line, ...]
    removed: frozenset[str]
    offsets: Mapping[tuple[str, int], int]


@dataclass
class _Hunk:
    """A hunk of a diff: its place in the new file, and its lines with their signs."""

    file: str
    start: int
    rows: list[str]

    @property
    def new(self) -> list[str]:
        """The lines of the new file, without signs."""
        return [row[1:] for row in self.rows if not row.startswith("-")]


def lines(context: Context, patch: Patch) -> Lines:
    """Return the lines of ``patch``, whose diff git has accepted."""
    state = context.after(patch.number)
    contents: dict[str, list[str]] = {}
    added: list[Line] = []
    removed: list[str] = []
    offsets: dict[tuple[str, int], int] = {}
    for hunk in _hunks(patch):
        if hunk.file not in contents:
            content = context.content(state, hunk.file) or b""
            contents[hunk.file] = content.decode(errors="replace").split("\n")
        offset = _offset(hunk, contents[hunk.file])
        number = hunk.start
        for row in hunk.rows:
            if row.startswith("-"):
                removed.append(row[1:])
                continue
            offsets[hunk.file, number] = offset
            if row.startswith("+"):
                added.append(Line(hunk.file, number + offset, row[1:]))
            number += 1
    return Lines(tuple(added), frozenset(removed), offsets)


def _hunks(patch: Patch) -> Iterator[_Hunk]:
    file, old, new = "", 0, 0
    hunk = _Hunk(file, 0, [])
    for text in patch.diff.decode(errors="replace").split("\n"):
        if old or new:
            if not text.startswith("\\"):
                hunk.rows.append(text)
                old -= not text.startswith("+")
                new -= not text.startswith("-")
                if not old and not new:
                    yield hunk
        elif text.startswith("+++ "):
            file = _path(text[4:], patch.strip)
        elif match := HUNK.match(text):
            old, new = int(match["old"] or 1), int(match["new"] or 1)
            hunk = _Hunk(file, int(match["start"]), [])


def _offset(hunk: _Hunk, content: Sequence[str]) -> int:
    """Return how far from its stated place a hunk stands in ``content``: the nearest such place."""
    block = hunk.new
    first = hunk.start - 1
    places = [
        index
        for index in range(len(content) - len(block) + 1)
        if block and content[index] == block[0] and content[index : index + len(block)] == block
    ]
    return min((index - first for index in places), key=abs, default=0)


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
