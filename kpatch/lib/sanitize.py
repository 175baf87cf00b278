# SPDX-License-Identifier: GPL-2.0-only
"""Make text from a test kernel or its guest safe for a terminal, for XML, and for one line."""

from __future__ import annotations

import re

LINE_LIMIT = 500
PARAGRAPH_LIMIT = 4000

# ECMA-48 escape sequences: CSI; the string sequences OSC, DCS, SOS, PM and APC up to their
# terminator (or the end of the line: a guest may leave one open); and the short ones.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# Control characters of C0 and C1 that are no escape sequence, characters that change the direction
# of writing (with them a line could be displayed as another), surrogates, and characters that XML
# 1.0 does not allow.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff"
    "\ud800-\udfff]"
)


def clean(text: str) -> str:
    """Return ``text`` without escape sequences and control characters; tab and newline stay.

    Characters that change the direction of writing, and those that XML does not allow, are removed,
    too. CR LF becomes a newline.
    """
    return _UNSAFE.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def line(text: str, *, limit: int = LINE_LIMIT) -> str:
    """Return the first line of ``text`` that is not blank, cleaned, cut at ``limit`` characters.

    White space is reduced to single spaces. Returns "" if there is no such line.
    """
    for candidate in clean(text).splitlines():
        flat = " ".join(candidate.split())
        if flat:
            return flat if len(flat) <= limit else flat[: limit - 1] + "…"
    return ""


def paragraph(text: str) -> str:
    """Return the first line of ``text`` like `line`, cut at ``PARAGRAPH_LIMIT`` characters.

    For sentences of the harness itself, of which one line may have several.
    """
    return line(text, limit=PARAGRAPH_LIMIT)


def duration(seconds: float) -> str:
    """Format seconds for a reader: ``0.4s``, ``12s``, ``5m12s``, ``1h02m``."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
