# SPDX-License-Identifier: GPL-2.0-only
"""Find the macros that one header defines in preprocessed text (gcc -E -dD)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARKER = re.compile(r'^# \d+ "((?:[^"\\]|\\.)*)"')
_MACRO = re.compile(r"^#define (\w+)(\([^)]*\))?(?: (.*))?$")
_UNDEF = re.compile(r"^#undef (\w+)$")


@dataclass(frozen=True)
class Macro:
    """A macro: its parameters ("" if it is no function), its text, and its block.

    Macros of the same ``block`` follow each other with nothing but comments between them.
    """

    parameters: str
    body: str
    block: int

    @property
    def is_number(self) -> bool:
        """Whether the macro may have a number as its value.

        A string has none, although gcc can put its address into a 64-bit variable.
        """
        return bool(self.body) and not self.parameters and '"' not in self.body


def of(file: str, name: str) -> bool:
    """Return whether ``file`` is a path of the header ``name`` ("linux/vfio.h"): ends with it."""
    return file.endswith(f"/{name}")


def split(text: str, name: str) -> tuple[dict[str, Macro], str]:
    """Return the macros that the header ``name`` defines, and its code without them."""
    macros: dict[str, Macro] = {}
    code, block, inside, apart = [], 0, False, True
    for line in text.splitlines():
        if marker := _MARKER.match(line):
            inside = of(marker[1], name)
        elif not inside:
            continue
        elif match := _MACRO.match(line):
            block += apart
            apart = False
            macros[match[1]] = Macro(match[2] or "", " ".join((match[3] or "").split()), block)
        elif match := _UNDEF.match(line):
            macros.pop(match[1], None)
        elif line.strip():
            apart = True
            code.append(line)
    return macros, "\n".join(code)
