# SPDX-License-Identifier: GPL-2.0-only
"""The functions that a series adds, and those of them that user space can reach.

Both are found in the text of the kernel's C files, without a compiler. A function is reachable if a
table of operations that system calls use has its name, or if a reachable function of the same
folders mentions it. So a handler counts that a system call only installs. It is an upper bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from kpatch.model import Applied

# A definition in kernel style: its first line begins in column 0, and its body ends with a brace
# there. The name is the word before the first parenthesis.
_FUNCTION = re.compile(
    r"^(?!static const|struct \w+ \w+ =|#|typedef|enum|union)"
    r"[A-Za-z_][^;{}()=]*?\b(?P<name>\w+)\([^;{}]*\)[^;{}()]*\n\{\n(?P<body>.*?)^\}",
    re.MULTILINE | re.DOTALL,
)
# Tables of functions that system calls lead to.
_TABLE = re.compile(
    r"struct (?:file_operations|vfio_device_ops|genl_ops|genl_small_ops|genl_split_ops"
    r"|genl_family) \w+(?:\[\w*\])?[^=;]*=\s*\{(?P<body>.*?)^\};",
    re.MULTILINE | re.DOTALL,
)
_MEMBER = re.compile(r"\.\w+\s*=\s*&?(\w+)")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Functions:
    """The names of the functions that a series adds, sorted; ``reachable`` are some of them."""

    added: tuple[str, ...]
    reachable: tuple[str, ...]


def functions(applied: Applied) -> Functions:
    """Return the functions that the series ``applied`` adds to the kernel's C files."""
    changed = {
        change.path: (change.content or b"").decode("latin-1")
        for change in applied.changes
        if change.path.endswith((".c", ".h")) and not change.path.startswith("tools/")
    }
    before = {path: _pristine(applied, path) for path in changed}
    texts = _beside(applied, changed) | changed
    known = {name for text in before.values() for name in _bodies(text)}
    bodies: dict[str, str] = {}
    for text in texts.values():
        for name, body in _bodies(text).items():
            bodies[name] = bodies.get(name, "") + body
    mine = {name for text in changed.values() for name in _bodies(text)} - known
    found = _closure(_roots(texts.values()), bodies)
    return Functions(tuple(sorted(mine)), tuple(sorted(mine & found)))


def _beside(applied: Applied, changed: Mapping[str, str]) -> dict[str, str]:
    """Return the C files in the folders of the changed ones: their tables may have the roots."""
    folders = {PurePosixPath(path).parent for path in changed}
    return {
        str(path): _pristine(applied, str(path))
        for folder in folders
        for file in (applied.tree.path / folder).glob("*.c")
        if str(path := folder / file.name) not in changed
    }


def _pristine(applied: Applied, path: str) -> str:
    file = applied.tree.path / path
    return file.read_text("latin-1") if file.is_file() else ""


def _bodies(text: str) -> dict[str, str]:
    """Return the body of each function that ``text`` defines, by name; of several, all."""
    bodies: dict[str, str] = {}
    for match in _FUNCTION.finditer(_COMMENT.sub("", text)):
        bodies[match["name"]] = bodies.get(match["name"], "") + match["body"]
    return bodies


def _roots(texts: Iterable[str]) -> set[str]:
    """Return the functions in the tables of operations of ``texts``."""
    return {
        name
        for text in texts
        for table in _TABLE.finditer(_COMMENT.sub("", text))
        for name in _MEMBER.findall(table["body"])
    }


def _closure(roots: Iterable[str], bodies: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    open_ = [name for name in roots if name in bodies]
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            open_ += [word for word in set(_WORD.findall(bodies[name])) if word in bodies]
    return found
