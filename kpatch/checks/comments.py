# SPDX-License-Identifier: GPL-2.0-only
"""Check the form of the comments that a patch adds, where checkpatch and kernel-doc have no rule.

The form is that of Documentation/process/coding-style.rst (section 8) and of
Documentation/doc-guide/kernel-doc.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kpatch.checks.context import Context
from kpatch.checks.lines import lines, placed
from kpatch.model import Finding, Patch
from kpatch.tables.outcomes import CheckOutcome

CODE = (".c", ".h")
"""Suffixes of the files that are checked."""

OTHER_STYLE = ("net/", "drivers/net/")
"""Folders where comments of several lines begin on their first line, as checkpatch of 6.1 wants."""

# A string, or a comment.
_SPAN = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|(?P<comment>/\*.*?(?:\*/|\Z))", re.DOTALL)
_TEXT = re.compile(r"/\*[ \t]+\S[^\n]*\n")
_KERNEL_DOC = re.compile(r"/\*\*[ \t]*\n")
_NO_SPACE = re.compile(r"[ \t]*\*[^\s*/]")


def check(context: Context) -> Iterator[Finding]:
    """Yield a finding (WARN) for each comment that a patch adds in another form."""
    for patch in context.patches:
        yield from placed(context, patch, _found(context, patch))


def _found(context: Context, patch: Patch) -> Iterator[Finding]:
    added = {(line.file, line.number) for line in lines(context, patch).added}
    for file in sorted({file for file, _ in added if file.endswith(CODE)}):
        content = context.content(context.after(patch.number), file) or b""
        for number, line, fault in _faults(file, content.decode(errors="replace")):
            if (file, number) in added:
                details = (line.strip(),)
                yield Finding(fault, CheckOutcome.WARN, file=file, line=number, details=details)


def _faults(file: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, line and fault for each line of a comment in ``text`` with another form.

    A comment behind code may begin on its first line.
    """
    number, start = 1, 0
    for span in _SPAN.finditer(text):
        number += text.count("\n", start, span.start())
        start = span.start()
        comment = span["comment"] or ""
        rows = comment.split("\n")
        if _TEXT.match(comment) and _alone(text, start) and not file.startswith(OTHER_STYLE):
            fault = "the text of a comment of several lines begins on its first line"
            yield number, rows[0], fault
        if _KERNEL_DOC.match(comment):
            for offset, row in enumerate(rows):
                if _NO_SPACE.match(row):
                    fault = "no space behind the asterisk of a kernel-doc comment"
                    yield number + offset, row, fault


def _alone(text: str, position: int) -> bool:
    """Return whether the line of ``text`` has only blanks before ``position``."""
    return not text[text.rfind("\n", 0, position) + 1 : position].strip()
