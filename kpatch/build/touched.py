# SPDX-License-Identifier: GPL-2.0-only
"""Kconfig symbols around changed files, found in the text of Makefiles, Kconfig files and sources.

kbuild's own evaluation would need a configured tree. The text is good enough: a symbol that is
missed keeps its value, and the tree's conf drops a value that a symbol cannot have.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from kpatch.build import log
from kpatch.lib import confine

Read = Callable[[str], str]
"""Returns the text of a file of the tree, "" if there is none."""

_CONTINUED = re.compile(r"\\\n")
_ADDS = re.compile(r"(?P<left>[\w$()-]+)\s*[:+]?=\s*(?P<right>.*)")
_SYMBOL = re.compile(r"\bCONFIG_(\w+)")
_COMPOSITE = re.compile(r"(?P<name>[\w-]+?)-(?:y|m|objs|\$\(CONFIG_\w+\))")
_DEFINED = re.compile(
    r"^(?:menu)?config (?P<name>\w+)\n(?:\s*#.*\n)*\s+(?:def_)?(?P<kind>bool|tristate)\b",
    re.MULTILINE,
)

_BLOCK = re.compile(r"^(?:menu)?config (\w+)\n((?:[ \t#].*\n|\n)*)", re.MULTILINE)
_SELECTS = re.compile(r"^\s+select (\w+)", re.MULTILINE)

# Written by fixdep: source_NAME.o := PATH
_SOURCE = re.compile(rb"^source_\S+ := (\S+\.c)$", re.MULTILINE)

VALUES: Mapping[str, str] = {"bool": "yn", "tristate": "ymn"}

# Symbols whose value decides about most of the kernel, or that no config can do without.
FIXED = frozenset({"64BIT", "X86_64", "X86", "SMP", "MMU", "MODULES", "EXPERT", "COMPILE_TEST"})


def guards(paths: Iterable[str], read: Read) -> frozenset[str]:
    """Return the symbols on which it depends whether kbuild compiles the sources ``paths``."""
    found: set[str] = set()
    for path in paths:
        file = PurePosixPath(path)
        found |= _wanted(f"{file.stem}.o", read(f"{file.parent}/Makefile"))
        for folder in file.parents[:-1]:
            found |= _wanted(f"{folder.name}/", read(str(folder.parent / "Makefile")))
    return frozenset(found)


def _wanted(target: str, makefile: str) -> set[str]:
    """Return the symbols in the lines of a Makefile that add ``target``, and what it is part of."""
    lines = [
        match for line in _CONTINUED.sub(" ", makefile).splitlines() if (match := _ADDS.match(line))
    ]
    targets, found = {target}, set[str]()
    for _ in range(3):  # an object, a part of a module, a part of a part
        for line in lines:
            if targets & set(line["right"].split()):
                found |= set(_SYMBOL.findall(line["left"]))
                if (part := _COMPOSITE.fullmatch(line["left"])) and part["name"] != "obj":
                    targets.add(f"{part['name']}.o")
    return found


def symbols(paths: Collection[str], read: Read) -> dict[str, str]:
    """Return the symbols around the changed files ``paths``, each with its kind (bool, tristate).

    These are the ones that the Kconfig files of their folders define, and those that the files
    mention. The kind of a symbol that is only mentioned is not known: "bool".
    """
    found: dict[str, str] = {}
    for path in sorted(paths):
        for name in _SYMBOL.findall(read(path)):
            found.setdefault(name.removesuffix("_MODULE"), "bool")
    for folder in sorted({str(PurePosixPath(path).parent) for path in paths}):
        found |= {
            match["name"]: match["kind"] for match in _DEFINED.finditer(read(f"{folder}/Kconfig"))
        }
    return found


def randomised(paths: Collection[str], read: Read, *, seed: int) -> Iterator[tuple[str, str]]:
    """Yield random values for the symbols around ``paths``, except for what compiles the files.

    The value of a symbol depends on ``seed`` and its name alone, so that a new version of a series
    that mentions one more symbol is judged with the same values of the others.
    """
    sources = [path for path in paths if path.endswith((".c", ".S"))]
    kept = FIXED | guards(sources, read)
    kept |= _selecting(kept, paths, read)
    for name, kind in sorted(symbols(paths, read).items()):
        if name not in kept:
            yield name, random.Random(f"{seed} {name}").choice(VALUES[kind])  # noqa: S311


def _selecting(names: Collection[str], paths: Collection[str], read: Read) -> set[str]:
    """Return the symbols that select one of ``names`` in the Kconfig files beside ``paths``."""
    texts = (read(f"{folder}/Kconfig") for folder in {PurePosixPath(path).parent for path in paths})
    blocks = (block for text in texts for block in _BLOCK.findall(text))
    return {name for name, body in blocks if set(_SELECTS.findall(body)) & set(names)}


def includers(objects: Path, header: str) -> list[str]:
    """Return the sources whose compiled objects below ``objects`` depend on ``header``, sorted.

    Each object has a file .NAME.o.cmd, in which fixdep lists the files that it depends on.
    """
    needle = f"/{header} ".encode()
    texts = (file.read_bytes() for file in objects.rglob(".*.o.cmd"))
    matches = (_SOURCE.search(text) for text in texts if needle in text)
    return sorted(log.relative(match[1].decode(), confine.PLACE) for match in matches if match)
