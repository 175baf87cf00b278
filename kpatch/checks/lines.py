# SPDX-License-Identifier: GPL-2.0-only
"""The lines that a patch adds and removes, and the patch that removes the line of a finding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kpatch.checks.context import Context
from kpatch.model import Finding, Patch

HUNK = re.compile(r"@@ -(?P<old_start>\d+)(?:,(?P<old>\d+))? \+(?P<start>\d+)(?:,(?P<new>\d+))? @@")


@dataclass(frozen=True)
class Line:
    """A line that a patch adds to ``file``; ``number`` is its line number after the patch."""

    file: str
    number: int
    text: str


@dataclass(frozen=True)
class Lines:
    """The lines that a patch adds, and the texts of those that it removes.

    ``offsets`` has the offset of each added and unchanged line of the diff: its actual line number
    after the patch minus the one in the diff. The key is the file and the number in the diff. git
    also applies a hunk if lines before it were added or removed.
    """

    added: tuple[Line, ...]
    removed: frozenset[str]
    offsets: Mapping[tuple[str, int], int]


@dataclass
class _Hunk:
    """A hunk of a diff.

    ``start`` is the number of its first line in the new file, as the diff states it. ``rows`` are
    its lines, each with its sign: "+", "-" or a space.
    """

    file: str
    start: int
    rows: list[str]

    @property
    def new(self) -> list[str]:
        """The added and unchanged lines, without signs."""
        return [row[1:] for row in self.rows if not row.startswith("-")]


def lines(context: Context, patch: Patch) -> Lines:
    """Return the lines of ``patch``, a patch of the series in ``context``."""
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
    """Return the offset, in lines, of a hunk from the place that the diff states.

    ``content`` is the file after the patch. If the hunk's lines occur several times, the nearest
    place counts; if they do not occur, the offset is 0.
    """
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
    """Return the paths of the files that ``patch`` creates, sorted."""
    before, after = context.after(patch.number - 1), context.after(patch.number)
    return [
        path
        for path in sorted(patch.paths)
        if context.content(before, path) is None and context.content(after, path) is not None
    ]


def placed(context: Context, patch: Patch, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield ``findings`` with the number of ``patch``, and with ``removed_by`` if they have a line.

    ``removed_by`` is the number of the first later patch after which the file has no line with that
    text, 0 if there is none.
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
