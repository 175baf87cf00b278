# SPDX-License-Identifier: GPL-2.0-only
"""Check the spelling in a patch: of its message, and of added comments, strings, documentation.

Misspelt words are those of codespell's dictionary and of the tree's scripts/spelling.txt. codespell
itself is not run: it judges whole files, identifiers included, and reads settings of the user.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from kpatch.checks.context import Context
from kpatch.checks.lines import lines, placed
from kpatch.model import Applied, Finding, Patch
from kpatch.tables.outcomes import CheckOutcome

RECIPE = "3"
"""Part of the cache key of findings. Increase it if a change here makes other findings."""

TREE_LIST = "scripts/spelling.txt"

SHORTEST = 4
"""Length of the shortest words that are taken from codespell's dictionary.

Shorter ones ("ser", "te") are names and abbreviations in a kernel.
"""

CODE = (".c", ".h", ".S", ".dts", ".dtsi", ".rs")
"""Suffixes of source files: only their comments and strings are checked."""

# A word that is no part of a path, address, identifier, option, conversion (%s) or escape (\\n).
_WORD = re.compile(
    r"(?<![\w`'/.@%\\<>$-])[A-Za-z][a-z]+(?:'[a-z]+)?(?![\w`/@(<>=-]|\.\w|->|::|'[a-z])"
)
_SPAN = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'", re.DOTALL
)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_TRAILER = re.compile(r"(?:Fixes|Cc|Link|Closes|[a-z]+(?:-[a-z]+)*-by): ?\S", re.IGNORECASE)
_QUOTED = re.compile(r"\(\"[^)]*\"?\)?|\S*://\S*")


def check(context: Context) -> Iterator[Finding]:
    """Yield a finding (WARN) for each misspelt word that a patch adds."""
    listed = context.content(context.base, TREE_LIST) or b""
    words = {**_codespell(), **_tree_words(listed.decode(errors="replace"))}
    edition = version("codespell")
    for patch in context.patches:
        state = context.after(patch.number)
        find = functools.partial(_misspelt, context, patch, state, words)
        parts = (RECIPE, edition, context.tree.tree_id, state.delta_id, str(patch.diff))
        found = context.memo("spelling", (*parts, patch.subject, patch.message), find)
        yield from placed(context, patch, found)


@functools.cache
def _codespell() -> Mapping[str, str]:
    """Return the corrections ("cache, ache") by misspelt word, from codespell's dictionary.

    Left out are words shorter than SHORTEST, and words with a remark ("disabled due to …"), for
    which checkpatch does not use the dictionary either.
    """
    data = importlib.resources.files("codespell_lib") / "data" / "dictionary.txt"
    pairs = (line.split("->", 1) for line in data.read_text(encoding="utf-8").splitlines())
    return {
        wrong: right.strip().rstrip(",")
        for wrong, right in pairs
        if len(wrong) >= SHORTEST and not _remark(right)
    }


def _remark(right: str) -> bool:
    """Return whether ``right``, the corrections in codespell's dictionary, ends with a remark.

    A list of several corrections ends with ","; text after the last comma is a remark.
    """
    return "," in right and not right.rstrip().endswith(",")


def _tree_words(text: str) -> Mapping[str, str]:
    """Return the correction by misspelt word; ``text`` is spelling.txt, lines of WRONG||RIGHT."""
    pairs = (line.split("||", 1) for line in text.splitlines() if not line.startswith("#"))
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}


def _misspelt(
    context: Context, patch: Patch, state: Applied, words: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield a finding for each misspelt word in title and message, and in lines that are added.

    ``words`` has the correction by misspelt word, ``state`` the files after the patch. A word of
    the message gives one finding, in files each place gives one. In files, words that the patch
    also removes, and identifiers of the same file, are left out.
    """
    changed = lines(context, patch)
    before = {word.lower() for text in changed.removed for word in _WORD.findall(text)}
    told: set[str] = set()
    for text in (patch.subject, *_prose(patch.message)):
        for word, right in _wrong(text, words):
            if word.lower() not in told:
                told.add(word.lower())
                yield _finding(word, right, text)
    for file in dict.fromkeys(line.file for line in changed.added):
        content = (context.content(state, file) or b"").decode(errors="replace")
        readable = _readable(content) if file.endswith(CODE) else _Readable(content, frozenset())
        shown = readable.text.split("\n")
        for line in (line for line in changed.added if line.file == file):
            text = shown[line.number - 1] if line.number <= len(shown) else ""
            for word, right in _wrong(text, words):
                if word.lower() not in readable.names | before:
                    yield _finding(word, right, line.text, file, line.number)


def _finding(
    word: str, right: str, line: str, file: str = "", number: int | None = None
) -> Finding:
    where = "" if file else " in the message"
    return Finding(
        f"'{word}' may be misspelt{where}, perhaps '{right}'",
        CheckOutcome.WARN,
        file=file,
        line=number,
        details=(line.strip(),),
    )


def _wrong(text: str, words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for word in _WORD.findall(text):
        right = words.get(word.lower())
        if right is not None:
            yield word, right


def _prose(message: str) -> Iterator[str]:
    """Yield the lines of prose in a commit message.

    Trailers, and lines that are quoted or indented (logs, listings), are left out. Titles of other
    commits in ("…") and URLs are replaced by a space.
    """
    for line in message.split("\n"):
        if not line.startswith((" ", "\t", ">", "|")) and not _TRAILER.match(line):
            yield _QUOTED.sub(" ", line)


@dataclass(frozen=True)
class _Readable:
    """The text of a file in which words are checked.

    ``text`` has the comments and strings of source code, with spaces in the place of code; of other
    files it has everything. ``names`` are the identifiers of the code, in lower case.
    """

    text: str
    names: frozenset[str]


def _readable(content: str) -> _Readable:
    """Return the comments, strings and identifiers of the source code ``content``.

    Comments and strings keep their line numbers.
    """
    parts: list[str] = []
    code: list[str] = []
    end = 0
    for span in _SPAN.finditer(content):
        gap = content[end : span.start()]
        code.append(gap)
        parts += (re.sub(r"[^\n]", " ", gap), span[0])
        end = span.end()
    code.append(content[end:])
    parts.append(re.sub(r"[^\n]", " ", content[end:]))
    names = frozenset(name.lower() for text in code for name in _IDENTIFIER.findall(text))
    return _Readable("".join(parts), names)
