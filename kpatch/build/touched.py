# SPDX-License-Identifier: GPL-2.0-only
"""Find the Kconfig symbols that affect changed files, and the sources that include a header.

The symbols are found in the text of Makefiles, Kconfig files and sources; kbuild's own evaluation
would need a configured tree. The text is good enough: a symbol that is missed keeps its value, and
the tree's conf drops a value that a symbol cannot have.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from kpatch.build import log
from kpatch.lib import confine

Read = Callable[[str], str]
"""A function that takes a path in the tree and returns the file's text; "" if there is no file."""

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

# Symbols that keep their value: most of the kernel depends on them, or no kernel boots without.
FIXED = frozenset({"64BIT", "X86_64", "X86", "SMP", "MMU", "MODULES", "EXPERT", "COMPILE_TEST"})


def guards(paths: Iterable[str], read: Read) -> frozenset[str]:
    """Return the symbols that decide whether kbuild compiles the sources ``paths``.

    They are named in the lines of Makefiles that add the source's object, or a folder above it
    ("obj-$(CONFIG_VFIO) += vfio/").
    """
    found: set[str] = set()
    for path in paths:
        file = PurePosixPath(path)
        found |= _wanted(f"{file.stem}.o", read(f"{file.parent}/Makefile"))
        for folder in file.parents[:-1]:
            found |= _wanted(f"{folder.name}/", read(str(folder.parent / "Makefile")))
    return frozenset(found)


def _wanted(target: str, makefile: str) -> set[str]:
    """Return the symbols in the lines of ``makefile`` (its text) that decide about ``target``.

    These lines add the target ("main.o", "vfio/") to a list ("vfio-$(CONFIG_A) += main.o"), or add
    the object that is linked from this list ("obj-$(CONFIG_B) += vfio.o").
    """
    lines = [
        match for line in _CONTINUED.sub(" ", makefile).splitlines() if (match := _ADDS.match(line))
    ]
    targets, found = {target}, set[str]()
    for _ in range(3):  # an object, an object linked from it, an object linked from that
        for line in lines:
            if targets & set(line["right"].split()):
                found |= set(_SYMBOL.findall(line["left"]))
                if (part := _COMPOSITE.fullmatch(line["left"])) and part["name"] != "obj":
                    targets.add(f"{part['name']}.o")
    return found


def symbols(paths: Collection[str], read: Read) -> dict[str, str]:
    """Return name and type ("bool" or "tristate") of symbols that affect the changed ``paths``.

    These are the symbols of these two types that the Kconfig files in the files' own folders
    define, and those that the files mention (CONFIG_…). A symbol that is only mentioned is taken
    for a bool: its type is not known.
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
    """Yield name and random value of each of the `symbols` of ``paths``.

    They are sorted by name. Left out are the symbols in FIXED, those of `guards`, so that the files
    are still compiled, and those that select one of them.

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
    """Return the C sources that include ``header`` and have an object below ``objects``, sorted.

    ``header`` and the sources are paths in the tree. Beside each object NAME.o is a file
    .NAME.o.cmd, in which fixdep has listed the source and all files that the source includes.
    """
    needle = f"/{header} ".encode()
    texts = (file.read_bytes() for file in objects.rglob(".*.o.cmd"))
    matches = (_SOURCE.search(text) for text in texts if needle in text)
    return sorted(log.relative(match[1].decode(), confine.PLACE) for match in matches if match)
