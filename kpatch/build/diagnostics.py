# SPDX-License-Identifier: GPL-2.0-only
"""Warnings of a build by identity, and the record of those that the objects of a folder have.

A build prints the warnings of those files that it compiles. So that the warnings of a state are
known although most of its objects were compiled before, a `Record` keeps them by step of kbuild
("CC drivers/vfio/vfio_main.o"): a step that runs again replaces its own.

make has to run with ``--output-sync=target``, so that the lines between two steps belong to the
first of them.
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
"""The option of make that prints the output of a step in one piece."""

NAME = "warnings.json"
"""File name of a record."""

KERNEL_DOC = "kernel-doc"
"""The flag of a warning of kernel-doc, which W=1 runs."""

MOST_DETAILS = 12

KINDS = (".c", ".S")
OBJECTS = ".obj"
"""The folder of the objects within that of the source (`kpatch.build.worktree`)."""

_COMPILES = re.compile(r"(?:CC|AS|CHECK)(?: \[M\])? (?P<stem>.+)\.[ocS]")

# gcc, clang, sparse: FILE:LINE:COLUMN: warning: TEXT [-WFLAG]; as: FILE:LINE: Warning: TEXT;
# Kconfig: FILE:LINE:warning: TEXT; sparse also prints errors, without which it goes on.
_PLACED = re.compile(
    r"(?P<file>[^\s:]+):(?P<line>\d+):(?:(?P<column>\d+):)? ?"
    r"(?P<kind>[Ww]arning|error): (?P<text>.+?)(?: \[(?P<flag>-W[\w=+-]+)\])?"
)
# kernel-doc of 7.3: Warning: FILE:LINE TEXT (tools/docs/kernel-doc); before, as gcc.
_KERNEL_DOC = re.compile(r"Warning: (?P<file>[^\s:]+):(?P<line>\d+):? (?P<text>.+)")
# objtool (warn.h): OBJECT.o: warning: objtool: FUNCTION+0x1: TEXT
_OBJTOOL = re.compile(
    r"(?P<stem>\S+)\.o: warning: "
    r"(?P<text>objtool: (?:(?P<function>[\w.]+)(?:\+0x[0-9a-f]+|\(\)))?.+)"
)
# modpost: WARNING: modpost: TEXT; ld: [FILE.o: ]warning: TEXT
_LINKING = re.compile(r"(?P<text>WARNING: modpost: .+|\S*\bld(?:\.lld)?: (?:\S+ )?warning: .+)")
# sparse prints both types of an "incorrect type" in lines of their own, at the same place.
_CONTINUED = re.compile(r"(?P<place>[^\s:]+:\d+:\d+): {2,}(?P<text>\S.*)")

# Parts of a message that change if lines are added elsewhere.
_VARIABLE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=\w):\d+(?::\d+)?\b"), ""),  # another place, FILE:LINE:COLUMN
    (re.compile(r"\bon line \d+|\bline \d+"), "line"),
    (re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?"), ""),  # an offset within a function
    (re.compile(r"\b(__UNIQUE_ID_\w*?|__compiletime_assert_)\d+\b"), r"\1"),  # __COUNTER__
    (re.compile(r"\b(frame size of) \d+"), r"\1"),
)

# The line that begins a function, as git finds it for the header of a hunk; no label.
_BEGINS = re.compile(r"[A-Za-z_$]\w*\b(?!\s*:(?!:)).*\(")
_NAMED = re.compile(r"(?P<name>\w+)\s*\((?P<first>\s*\w+)?")
# SYSCALL_DEFINE3(name, …), DEFINE_SHOW_ATTRIBUTE(name): the name of the macro says too little.
_MACRO = re.compile(r"[A-Z][A-Z0-9_]+")


@dataclass(frozen=True)
class Diagnostic:
    """A warning, or an error of a checker; its place is in the state in which it was printed.

    ``file`` is relative to the tree, "" if none is known. ``function`` is the one around the line,
    "" outside of a function. ``flag`` is the compiler's option that asks for it ("-Wunused"),
    KERNEL_DOC, or "". ``error``: the compiler or checker calls it an error. ``details`` are the
    lines that follow it: the source line, notes.
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
        """Return what stays the same if lines are added or removed elsewhere."""
        return self.file, self.function, self.flag, stable(self.text)

    @property
    def message(self) -> str:
        """Return the message as the tool prints it, without the place."""
        return f"{self.text} [{self.flag}]" if self.flag else self.text


Identity = tuple[str, str, str, str]
Record = Mapping[str, tuple[Diagnostic, ...]]


def stable(text: str) -> str:
    """Return a message without line numbers, offsets and counters."""
    for pattern, instead in _VARIABLE:
        text = pattern.sub(instead, text)
    return text


def by_identity(record: Record) -> dict[Identity, Diagnostic]:
    """Return the warnings of a record, each identity once."""
    return {one.identity: one for step in sorted(record) for one in record[step]}


def parse(text: str, *, source: Path) -> dict[str, tuple[Diagnostic, ...]]:
    """Return the warnings of a build's output by step; steps without warnings have an empty tuple.

    ``source`` is the folder of the source as the output names it; functions are looked up there.
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
    """Return ``record`` after a build that has ``printed``; steps without warnings are left out.

    Steps that compiled a file which ``source`` no longer has are left out, too.
    """
    merged = {**record, **printed}
    return {step: found for step, found in merged.items() if found and _current(step, source)}


def of_objects(record: Record, objects: Iterable[str]) -> dict[str, tuple[Diagnostic, ...]]:
    """Return what the record has of the steps that compile or check the sources of ``objects``."""
    stems = {name.rpartition(".")[0] for name in objects}
    matches = {step: _COMPILES.fullmatch(step) for step in record}
    return {
        step: record[step] for step, match in matches.items() if match and match["stem"] in stems
    }


def without_kernel_doc(record: Record) -> dict[str, tuple[Diagnostic, ...]]:
    """Return a record without the warnings of kernel-doc, which has a check of its own."""
    return {
        step: tuple(one for one in found if one.flag != KERNEL_DOC)
        for step, found in record.items()
    }


def _current(step: str, source: Path) -> bool:
    """Return whether the file that a step compiles is there; true for steps of another kind."""
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
    """Write a record to the file ``path``."""
    path.write_text(json.dumps(content(record), indent=1) + "\n", encoding="utf-8")


def content(record: Record) -> dict[str, list[dict[str, Any]]]:
    """Return a record as JSON's types."""
    return {step: [dataclasses.asdict(one) for one in record[step]] for step in sorted(record)}


def record_of(
    content: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, tuple[Diagnostic, ...]]:
    """Return the record that was made JSON's types by `content`."""
    return {
        step: tuple(Diagnostic(**{**item, "details": tuple(item["details"])}) for item in items)
        for step, items in content.items()
    }


def function_at(text: str, line: int) -> str:
    """Return the name of the function around a line of a C source, "" if there is none.

    The kernel's style is relied upon: a function begins and ends in the first column.
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
    """Yield the warnings of the output of one step."""
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
    """Return the warning that a line begins, None if it begins none."""
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
    """Return whether a warning is kernel-doc's, which alone tells of a C file without a column."""
    kind = groups.get("kind", "warning")
    c_file = str(groups["file"]).endswith((".c", ".h"))
    return kind == "warning" and not groups.get("column") and c_file


def _longer(warning: Diagnostic, line: str, place: str) -> Diagnostic:
    """Return the warning with one more line of its output."""
    if (match := _CONTINUED.fullmatch(line)) and match["place"] == place:
        return dataclasses.replace(warning, text=f"{warning.text}; {match['text']}")
    if len(warning.details) == MOST_DETAILS:
        return warning
    return dataclasses.replace(warning, details=(*warning.details, line))


def _text(source: Path, file: str) -> str:
    """Return a source file's text, "" if it is not a file of the tree.

    The name comes from the output of a build, which may name any file of the host.
    """
    path = (source / file).resolve()
    if not path.is_relative_to(source.resolve()) or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def new(
    states: Iterable[Mapping[Identity, Diagnostic] | None],
) -> Iterator[tuple[int, int, Diagnostic]]:
    """Yield the warnings that the first of ``states``, the base, does not have.

    Each with the number of the state that brings it, and of the one that takes it away for good, 0
    if the last one has it. A state whose warnings are not known (it does not build) is None.
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
