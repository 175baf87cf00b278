# SPDX-License-Identifier: GPL-2.0-only
"""Find symbols that a patch uses and no Kconfig file defines: most of them are misspelt.

Uses are CONFIG_NAME in C files, assembler files and Makefiles, and NAME in the conditions of
Kconfig files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from kpatch.checks.context import Context
from kpatch.checks.lines import Line, lines, placed
from kpatch.model import Finding
from kpatch.tables.outcomes import CheckOutcome

RECIPE = "2"
"""Part of the cache key of findings. Increase it if a change here makes other findings."""

_USED = re.compile(r"\bCONFIG_([A-Z0-9_]+)\b(?!\s*##)")
_ASKED = re.compile(r"^\s*(?:depends on|select|imply|visible if|if)\b(?P<condition>.*)")
_NAME = re.compile(r"\b[A-Z][A-Z0-9_]+\b")
_DEFINED = re.compile(r"^\s*(?:menu)?config\s+([A-Za-z0-9_]+)", re.MULTILINE)
_CODE = re.compile(r".+\.[chS]|(?:.*/)?(?:Makefile|Kbuild)")
_KCONFIG = re.compile(r"(?:.*/)?Kconfig[^/]*")


def check(context: Context) -> Iterator[Finding]:
    """Yield a finding (WARN) for each undefined symbol in added lines, at the series' first use."""
    told: set[str] = set()
    for patch in context.patches:
        state = context.after(patch.number)
        used = [
            (line, name)
            for line in lines(context, patch).added
            for name in _names(line.file, line.text)
        ]
        parts = (RECIPE, state.tree.tree_id, state.delta_id, patch.diff.decode("latin-1"))
        found = context.memo("kconfig", parts, partial(_undefined, context, patch.number, used))
        yield from placed(context, patch, [one for one in found if one.text not in told])
        told |= {one.text for one in found}


def _undefined(context: Context, count: int, used: list[tuple[Line, str]]) -> Iterator[Finding]:
    defined = _defined(context, count) if used else frozenset()
    seen: set[str] = set()
    for line, name in used:
        if not {name, name.removesuffix("_MODULE")} & defined and name not in seen:
            seen.add(name)
            text = f"no Kconfig file defines CONFIG_{name}"
            yield Finding(text, CheckOutcome.WARN, file=line.file, line=line.number)


def _names(file: str, text: str) -> list[str]:
    if _CODE.fullmatch(file):
        return _USED.findall(text)
    if _KCONFIG.fullmatch(file) and (match := _ASKED.match(text)):
        return _NAME.findall(re.sub(r'"[^"]*"', "", match["condition"]))
    return []


def _defined(context: Context, count: int) -> frozenset[str]:
    """Return the symbols that Kconfig files define after ``count`` patches."""
    base: dict[str, list[str]] = context.once(
        "kconfig-base", dict, lambda: _symbols(context.tree.path)
    )
    changed = {
        change.path: _DEFINED.findall((change.content or b"").decode(errors="replace"))
        for change in context.after(count).changes
        if _KCONFIG.fullmatch(change.path)
    }
    return frozenset(chain.from_iterable((base | changed).values()))


def _symbols(tree: Path) -> dict[str, list[str]]:
    """Map the path of each Kconfig file, relative to ``tree``, to the symbols that it defines."""
    return {
        str(path.relative_to(tree)): _DEFINED.findall(path.read_text(errors="replace"))
        for path in tree.rglob("Kconfig*")
        if path.is_file()
    }
