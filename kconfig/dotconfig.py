# SPDX-License-Identifier: GPL-2.0-only
"""The .config format: ``CONFIG_X=value`` and ``# CONFIG_X is not set``, everything else a comment.

Values stay as they are written (strings with their quotes); "is not set" is the value n.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

OFF = "n"

_SET = re.compile(r"CONFIG_([A-Za-z0-9_]+)=(.*)")
_UNSET = re.compile(r"# CONFIG_([A-Za-z0-9_]+) is not set")


def assignment(line: str) -> tuple[str, str] | None:
    """The symbol and the value that ``line`` gives it, or None if it gives none."""
    if match := _SET.fullmatch(line):
        return match[1], match[2]
    if match := _UNSET.fullmatch(line):
        return match[1], OFF
    return None


def parse(text: str) -> dict[str, str]:
    """Every symbol of ``text`` with its value; a later line overrides an earlier one."""
    return dict(filter(None, (assignment(line.rstrip()) for line in text.splitlines())))


def render(values: Iterable[tuple[str, str]]) -> str:
    """The lines that give ``values``, in the form in which the kernel writes them."""
    return "".join(
        f"# CONFIG_{symbol} is not set\n" if value == OFF else f"CONFIG_{symbol}={value}\n"
        for symbol, value in values
    )


def same(asked: str, got: str) -> bool:
    """Whether two written values mean the same: 0x10 is 0x0010, 08 is 8."""
    return asked == got or (_number(asked) is not None and _number(asked) == _number(got))


def _number(text: str) -> int | None:
    try:
        return int(text, 16) if text.lower().startswith("0x") else int(text)
    except ValueError:
        return None
