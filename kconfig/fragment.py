# SPDX-License-Identifier: GPL-2.0-only
"""Read config fragments: the values that they request, and the kernel releases that need them.

kconfig/fragments/README.md has the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kconfig import dotconfig
from kconfig.errors import RequestError
from kconfig.release import Release, release

FOLDER = Path(__file__).parent / "fragments"

_REQUEST = re.compile(r'[A-Za-z0-9_]+=(?:[ymn]|-?[0-9]+|0[xX][0-9A-Fa-f]+|"(?:[^"\\]|\\.)*")')
_DIRECTIVE = re.compile(r"#:\s*(?:from (?P<first>\S+))?\s*(?:before (?P<end>\S+))?")


@dataclass(frozen=True)
class Span:
    """The kernel releases in [first, end); None means no bound on that side."""

    first: Release | None = None
    end: Release | None = None

    def __contains__(self, it: Release) -> bool:
        """Return whether the release ``it`` is in the span."""
        return (self.first is None or self.first <= it) and (self.end is None or it < self.end)


ALWAYS = Span()


@dataclass(frozen=True)
class SymbolRequest:
    """A request of a fragment: one symbol has to have one value.

    ``symbol`` is without CONFIG_, ``value`` as in a .config ("y", "64", '"text"'). ``where`` is the
    place of the request (file:line), ``span`` has the releases for which it is made.
    """

    symbol: str
    value: str
    where: str
    span: Span = ALWAYS


def path_of(name: str) -> Path:
    """Return the path of the fragment ``name``; RequestError if there is none."""
    path = FOLDER / f"{name}.config"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.config")))
        raise RequestError(f"fragment {name}", "there is no such file", hint=f"use one of {known}")
    return path


def read(path: Path) -> list[SymbolRequest]:
    """Return the requests of the fragment file ``path``, in order.

    RequestError if the file cannot be read, or has a line outside the grammar.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(str(path), str(error), hint="give a readable text file") from error
    return list(parse(text, name=path.name))


def parse(text: str, *, name: str) -> Iterator[SymbolRequest]:
    """Yield the requests of the fragment ``text`` in order; ``name`` is its file name in errors.

    RequestError for a line outside the grammar.
    """
    span = ALWAYS
    for number, raw in enumerate(text.splitlines(), 1):
        line, where = raw.rstrip(), f"{name}:{number}"
        if not line:
            span = ALWAYS
        elif line.startswith("#:"):
            span = _span(line, where)
        elif (assignment := dotconfig.assignment(line)) is not None:
            yield _request(assignment, where, span)
        elif not line.startswith("#"):
            raise _bad(where, line, "CONFIG_NAME=VALUE or a comment")


def _request(assignment: tuple[str, str], where: str, span: Span) -> SymbolRequest:
    symbol, value = assignment
    if _REQUEST.fullmatch(f"{symbol}={value}") is None:
        raise _bad(where, f"CONFIG_{symbol}={value}", 'y, m, n, a number or a "string"')
    return SymbolRequest(symbol, value, where, span)


def _span(line: str, where: str) -> Span:
    match = _DIRECTIVE.fullmatch(line)
    try:
        if match is None or not any(match.groups()):
            raise ValueError
        first, end = (version and release(version) for version in match.group("first", "end"))
    except ValueError:
        raise _bad(where, line, '"#: from X.Y", "#: before X.Y" or both') from None
    return Span(first or None, end or None)


def _bad(where: str, line: str, wanted: str) -> RequestError:
    return RequestError(where, f"cannot read {line!r}", hint=f"write {wanted}")


def stack(names: Iterable[str], version: str) -> tuple[SymbolRequest, ...]:
    """Return the requests of the fragments ``names`` that apply to the kernel ``version``.

    ``version`` is "6.12.3", for example. Of several requests for one symbol, only the last is
    returned. Raises the errors of ``path_of``, ``read`` and ``settle``.
    """
    return settle((request for name in names for request in read(path_of(name))), version)


def settle(requests: Iterable[SymbolRequest], version: str) -> tuple[SymbolRequest, ...]:
    """Return those of ``requests`` that apply to the kernel ``version``; for each symbol the last.

    RequestError if ``version`` is no kernel version.
    """
    try:
        of = release(version)
    except ValueError as error:
        raise RequestError("kernel version", str(error), hint="give one like 6.12") from error
    return tuple({it.symbol: it for it in requests if of in it.span}.values())


def render(requests: Iterable[SymbolRequest]) -> str:
    """Return ``requests`` in the .config format, for ``make KCONFIG_ALLCONFIG=FILE``."""
    return dotconfig.render((request.symbol, request.value) for request in requests)
