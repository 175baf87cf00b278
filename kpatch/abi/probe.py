# SPDX-License-Identifier: GPL-2.0-only
"""Query C headers with gcc: names, values of constants, layouts of structures, assertions.

The compiled code is never run, so the 32-bit ABI needs no 32-bit libraries. Values are read from
gcc's assembler output, as in the kernel's own asm-offsets.c. A false assertion is an error of gcc.
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

# gcc's options that hide its extensions from pycparser. pycparser is used only to find names, so
# that another type than __int128 does no harm.
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
    """Offset and size of a member in bytes; ``size`` is 0 for a flexible array (``x[]``)."""

    offset: int
    size: int


@dataclass(frozen=True)
class Layout:
    """Size and alignment of a structure in bytes, and its members by name, in order."""

    size: int
    alignment: int
    members: dict[str, Member]


@dataclass(frozen=True)
class Declared:
    """A structure that the header with the name ``header`` declares.

    ``members`` maps each member's name to whether it is a flexible array (``x[]``).
    """

    header: str
    members: dict[str, bool]


@dataclass(frozen=True)
class Names:
    """The names that headers declare: the header's name by constant, and structures by name."""

    constants: dict[str, str]
    structures: dict[str, Declared]


@dataclass(frozen=True)
class Compiler:
    """gcc for one ABI: ``width`` is 64 or 32 (bit). It searches headers only in ``folders``."""

    folders: tuple[Path, ...]
    width: int

    def names(self, headers: Iterable[Header]) -> Names:
        """Return the names that ``headers`` declare and that the regexes of each Header match.

        Names that a header takes over by #include count as its own; a name of several headers
        belongs to the first. HarnessError: exit 1 if a header does not compile or cannot be parsed,
        exit 2 if gcc is not installed.
        """
        declared = Names({}, {})
        for header in headers:
            text = self._preprocess(_include([header]), "-dD", *PLAIN_C)
            defines, code = _split(text)
            collector = _Collector()
            collector.visit(_parse(code, header))
            for name in (*defines, *collector.enumerators):
                if re.fullmatch(header.constants, name):
                    declared.constants.setdefault(name, header.name)
            for name, members in collector.structures.items():
                if re.fullmatch(header.structures, name):
                    declared.structures.setdefault(name, Declared(header.name, members))
        return declared

    def values(self, headers: Iterable[Header], expressions: Mapping[str, str]) -> dict[str, int]:
        """Return the values of the C constant expressions ``expressions`` by the same keys.

        They may use what ``headers`` declare. A key must not contain blanks. HarnessError (exit 1)
        if one does not compile.
        """
        lines = [f'SAY("{key}", {text})' for key, text in expressions.items()]
        source = f"{_include(headers)}{SAY}void say(void)\n{{\n{_lines(lines)}}}\n"
        text = self._gcc(source, "-S")
        return {key: _number(*map(int, words)) for key, *words in _VALUE.findall(text)}

    def texts(self, headers: Iterable[Header], names: Iterable[str]) -> dict[str, str]:
        """Return the text of those macros among ``names`` that are string literals, by name.

        HarnessError (exit 1) if the headers cannot be preprocessed.
        """
        lines = [f'"{MARK}" "{name}" {name}' for name in names]
        text = self._preprocess(_include(headers) + _lines(lines), "-P")
        return {name: str(ast.literal_eval(words)) for name, words in _TEXT.findall(text)}

    def layouts(
        self, headers: Iterable[Header], structures: Mapping[str, Declared]
    ) -> dict[str, Layout]:
        """Return the layouts of ``structures``, which ``headers`` declare, by name.

        HarnessError (exit 1) if the headers do not compile.
        """
        expressions: dict[str, str] = {}
        for name, declared in structures.items():
            expressions[f"sizeof:{name}"] = f"sizeof(struct {name})"
            expressions[f"alignof:{name}"] = f"_Alignof(struct {name})"
            for member, endless in declared.members.items():
                expressions[f"offsetof:{name}.{member}"] = offset(name, member)
                expressions[f"sizeof:{name}.{member}"] = "0" if endless else size(name, member)
        measured = self.values(headers, expressions)

        def layout(name: str, members: Iterable[str]) -> Layout:
            dots = {member: f"{name}.{member}" for member in members}
            return Layout(
                measured[f"sizeof:{name}"],
                measured[f"alignof:{name}"],
                {
                    member: Member(measured[f"offsetof:{dot}"], measured[f"sizeof:{dot}"])
                    for member, dot in dots.items()
                },
            )

        return {name: layout(name, declared.members) for name, declared in structures.items()}

    def broken(self, headers: Iterable[Header], assertions: Mapping[str, str]) -> list[str]:
        """Return the keys of the false ``assertions``.

        ``assertions`` are C expressions by key; one with the value 0 is false. HarnessError
        (exit 1) if gcc has other errors.
        """
        lines = [f'_Static_assert({text}, "{key}");' for key, text in assertions.items()]
        status, output = self._run(_include(headers) + _lines(lines), "-fsyntax-only")
        failed = _BROKEN.findall(output)
        others = [line for line in output.splitlines() if "error: " in line]
        if len(others) != len(failed) or (status != 0 and not failed):
            raise self._refusal(output)
        return list(failed)

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
        gcc = process.require_tool("gcc", package="gcc")
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
            hint="see the compiler's messages above",
            code=ExitCode.FAIL,
            details=output,
        )


# asm() with an "i" operand prints a constant into the assembler output. The value is printed in two
# halves, since an operand has at most 32 bits on i386; the third number is 1 if it is negative.
SAY = f"""\
#define SAY(key, x) __asm__ volatile("\\n{MARK} " key " %c0 %c1 %c2" :: \\
	"i" ((int)((unsigned long long)(x) >> 32)), "i" ((int)(unsigned long long)(x)), \\
	"i" ((int)((x) < 0)));
"""


def offset(structure: str, member: str) -> str:
    """Return the C expression for the offset of ``member`` in ``struct structure``, in bytes."""
    return f"__builtin_offsetof(struct {structure}, {member})"


def size(structure: str, member: str) -> str:
    """Return the C expression for the size of ``member`` of ``struct structure``, in bytes."""
    return f"sizeof(((struct {structure} *)0)->{member})"


def same_type(structure: str, member: str, kind: str) -> str:
    """Return the C expression that is 1 if the ``member`` has the type ``kind``, else 0.

    Alignment is not compared.
    """
    return f"__builtin_types_compatible_p(__typeof__(((struct {structure} *)0)->{member}), {kind})"


def same_text(name: str, text: str) -> str:
    """Return the C expression that is 1 if the macro ``name`` is the string ``text``, else 0.

    ``text`` has to be printable ASCII without quotes.
    """
    return f'!__builtin_strcmp({name}, "{text}")'


class _Collector(c_ast.NodeVisitor):  # type: ignore[misc]
    """Collects the names of enumerators and structures from a syntax tree of pycparser.

    ``structures`` has, by structure, the members as in `Declared`.
    """

    def __init__(self) -> None:
        self.enumerators: list[str] = []
        self.structures: dict[str, dict[str, bool]] = {}

    def visit_Enumerator(self, node: c_ast.Enumerator) -> None:  # noqa: N802
        """Add the name of an enum's constant."""
        self.enumerators.append(node.name)

    def visit_Struct(self, node: c_ast.Struct) -> None:  # noqa: N802
        """Add a structure that has a tag, at its declaration; mere uses of its name are skipped."""
        if node.name and node.decls is not None:
            self.structures[node.name] = dict(_members(node))
        self.generic_visit(node)


def _parse(code: str, header: Header) -> c_ast.Node:
    """Parse ``code``, preprocessed C; HarnessError (exit 1) if pycparser does not accept it."""
    try:
        return pycparser.CParser().parse(code, header.name)
    except pycparser.c_parser.ParseError as error:
        number = re.search(r":(\d+):", str(error))
        line = code.splitlines()[int(number[1]) - 1].strip() if number else str(error)
        raise HarnessError(
            header.name,
            f"cannot be parsed at {line!r}",
            hint="if gcc can, add what is not C to PLAIN_C in kpatch/abi/probe.py",
            code=ExitCode.FAIL,
        ) from None


def _members(node: c_ast.Node) -> Iterator[tuple[str, bool]]:
    """Yield the name of each member of a structure, and whether it is a flexible array (``x[]``).

    The members of an anonymous structure or union are those of the outer structure. Unnamed
    bit-fields are left out.
    """
    for member in node.decls or ():
        if member.name:
            yield member.name, isinstance(member.type, c_ast.ArrayDecl) and member.type.dim is None
        elif member.bitsize is None:  # an unnamed bit-field is padding
            yield from _members(member.type)


def _split(text: str) -> tuple[list[str], str]:
    """Split output of gcc -E -dD into names of object-like macros that are not empty, and code."""
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
