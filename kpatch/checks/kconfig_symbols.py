# SPDX-License-Identifier: GPL-2.0-only
"""Find symbols that no Kconfig file defines, and selects that ignore dependencies.

Undefined symbols are most often misspelt. Uses are CONFIG_NAME in C files, assembler files and
Makefiles, and NAME in the conditions of Kconfig files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from kpatch.build import config, worktree
from kpatch.checks.context import Context
from kpatch.checks.lines import Line, lines, placed
from kpatch.errors import HarnessError
from kpatch.model import Applied, Finding
from kpatch.tables.flavors import DEFAULT_FLAVOR
from kpatch.tables.outcomes import CheckOutcome

RECIPE = "3"
"""Part of the cache key of findings. Increase it if a change here makes other findings."""

_USED = re.compile(r"\bCONFIG_([A-Z0-9_]+)\b(?!\s*##)")
_ASKED = re.compile(r"^\s*(?:depends on|select|imply|visible if|if)\b(?P<condition>.*)")
_NAME = re.compile(r"\b[A-Z][A-Z0-9_]+\b")
_DEFINED = re.compile(r"^\s*(?:menu)?config\s+([A-Za-z0-9_]+)", re.MULTILINE)
_SELECTS = re.compile(r"\s+select\s+([A-Za-z0-9_]+)")
_CODE = re.compile(r".+\.[chS]|(?:.*/)?(?:Makefile|Kbuild)")
_KCONFIG = re.compile(r"(?:.*/)?Kconfig[^/]*")


def check(context: Context) -> Iterator[Finding]:
    """Yield the findings (WARN) about added lines.

    They are undefined symbols, each at its first use in the series, and selects of symbols whose
    dependencies the selecting symbol does not imply.
    """
    told: set[str] = set()
    for patch in context.patches:
        state = context.after(patch.number)
        added = lines(context, patch).added
        used = [(line, name) for line in added for name in _names(line.file, line.text)]
        parts = (RECIPE, state.tree.tree_id, state.delta_id, patch.diff.decode("latin-1"))
        found = context.memo("kconfig", parts, partial(_undefined, context, patch.number, used))
        yield from placed(context, patch, [one for one in found if one.text not in told])
        told |= {one.text for one in found}
        if made := [pair for line in added if (pair := _select(context, state, line))]:
            yield from placed(context, patch, _unmet(context, state, parts, made))


def _undefined(context: Context, count: int, used: list[tuple[Line, str]]) -> Iterator[Finding]:
    defined = _defined(context, count) if used else frozenset()
    seen: set[str] = set()
    for line, name in used:
        if not {name, name.removesuffix("_MODULE")} & defined and name not in seen:
            seen.add(name)
            text = f"no Kconfig file defines CONFIG_{name}"
            yield Finding(text, CheckOutcome.WARN, file=line.file, line=line.number)


def _select(context: Context, state: Applied, line: Line) -> tuple[Line, str, str] | None:
    """Return the line, and the two symbols if it makes one select the other; else None."""
    selected = _SELECTS.match(line.text)
    if not selected or not _KCONFIG.fullmatch(line.file):
        return None
    text = (context.content(state, line.file) or b"").decode(errors="replace").split("\n")
    above = _DEFINED.findall("\n".join(text[: line.number]))
    return (line, above[-1], selected[1]) if above else None


def _unmet(
    context: Context, state: Applied, parts: tuple[str, ...], made: list[tuple[Line, str, str]]
) -> tuple[Finding, ...]:
    """Return a finding for each select in ``made`` that may break dependencies.

    If the Kconfig files cannot be parsed, a note says so. ``parts`` is the cache key.
    """
    lines_of = {(selecting, selected): line for line, selecting, selected in made}

    def find() -> Iterator[Finding]:
        with worktree.config_source(state, DEFAULT_FLAVOR, stage=context.stage) as source:
            broken = config.unmet_selects(
                lines_of,
                source=source,
                source_id=worktree.config_id(state),
                version=state.tree.version,
                stage=context.stage,
            )
        for selecting, selected, missing in broken:
            line = lines_of[selecting, selected]
            text = f"{selecting} selects {selected}, whose dependencies may be unmet"
            needs = (
                f"{selected} depends on {' && '.join(missing)}, which {selecting} does not imply"
            )
            yield Finding(
                text, CheckOutcome.WARN, file=line.file, line=line.number, details=(needs,)
            )

    try:
        return context.memo("kconfig-selects", parts, find)
    except HarnessError as error:
        context.note(f"dependencies of selected symbols are not judged: {error.cause}")
        return ()


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
