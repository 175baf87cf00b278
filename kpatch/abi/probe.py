# SPDX-License-Identifier: GPL-2.0-only
"""What the C compiler says of headers: which names they have, what these are, and what is not so.

Nothing is run that was compiled, so that the ABI of 32 bit needs no library of it. Values are read
from the assembler's input (as the kernel's own asm-offsets are), assertions fail in the parser.
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pycparser
from pycparser import c_ast

from kpatch.build.headers import Header
from kpatch.errors import HarnessError
from kpatch.lib import environment, process
from kpatch.tables.outcomes import ExitCode

WIDTHS = (64, 32)

# gcc's words that are not C, for a parser that only looks for names.
PLAIN_C = (
    "-D__attribute__(x)=",
    "-D__extension__=",
    "-D__signed__=signed",
    "-D__inline__=inline",
    "-D__int128=long",
)

MARK = "@kpatch"

_MACRO = re.compile(r"#define (\w+) (?!$)")
_VALUE = re.compile(rf"^\s*{MARK} (\S+) (-?\d+) (-?\d+) (-?\d+)$", re.MULTILINE)
_TEXT = re.compile(rf'^"{MARK}" "(\w+)" (".*")$', re.MULTILINE)
_BROKEN = re.compile(r'error: static assertion failed: "(.*)"$', re.MULTILINE)

HALF = 1 << 32


@dataclass(frozen=True)
class Member:
    """A member of a structure, ``size`` 0 for an array without a length; in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Layout:
    """A structure, in bytes; its members by name, in order."""

    size: int
    alignment: int
    members: dict[str, Member]


@dataclass(frozen=True)
class Declared:
    """A structure as a header declares it: its members, and which are arrays without a length."""

    header: str
    members: dict[str, bool]


@dataclass(frozen=True)
class Names:
    """What headers declare: constants, each with its header, and structures."""

    constants: dict[str, str]
    structures: dict[str, Declared]


@dataclass(frozen=True)
class Compiler:
    """gcc for one ABI (``width`` 64 or 32), with ``folders`` as the only place for headers."""

    folders: tuple[Path, ...]
    width: int

    def names(self, headers: Iterable[Header]) -> Names:
        """The names that ``headers`` declare, as far as their patterns are interested."""
        found = Names({}, {})
        for header in headers:
            text = self._preprocess(_include([header]), "-dD", *PLAIN_C)
            defines, code = _split(text)
            collector = _Collector()
            collector.visit(_parse(code, header))
            for name in (*defines, *collector.enumerators):
                if re.fullmatch(header.constants, name):
                    found.constants.setdefault(name, header.name)
            for name, members in collector.structures.items():
                if re.fullmatch(header.structures, name):
                    found.structures.setdefault(name, Declared(header.name, members))
        return found

    def values(self, headers: Iterable[Header], expressions: Mapping[str, str]) -> dict[str, int]:
        """What constant expressions of C are, by whatever name they are asked under (no blanks)."""
        lines = [f'SAY("{key}", {text})' for key, text in expressions.items()]
        source = f"{_include(headers)}{SAY}void say(void)\n{{\n{_lines(lines)}}}\n"
        text = self._gcc(source, "-S")
        return {key: _number(*map(int, words)) for key, *words in _VALUE.findall(text)}

    def texts(self, headers: Iterable[Header], names: Iterable[str]) -> dict[str, str]:
        """What macros are that stand for a text; others are left out."""
        lines = [f'"{MARK}" "{name}" {name}' for name in names]
        text = self._preprocess(_include(headers) + _lines(lines), "-P")
        return {name: str(ast.literal_eval(words)) for name, words in _TEXT.findall(text)}

    def layouts(
        self, headers: Iterable[Header], structures: Mapping[str, Declared]
    ) -> dict[str, Layout]:
        """The layouts of structures."""
        asked: dict[str, str] = {}
        for name, declared in structures.items():
            asked[f"sizeof:{name}"] = f"sizeof(struct {name})"
            asked[f"alignof:{name}"] = f"_Alignof(struct {name})"
            for member, endless in declared.members.items():
                asked[f"offsetof:{name}.{member}"] = offset(name, member)
                asked[f"sizeof:{name}.{member}"] = "0" if endless else size(name, member)
        told = self.values(headers, asked)

        def layout(name: str, members: Iterable[str]) -> Layout:
            dots = {member: f"{name}.{member}" for member in members}
            return Layout(
                told[f"sizeof:{name}"],
                told[f"alignof:{name}"],
                {
                    member: Member(told[f"offsetof:{dot}"], told[f"sizeof:{dot}"])
                    for member, dot in dots.items()
                },
            )

        return {name: layout(name, declared.members) for name, declared in structures.items()}

    def broken(self, headers: Iterable[Header], assertions: Mapping[str, str]) -> list[str]:
        """Which assertions fail, by the names they have."""
        lines = [f'_Static_assert({text}, "{key}");' for key, text in assertions.items()]
        status, output = self._run(_include(headers) + _lines(lines), "-fsyntax-only")
        found = _BROKEN.findall(output)
        others = [line for line in output.splitlines() if "error: " in line]
        if len(others) != len(found) or (status != 0 and not found):
            raise self._refusal(output)
        return list(found)

    def _preprocess(self, source: str, *options: str) -> str:
        return self._gcc(source, "-E", *options)

    def _gcc(self, source: str, *options: str) -> str:
        with tempfile.TemporaryDirectory(prefix="vfio-acpi-abi-") as folder:
            out = Path(folder) / "out"
            status, output = self._run(source, *options, "-o", str(out))
            if status != 0:
                raise self._refusal(output)
            return out.read_text()

    def _run(self, source: str, *options: str) -> tuple[int, str]:
        gcc = process.need("gcc", package="gcc")
        search = [word for folder in self.folders for word in ("-isystem", str(folder))]
        with tempfile.TemporaryDirectory(prefix="vfio-acpi-abi-") as folder:
            path = Path(folder) / "abi.c"
            path.write_text(source)
            argv = [gcc, f"-m{self.width}", "-nostdinc", *search, "-std=gnu11", *options, str(path)]
            return process.capture(argv, env=environment.clean())

    def _refusal(self, output: str) -> HarnessError:
        errors = [line for line in output.splitlines() if "error: " in line] or ["gcc gives none"]
        return HarnessError(
            f"headers in {self.folders[0].parent}",
            f"do not compile at {self.width} bit: {errors[0].partition('error: ')[2]}",
            mend="see the compiler's messages above",
            code=ExitCode.FAIL,
            details=output,
        )


# asm() takes what is constant, and prints it into the assembler's input; halves, as an operand
# of i386 has no more than 32 bits.
SAY = f"""\
#define SAY(key, x) __asm__ volatile("\\n{MARK} " key " %c0 %c1 %c2" :: \\
	"i" ((int)((unsigned long long)(x) >> 32)), "i" ((int)(unsigned long long)(x)), \\
	"i" ((int)((x) < 0)));
"""


def offset(structure: str, member: str) -> str:
    """The expression for a member's offset."""
    return f"__builtin_offsetof(struct {structure}, {member})"


def size(structure: str, member: str) -> str:
    """The expression for a member's size."""
    return f"sizeof(((struct {structure} *)0)->{member})"


def same_type(structure: str, member: str, kind: str) -> str:
    """The expression for a member being of a type, whatever its alignment."""
    return f"__builtin_types_compatible_p(__typeof__(((struct {structure} *)0)->{member}), {kind})"


def same_text(name: str, text: str) -> str:
    """The expression for a macro being a text of printable ASCII without quotes."""
    return f'!__builtin_strcmp({name}, "{text}")'


class _Collector(c_ast.NodeVisitor):  # type: ignore[misc]
    """Enumerators, and structures with the names of their members."""

    def __init__(self) -> None:
        self.enumerators: list[str] = []
        self.structures: dict[str, dict[str, bool]] = {}

    def visit_Enumerator(self, node: c_ast.Enumerator) -> None:  # noqa: N802
        """One value of an enum."""
        self.enumerators.append(node.name)

    def visit_Struct(self, node: c_ast.Struct) -> None:  # noqa: N802
        """A structure where it is declared, not where it is only named."""
        if node.name and node.decls is not None:
            self.structures[node.name] = dict(_members(node))
        self.generic_visit(node)


def _parse(code: str, header: Header) -> c_ast.Node:
    """Preprocessed code as a tree; HarnessError (exit 1) if it is not C as in its standard."""
    try:
        return pycparser.CParser().parse(code, header.name)
    except pycparser.c_parser.ParseError as error:
        number = re.search(r":(\d+):", str(error))
        line = code.splitlines()[int(number[1]) - 1].strip() if number else str(error)
        raise HarnessError(
            header.name,
            f"cannot be parsed at {line!r}",
            mend="if gcc can, add what is not C to PLAIN_C in kpatch/abi/probe.py",
            code=ExitCode.FAIL,
        ) from None


def _members(node: c_ast.Node) -> Iterator[tuple[str, bool]]:
    """A structure's members, as in `Declared`; those of one without a name are its own."""
    for member in node.decls or ():
        if member.name:
            yield member.name, isinstance(member.type, c_ast.ArrayDecl) and member.type.dim is None
        else:
            yield from _members(member.type)


def _split(text: str) -> tuple[list[str], str]:
    """The macros with a value in preprocessed text, and the code."""
    lines = text.splitlines()
    defines = [match[1] for line in lines if (match := _MACRO.match(line))]
    return defines, "\n".join("" if line.startswith("#") else line for line in lines)


def _include(headers: Iterable[Header]) -> str:
    return _lines(f"#include <{header.name}>" for header in headers)


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _number(high: int, low: int, negative: int) -> int:
    value = high % HALF * HALF + low % HALF
    return value - HALF * HALF if negative else value
