# SPDX-License-Identifier: GPL-2.0-only
"""Parse the warnings of kernel builds, keep a record of them, and find those that patches add.

Errors that a compiler or a checker prints are recorded like warnings.

A build prints warnings only for the files that it compiles. A `Record` has the warnings of all
objects of a worktree, also of those that earlier builds compiled. It maps each step of kbuild
("CC drivers/vfio/vfio_main.o") to the warnings of its last run.

make has to run with ``--output-sync=target``, so that the lines between the lines of two steps
belong to the first of the two steps.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpatch.build import log

SYNCED = "--output-sync=target"
"""The option by which make prints the output of each step in one piece."""

NAME = "warnings.json"
"""File name of the `Record` of a kernel, in the kernel's cache entry."""

KERNEL_DOC = "kernel-doc"
"""Value of `Diagnostic.flag` for a warning of kernel-doc, which kbuild runs with W=1."""

MOST_DETAILS = 12

KINDS = (".c", ".S")
OBJECTS = ".obj"
"""Name of the folder of the objects, inside a worktree's source (`kpatch.build.worktree`)."""

_COMPILES = re.compile(r"(?:CC|AS|CHECK)(?: \[M\])? (?P<stem>.+)\.[ocS]")

# gcc, clang, sparse: FILE:LINE:COLUMN: warning: TEXT [-WFLAG]; as: FILE:LINE: Warning: TEXT;
# Kconfig: FILE:LINE:warning: TEXT. Errors match, too: sparse prints some and does not fail.
_PLACED = re.compile(
    r"(?P<file>[^\s:]+):(?P<line>\d+):(?:(?P<column>\d+):)? ?"
    r"(?P<kind>[Ww]arning|error): (?P<text>.+?)(?: \[(?P<flag>-W[\w=+-]+)\])?"
)
# kernel-doc of 7.3: Warning: FILE:LINE TEXT (tools/docs/kernel-doc); before, gcc's format without
# a column.
_KERNEL_DOC = re.compile(r"Warning: (?P<file>[^\s:]+):(?P<line>\d+):? (?P<text>.+)")
# objtool (warn.h): OBJECT.o: warning: objtool: FUNCTION+0x1: TEXT
_OBJTOOL = re.compile(
    r"(?P<stem>\S+)\.o: warning: "
    r"(?P<text>objtool: (?:(?P<function>[\w.]+)(?:\+0x[0-9a-f]+|\(\)))?.+)"
)
# modpost: WARNING: modpost: TEXT; ld: [FILE.o: ]warning: TEXT
_LINKING = re.compile(r"(?P<text>WARNING: modpost: .+|\S*\bld(?:\.lld)?: (?:\S+ )?warning: .+)")
# After an "incorrect type" warning sparse prints the two types, each on a line with the same place.
_CONTINUED = re.compile(r"(?P<place>[^\s:]+:\d+:\d+): {2,}(?P<text>\S.*)")

# Parts of a message that change if code is added elsewhere, and what replaces them.
_VARIABLE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=\w):\d+(?::\d+)?\b"), ""),  # another place, FILE:LINE:COLUMN
    (re.compile(r"\bon line \d+|\bline \d+"), "line"),
    (re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?"), ""),  # an offset within a function
    (re.compile(r"\b(__UNIQUE_ID_\w*?|__compiletime_assert_)\d+\b"), r"\1"),  # __COUNTER__
    (re.compile(r"\b(frame size of) \d+"), r"\1"),
)

# The first line of a function, as git finds it for the header of a hunk. A label does not match.
_BEGINS = re.compile(r"[A-Za-z_$]\w*\b(?!\s*:(?!:)).*\(")
_NAMED = re.compile(r"(?P<name>\w+)\s*\((?P<first>\s*\w+)?")
# SYSCALL_DEFINE3(name, …), DEFINE_SHOW_ATTRIBUTE(name): many functions have the same macro, so the
# first argument is taken as the name.
_MACRO = re.compile(r"[A-Z][A-Z0-9_]+")


@dataclass(frozen=True)
class Diagnostic:
    """A warning or an error that a compiler or a checker has printed.

    ``file`` and ``line`` are its place in the source as it was then; ``file`` is relative to the
    tree, "" if unknown. ``function`` is the name of the function that contains the line, "" if
    there is none. ``flag`` is the compiler option that enables the warning ("-Wunused"),
    KERNEL_DOC, or "". ``error`` is true if the compiler or checker calls it an error. ``details``
    are up to MOST_DETAILS lines that follow the message: the source line, notes.
    """

    file: str
    line: int | None
    function: str
    flag: str
    text: str
    error: bool = False
    details: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Return file, function, flag and `stable` text. They do not change if lines move."""
        return self.file, self.function, self.flag, stable(self.text)

    @property
    def message(self) -> str:
        """Return the text, followed by the flag in brackets if there is one."""
        return f"{self.text} [{self.flag}]" if self.flag else self.text


Identity = tuple[str, str, str, str]
Record = Mapping[str, tuple[Diagnostic, ...]]


def stable(text: str) -> str:
    """Return the message ``text`` without line numbers, offsets, counters and frame sizes."""
    for pattern, instead in _VARIABLE:
        text = pattern.sub(instead, text)
    return text


def by_identity(record: Record) -> dict[Identity, Diagnostic]:
    """Return the diagnostics of all steps by identity.

    Of several with one identity the last is returned, in the order of the steps' names.
    """
    return {one.identity: one for step in sorted(record) for one in record[step]}


def parse(text: str, *, source: Path) -> dict[str, tuple[Diagnostic, ...]]:
    """Return the warnings and errors in ``text``, a build's output, by step; () if a step has none.

    Those before the first step have the step "", which is left out if there are none. Equal ones of
    a step are returned once. If a step occurs twice, its last output counts. ``source`` is the
    folder of the source, as the output names it; its files are read to find the function that
    contains the line.
    """
    found: dict[str, list[Diagnostic]] = {}
    step = ""
    block: list[str] = []

    def end() -> None:
        warnings = list(_of_block(block, source))
        if step or warnings:
            found.setdefault(step, []).extend(warnings)
        block.clear()

    for line in text.splitlines():
        begun = log.step(line)
        if begun is None:
            block.append(line)
        else:
            end()
            step = f"{begun[0]} {log.relative(begun[1], str(source))}"
            found[step] = []
    end()
    return {step: tuple(dict.fromkeys(warnings)) for step, warnings in found.items()}


def renewed(record: Record, printed: Record, *, source: Path) -> dict[str, tuple[Diagnostic, ...]]:
    """Return ``record`` updated by ``printed``, the warnings of a new build.

    A step of ``printed`` replaces the same step of ``record``. Left out are steps without warnings,
    and steps that compile a file that ``source`` does not have any more.
    """
    merged = {**record, **printed}
    return {step: found for step, found in merged.items() if found and _current(step, source)}


def of_objects(record: Record, objects: Iterable[str]) -> dict[str, tuple[Diagnostic, ...]]:
    """Return the part of ``record`` for the steps that compile or check sources of ``objects``.

    ``objects`` are paths of .o files, relative to the objects' folder.
    """
    stems = {name.rpartition(".")[0] for name in objects}
    matches = {step: _COMPILES.fullmatch(step) for step in record}
    return {
        step: record[step] for step, match in matches.items() if match and match["stem"] in stems
    }


def stems_with_errors(record: Record) -> set[str]:
    """Return the objects, without ".o", whose steps in ``record`` printed an error."""
    return {
        match["stem"]
        for step, found in record.items()
        if (match := _COMPILES.fullmatch(step)) and any(one.error for one in found)
    }


def without_kernel_doc(record: Record) -> dict[str, tuple[Diagnostic, ...]]:
    """Return ``record`` without the warnings of kernel-doc: a check of its own reports these."""
    return {
        step: tuple(one for one in found if one.flag != KERNEL_DOC)
        for step, found in record.items()
    }


def _current(step: str, source: Path) -> bool:
    """Return whether the file that ``step`` compiles exists; true for a step that compiles none.

    The file may be a source, or a generated file in the objects' folder.
    """
    match = _COMPILES.fullmatch(step)
    if match is None:
        return True
    folders = (source, source / OBJECTS)
    return any((folder / (match["stem"] + kind)).is_file() for folder in folders for kind in KINDS)


def read(path: Path) -> dict[str, tuple[Diagnostic, ...]]:
    """Return the record in the file ``path``; an empty one if there is none or it is damaged."""
    try:
        return record_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def write(path: Path, record: Record) -> None:
    """Write ``record`` to the file ``path`` atomically, in the format of `read`."""
    partial = path.with_name(f".{path.name}.new")
    partial.write_text(json.dumps(content(record), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def content(record: Record) -> dict[str, list[dict[str, Any]]]:
    """Return ``record`` as dicts, lists and values that json.dumps() accepts."""
    return {step: [dataclasses.asdict(one) for one in record[step]] for step in sorted(record)}


def record_of(
    content: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, tuple[Diagnostic, ...]]:
    """Return the record that the function `content` has converted to ``content``."""
    return {
        step: tuple(Diagnostic(**{**item, "details": tuple(item["details"])}) for item in items)
        for step, items in content.items()
    }


def function_at(text: str, line: int) -> str:
    """Return the name of the function that contains ``line`` of the C source ``text``; "" if none.

    Lines count from 1. The function is found by the kernel's coding style: its first line and its
    closing brace begin in the first column. For SYSCALL_DEFINE3(name, …) and other upper-case
    macros the name is the first argument.
    """
    lines = text.splitlines()[:line]
    for number, code in enumerate(reversed(lines)):
        if code.startswith("}") and number:
            return ""
        match = _NAMED.search(code) if _BEGINS.match(code) else None
        if match is not None:
            first = (match["first"] or "").strip()
            return first if first and _MACRO.fullmatch(match["name"]) else match["name"]
    return ""


def _of_block(lines: list[str], source: Path) -> Iterator[Diagnostic]:
    """Yield the warnings and errors in ``lines``, the output of one step."""
    current: Diagnostic | None = None
    place = ""
    for line in lines:
        begun = _begun(line, source)
        if begun is not None:
            if current is not None:
                yield current
            current, place = begun, line.partition(" ")[0].rstrip(":")
        elif current is not None:
            current = _longer(current, line, place)
    if current is not None:
        yield current


def _begun(line: str, source: Path) -> Diagnostic | None:
    """Return the warning or error whose first line is ``line``; None if it is another line."""
    if match := _PLACED.fullmatch(line) or _KERNEL_DOC.fullmatch(line):
        groups = match.groupdict()
        file = log.relative(groups["file"], str(source))
        number = int(groups["line"])
        function = function_at(_text(source, file), number)
        error = groups.get("kind") == "error"
        flag = groups.get("flag") or (KERNEL_DOC if _of_kernel_doc(groups) else "")
        return Diagnostic(file, number, function, flag, groups["text"], error)
    if match := _OBJTOOL.fullmatch(line):
        file = log.relative(match["stem"], str(source))
        kinds = (kind for kind in KINDS if (source / f"{file}{kind}").is_file())
        of = file + next(kinds, ".o")
        return Diagnostic(of, None, match["function"] or "", "", match["text"])
    if match := _LINKING.fullmatch(line):
        return Diagnostic("", None, "", "", match["text"])
    return None


def _of_kernel_doc(groups: Mapping[str, str | None]) -> bool:
    """Return whether a matched message is a warning of kernel-doc.

    It is if it is no error, is about a .c or .h file, and has no column: compilers print the
    column, and as prints "Warning" instead of "warning" after the place.
    """
    kind = groups.get("kind", "warning")
    c_file = str(groups["file"]).endswith((".c", ".h"))
    return kind == "warning" and not groups.get("column") and c_file


def _longer(warning: Diagnostic, line: str, place: str) -> Diagnostic:
    """Return ``warning`` with ``line``, the next line of the output, added.

    A line of sparse that continues the warning at ``place`` (FILE:LINE:COLUMN) is added to the
    text. Any other is added to the details, or dropped if these have MOST_DETAILS lines.
    """
    if (match := _CONTINUED.fullmatch(line)) and match["place"] == place:
        return dataclasses.replace(warning, text=f"{warning.text}; {match['text']}")
    if len(warning.details) == MOST_DETAILS:
        return warning
    return dataclasses.replace(warning, details=(*warning.details, line))


def _text(source: Path, file: str) -> str:
    """Return the text of the source ``file``; "" if it is not a file inside the tree ``source``.

    The name comes from the output of a build, which may name any file of the host.
    """
    path = (source / file).resolve()
    if not path.is_relative_to(source.resolve()) or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def new(
    states: Iterable[Mapping[Identity, Diagnostic] | None],
) -> Iterator[tuple[int, int, Diagnostic]]:
    """Yield (N, M, warning) for each warning that the base lacks: patch N adds it, M removes it.

    ``states`` are the base (state 0) and the tree after each patch (state N after patch N), each as
    its warnings by identity. A state that does not build is None, and is skipped. N is the first
    state with the warning. M is the first state after the last one with the warning; 0 if there is
    none. Nothing is yielded if the base does not build.
    """
    known = [(number, state) for number, state in enumerate(states) if state is not None]
    if not known or known[0][0] != 0:
        return
    base = known[0][1]
    seen: dict[Identity, tuple[int, Diagnostic]] = {}
    for number, state in known[1:]:
        for identity in state:
            if identity not in base:
                seen.setdefault(identity, (number, state[identity]))
    for identity, (number, warning) in seen.items():
        last = max(index for index, (_, state) in enumerate(known) if identity in state)
        gone = known[last + 1][0] if last + 1 < len(known) else 0
        yield number, gone, warning
