# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What the inspector needs of iasl's disassembly: objects, notifications, calls.

iasl prints no such list, and acpiexec prints a notification only if the AML that sends it is
executed, so the text is scanned here: words, brackets, strings; no expressions.
Source: ACPI 6.5, 5.3 (search rules of names), 19.6 (ASL).
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field

from .tables import Source

NamePath = tuple[str, ...]

TOKEN = re.compile(
    r'(?P<skip>/\*.*?\*/|//[^\n]*|\s+)|"(?:[^"\\]|\\.)*"|[\\^]*[A-Za-z_][A-Za-z0-9_.]*|[\\^]+'
    r"|0x[0-9A-Fa-f]+|\d+|.",
    re.DOTALL,
)
NAME = re.compile(r"\\?\^*(?:[A-Z_][A-Z0-9_]{0,3}(?:\.[A-Z_][A-Z0-9_]{0,3})*)?")
BLOCKS = {"Scope", "Device", "Method", "Processor", "PowerResource", "ThermalZone"}
NUMBERS = {"Zero": 0, "One": 1}
ALIASES = 8


@dataclass(frozen=True)
class Word:
    """A token, and the number of its line."""

    text: str
    line: int


@dataclass(frozen=True)
class Call:
    """``name (arguments)`` in the scope ``scope``; in a method that is its path."""

    table: str
    line: int
    scope: NamePath
    in_method: bool
    name: str
    arguments: tuple[tuple[str, ...], ...]


@dataclass
class Firmware:
    """The objects of all tables by path, with the keyword that declares each, and what they do."""

    kinds: dict[NamePath, str] = field(default_factory=dict)
    values: dict[NamePath, tuple[str, ...]] = field(default_factory=dict)
    aliases: dict[NamePath, NamePath] = field(default_factory=dict)
    notifies: list[Call] = field(default_factory=list)
    calls: dict[NamePath, list[Call]] = field(default_factory=lambda: defaultdict(list))
    entries: dict[NamePath, tuple[str, ...]] = field(default_factory=dict)
    locals: dict[tuple[NamePath, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def resolve(self, scope: NamePath, name: str) -> NamePath | None:
        """Return the path of the object that ``name`` means in ``scope``; None if none has it."""
        path = absolute(scope, name)
        if name[0] not in "\\^" and "." not in name:
            while path not in self.kinds and len(path) > 1:
                path = (*path[:-2], path[-1])
        for _ in range(ALIASES):
            if path not in self.aliases:
                break
            path = self.aliases[path]
        return path if not path or path in self.kinds else None


def absolute(scope: NamePath, name: str) -> NamePath:
    """Return the path of ``name`` without a search: as if it were declared in ``scope``."""
    bare = name.lstrip("\\^")
    segments = tuple(part.rstrip("_") or "_" for part in bare.split(".")) if bare else ()
    if name.startswith("\\"):
        return segments
    up = len(name) - len(bare)
    return scope[: max(len(scope) - up, 0)] + segments


def number(words: tuple[str, ...]) -> int | None:
    """Return the number that is the whole expression, or None."""
    if len(words) != 1:
        return None
    word = words[0]
    if word in NUMBERS:
        return NUMBERS[word]
    return int(word, 0) if re.fullmatch(r"0x[0-9A-Fa-f]+|0|[1-9]\d*", word) else None


def scan(sources: list[Source]) -> Firmware:
    """Return what the sources declare and do."""
    firmware = Firmware()
    scans = [(source.name, _words(source.text)) for source in sources]
    for name, words in scans:
        _walk(firmware, name, words, declare=True)
    methods = {path[-1] for path, kind in firmware.kinds.items() if kind == "Method" and path}
    for name, words in scans:
        _walk(firmware, name, words, declare=False, methods=methods)
    return firmware


def _words(text: str) -> list[Word]:
    words, line = [], 1
    for match in TOKEN.finditer(text):
        if match["skip"] is None:
            words.append(Word(match[0], line))
        line += match[0].count("\n")
    return words


def _arguments(words: list[Word], start: int) -> tuple[tuple[str, ...], ...]:
    """Return the arguments of the bracket that opens at ``start``."""
    arguments: list[list[str]] = [[]]
    depth = 0
    for word in words[start : start + 400]:
        if word.text in ("(", "{"):
            depth += 1
            if depth == 1:
                continue
        elif word.text in (")", "}"):
            depth -= 1
            if not depth:
                break
        if word.text == "," and depth == 1:
            arguments.append([])
        else:
            arguments[-1].append(word.text)
    return tuple(tuple(argument) for argument in arguments)


def _walk(
    firmware: Firmware,
    table: str,
    words: list[Word],
    *,
    declare: bool,
    methods: set[str] | frozenset[str] = frozenset(),
) -> None:
    """Declare the objects of a table; or, when all are declared, note what its methods do."""
    stack: list[tuple[NamePath, bool]] = [((), False)]
    pending: tuple[NamePath, bool] | None = None
    for index, word in enumerate(words[:-1]):
        scope, in_method = stack[-1]
        text, called = word.text, words[index + 1].text == "("
        if text == "{":
            stack.append(pending or stack[-1])
            pending = None
        elif text == "}":
            if len(stack) > 1:
                stack.pop()
        elif text in BLOCKS and called:
            name = words[index + 2].text if index + 2 < len(words) else ""
            path = firmware.resolve(scope, name) if text == "Scope" and name else None
            path = absolute(scope, name) if path is None else path
            if declare and text != "Scope":
                firmware.kinds.setdefault(path, text)
            pending = (path, text == "Method")
        elif text in ("Name", "Alias") and called:
            if declare:
                _declare(firmware, scope, text, _arguments(words, index + 1))
        elif declare:
            continue
        elif text == "Notify" and called:
            call = Call(table, word.line, scope, in_method, text, _arguments(words, index + 1))
            firmware.notifies.append(call)
        elif in_method and re.fullmatch(r"Local[0-7]", text) and words[index + 1].text == "=":
            line = word.line
            rest = [w.text for w in words[index + 2 : index + 40] if w.line == line]
            firmware.locals[scope, text].append(" ".join(rest))
        elif in_method and text.rpartition(".")[2].lstrip("\\^").rstrip("_") in methods:
            target = firmware.resolve(scope, text)
            if target is not None and firmware.kinds.get(target) == "Method":
                given = _arguments(words, index + 1) if called else ()
                call = Call(table, word.line, scope, in_method, text, given)
                firmware.calls[target].append(call)


def _declare(
    firmware: Firmware, scope: NamePath, keyword: str, arguments: tuple[tuple[str, ...], ...]
) -> None:
    if len(arguments) < 2 or not all(arguments):
        return
    if keyword == "Name":
        path = absolute(scope, arguments[0][0])
        firmware.kinds.setdefault(path, keyword)
        firmware.values.setdefault(path, arguments[1])
    else:
        path = absolute(scope, arguments[1][0])
        source = firmware.resolve(scope, arguments[0][0])
        if source is not None and source != path:
            firmware.aliases[path] = source
