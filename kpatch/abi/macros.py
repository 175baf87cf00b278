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
    """A macro of a header.

    ``parameters`` are those of a function-like macro with their parentheses ("(x)"), else "".
    ``body`` is its replacement text, "" if it has none. ``block`` is a number: macros with the same
    one follow each other without code between them.
    """

    parameters: str
    body: str
    block: int

    @property
    def is_number(self) -> bool:
        """Whether the macro may be a number: it is not empty, not function-like, and has no string.

        A string has to be excluded, as gcc can put its address into a 64-bit variable.
        """
        return bool(self.body) and not self.parameters and '"' not in self.body


def of(file: str, name: str) -> bool:
    """Return whether ``file`` ends with "/" and ``name``, the name of a header ("linux/vfio.h")."""
    return file.endswith(f"/{name}")


def split(text: str, name: str) -> tuple[dict[str, Macro], str]:
    """Return the macros, by name, that the header ``name`` defines, and its code without them.

    ``text`` is output of gcc -E -dD; the parts of it that come from other headers are left out.
    Macros that the header itself undefines later are left out, too.
    """
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
