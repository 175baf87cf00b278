# SPDX-License-Identifier: GPL-2.0-only
"""Read and write the .config format: ``CONFIG_X=value`` and ``# CONFIG_X is not set``.

All other lines are ignored. Values are kept as written (strings with their quotes); "is not set" is
read as the value n.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

OFF = "n"

_SET = re.compile(r"CONFIG_([A-Za-z0-9_]+)=(.*)")
_UNSET = re.compile(r"# CONFIG_([A-Za-z0-9_]+) is not set")


def assignment(line: str) -> tuple[str, str] | None:
    """Return the symbol (without CONFIG_) and the value in ``line``; None for any other line."""
    if match := _SET.fullmatch(line):
        return match[1], match[2]
    if match := _UNSET.fullmatch(line):
        return match[1], OFF
    return None


def parse(text: str) -> dict[str, str]:
    """Return the values in the .config ``text`` by symbol; the last line of a symbol counts."""
    return dict(filter(None, (assignment(line.rstrip()) for line in text.splitlines())))


def render(values: Iterable[tuple[str, str]]) -> str:
    """Return the pairs ``values`` (symbol, value) as lines of a .config."""
    return "".join(
        f"# CONFIG_{symbol} is not set\n" if value == OFF else f"CONFIG_{symbol}={value}\n"
        for symbol, value in values
    )


def same(requested: str, got: str) -> bool:
    """Return whether two values are equal as text or as numbers (0x10 and 0x0010, 08 and 8)."""
    return requested == got or (
        _number(requested) is not None and _number(requested) == _number(got)
    )


# Numbers as Kconfig writes them. Python's int() accepts others, 1_0 for instance.
_DECIMAL, _HEXADECIMAL = re.compile(r"-?\d+", re.ASCII), re.compile(r"0[xX][0-9a-fA-F]+")


def _number(text: str) -> int | None:
    for pattern, base in ((_DECIMAL, 10), (_HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            return int(text, base)
    return None
