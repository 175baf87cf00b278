# SPDX-License-Identifier: GPL-2.0-only
"""Find the line of a source that the kernel means by FUNCTION+OFFSET in a report.

The sources that a series touches are compiled with debug information, which changes no code. Their
objects are kept with the kernel: there the place of a function in the object is known, also after
the linker has moved it. binutils does the rest; tables of the whole kernel would take a minute.

Source: scripts/Makefile.lib (modkern_cflags), nm(1), addr2line(1).
"""

from __future__ import annotations

import functools
import posixpath
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from kpatch.build import objects
from kpatch.build.worktree import Worktree
from kpatch.lib import confine, environment, process
from kpatch.model import Applied

FOLDER = "lines"
"""Folder of a kernel in the cache with the objects, at their paths in the tree."""

MOST_BYTES = 1 << 20
"""Output of a program above which it is ended: an object may be made to confuse it."""

# "[    1.0] RIP: 0010:f+0x1/0x20", "[    1.0]  f+0x1/0x20". The address of a caller is that of the
# instruction after its call.
_FRAME = re.compile(
    r"(?P<rip>RIP: \d+:)?(?<![\w.])(?P<name>[A-Za-z_][\w.]*)\+0x(?P<at>[\da-f]+)/0x[\da-f]+"
)

# nm's table: name, value, class, type, size, line, section.
_FUNCTION = re.compile(r"(\S+) *\|([\da-f]+)\| +[tTwW] +\| +FUNC\|[\da-f]+\| *\|(\.\S+)")


def settings(applied: Applied) -> tuple[str, ...]:
    """Return the variables for make's command line that give the touched objects line numbers."""
    flag = objects.if_touched(applied, "-g")
    return (f"CFLAGS_KERNEL={flag}", f"CFLAGS_MODULE={flag}") if flag else ()


def keep(worktree: Worktree, applied: Applied, partial: Path) -> None:
    """Copy the touched objects from the worktree to the kernel's folder ``partial``.

    HarnessError (exit 4) if one is no regular file.
    """
    for stem in objects.stems(applied):
        name = PurePosixPath(f"{stem}.o")
        if (worktree.obj / name).exists():  # the config may leave it out
            kept = partial / FOLDER / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(confine.product(worktree.obj, Path(name)), kept)


class Lines:
    """The functions of the touched objects of a kernel, which are in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def of(cls, image: Path) -> Lines:
        """Return those beside the kernel ``image``; none if its series touches no source."""
        return cls(image.with_name(FOLDER))

    def annotated(self, text: str) -> tuple[str, str]:
        """Return ``text`` with the source line after each frame, and the first one of a .c file.

        A source line is "drivers/vfio/pci/vfio_pci_core.c:81". A line of code that was inlined is
        followed by the line that called it, and so on. A frame stays as it is if it is not of a
        touched object, or its function is there twice; the second value is "" if all are.
        """
        frames = list(_FRAME.finditer(text))
        found = dict(self._found(frames))
        lines = [line for frame in frames for line in found.get(frame[0], ())]
        first = next((line for line in lines if ".c:" in line), "")

        def with_lines(frame: re.Match[str]) -> str:
            lines = found.get(frame[0])
            return f"{frame[0]} ({', inlined at '.join(lines)})" if lines else frame[0]

        return _FRAME.sub(with_lines, text), first

    @functools.cached_property
    def _places(self) -> dict[str, list[tuple[Path, str, int]]]:
        """The objects that have a function, with its section and its address in that, by name."""
        places = defaultdict(list)
        for path in sorted(self._folder.rglob("*.o")):
            table = self._run(["nm", "--format=sysv", str(path)])
            for name, value, section in _FUNCTION.findall(table):
                places[name].append((path, section, int(value, 16)))
        return places

    def _found(self, frames: Sequence[re.Match[str]]) -> Iterator[tuple[str, list[str]]]:
        """Yield the text of each frame that has lines, and these, the innermost first."""
        asked: dict[tuple[Path, str], dict[str, int]] = defaultdict(dict)
        for frame in frames:
            if len(places := self._places.get(frame["name"], [])) == 1:
                path, section, value = places[0]
                asked[path, section][frame[0]] = value + int(frame["at"], 16) - (not frame["rip"])
        for (path, section), addresses in asked.items():
            argv = ["addr2line", "-a", "-i", "-j", section, "-e", str(path)]
            answer = self._run([*argv, *(f"{address:#x}" for address in addresses.values())])
            answers = re.split(r"^0x.*\n", answer, flags=re.MULTILINE)[1:]
            for text, lines in zip(addresses, answers, strict=False):  # none if it failed
                known = [_source(line) for line in lines.splitlines()]
                if known and all(known):
                    yield text, known

    def _run(self, argv: list[str]) -> str:
        """Return the output of a program that reads objects; "" if it fails or prints too much."""
        words = confine.wrap(argv, readable=[self._folder])
        status, output = process.capture(
            words, env=environment.clean(), watch=lambda printed: printed > MOST_BYTES
        )
        return output if status == 0 else ""


def _source(line: str) -> str:
    """Return ``line`` of addr2line in short; "" if it says that it does not know.

    It is "/build/source/.obj/../fs/a.c:12 (discriminator 1)", with the top of the tree as a
    confined build sees it, or that of a worktree (`kpatch.build.worktree.Worktree.src`).
    """
    file, _, number = line.partition(" ")[0].rpartition(":")
    if not number.isdecimal() or number == "0":
        return ""
    path = posixpath.normpath(file)
    for top in (f"{confine.PLACE}/", "/src/"):
        path = path.rpartition(top)[2]
    return f"{path}:{number}"
