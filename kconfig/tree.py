# SPDX-License-Identifier: GPL-2.0-only
"""Parse the Kconfig files of a kernel tree with kconfiglib, and evaluate them as its conf does.

conf is the program scripts/kconfig/conf of the tree. kconfiglib 14.1.0 does not support three
constructs of current trees. ``KernelKconfig`` adds them to its tokenizer and parser, so that no
file is changed and line numbers stay correct:

- ``modules`` has replaced ``option modules`` (in 6.1 and later; scripts/kconfig/parser.y);
- ``transitional`` (in 7.3) marks a symbol without a prompt. Its value in an old .config is used,
  but it is not written to a new one;
- ``depends on A if B`` (in 7.3) means ``A || (B = n)``. That is not ``A || !B``: if B is m, it is
  the value of A, while ``A || !B`` is at least m.

conf itself has changed in three points: see ``CHOICE_HONOURS_N``, ``UNSET_NUMBER_IS_ZERO`` and
``OLD_NUMBER_IS_CLAMPED``. One difference between kconfiglib and conf remains; it has no effect if
there are no modules: for a tristate with an ``imply`` of y and dependencies that are m, kconfiglib
gives y and conf gives m.
"""

from __future__ import annotations

import codecs
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import kconfiglib

from kconfig import dotconfig
from kconfig.release import Release, release

# Name of a codec error handler: it decodes bytes that are no UTF-8 as Latin-1. conf accepts any
# bytes in Kconfig files.
LATIN_1 = "vfio-acpi-latin-1"


def _latin_1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(LATIN_1, _latin_1)

# kconfiglib has no type hints. These names stand for its symbols, choices, and expressions: a
# symbol, a choice, or a tuple of an operator and operands.
Symbol = Any
Choice = Any
Expr = Any

# Three changes of conf, each with the first release that has it; 6.1 has none of them, 6.12 all.
# conf does not pick a member of a choice that is explicitly n if it can pick another member.
CHOICE_HONOURS_N: Release = (6, 11)
# The value of an int or hex symbol that nothing sets is 0; before, it was the empty string.
UNSET_NUMBER_IS_ZERO: Release = (6, 11)
# A number in an old .config that is out of its range becomes the nearest end of the range; before,
# it was dropped.
OLD_NUMBER_IS_CLAMPED: Release = (6, 11)

DECIMAL, HEXADECIMAL = 10, 16
_BASES = {kconfiglib.INT: DECIMAL, kconfiglib.HEX: HEXADECIMAL}

_process_state = threading.Lock()


def _shell(kconf: Any, name: str, command: str) -> str:
    """Expand ``$(shell,COMMAND)`` as kconfiglib does, but run ``command`` by ``kconf.shell``.

    Returns the standard output without trailing newlines, and with a space for each other newline.
    kconfiglib calls this function with the name of the macro in ``name``.
    """
    printed = kconf.shell(command, source=Path(kconf.srctree or ".").resolve())
    return "\n".join(printed.splitlines()).rstrip("\n").replace("\n", " ")


kconfiglib._shell_fn = _shell


class Shell(Protocol):
    """A function that runs the command of a ``$(shell,COMMAND)`` in a Kconfig file.

    It has to confine the command, since the tree is not trusted.
    """

    def __call__(self, command: str, *, source: Path) -> str:
        """Run the shell command ``command`` in the working directory; return its standard output.

        The command may read the kernel tree ``source``, and write to the working directory.
        """


class KernelKconfig(kconfiglib.Kconfig):  # type: ignore[misc] # kconfiglib is untyped
    """kconfiglib.Kconfig with the three constructs that the docstring of this module describes.

    ``of`` is the kernel's release, ``shell`` runs the commands of macros. ``transitional`` contains
    the symbols with that mark. ``zeroed`` contains the int and hex symbols to which `_zero_numbers`
    has added the default 0. ``clamped`` maps symbols to the values that they were given, if these
    are no numbers in the range of the symbol; a number was then moved into the range.
    """

    def __init__(self, top: str, *, of: Release, shell: Shell) -> None:
        self.of = of
        self.shell = shell
        self.transitional: set[Symbol] = set()
        self.zeroed: set[Symbol] = set()
        self.clamped: dict[Symbol, str] = {}
        self._entry: Any = None
        super().__init__(top, warn_to_stderr=False)
        if of >= UNSET_NUMBER_IS_ZERO:
            self._zero_numbers()

    def _open(self, filename: str, mode: str) -> IO[str]:
        return Path(filename).open(mode, encoding="utf-8", errors=LATIN_1)

    def _parse_props(self, node: Any) -> None:
        self._entry = node
        super()._parse_props(node)

    def _tokenize(self, s: str) -> Any:
        word = s.partition("#")[0].strip()
        if word == "modules":
            # kconfiglib assumes that the symbol has the name MODULES, which need not be true.
            self.modules = self._entry.item
            return super()._tokenize(s.replace(word, "option modules", 1))
        if word == "transitional":
            self._mark_transitional(self._entry)
            return (None,)
        return super()._tokenize(s)

    def _mark_transitional(self, node: Any) -> None:
        """Mark the symbol of the menu node ``node`` as transitional.

        It gets a prompt, since kconfiglib ignores user values of symbols without a prompt.
        """
        node.prompt = (f"{node.item.name} (transitional)", self.y)
        self.transitional.add(node.item)

    def _expect_expr_and_eol(self) -> Expr:
        if self._tokens[0] is not kconfiglib._T_DEPENDS:
            return super()._expect_expr_and_eol()
        expr = self._parse_expr(True)
        if self._tokens[self._tokens_i] is None:
            return expr
        return self._make_or(expr, self._is_no(self._parse_cond()))

    def _is_no(self, expr: Expr) -> Expr:
        """Return an expression that is y if ``expr`` is n, and n otherwise.

        kconfiglib can only compare symbols, so the comparison is moved to the operands of ``expr``,
        as conf does (scripts/kconfig/expr.c, expr_trans_compare). The result is the same as conf's
        in this case, too: ``!A`` counts as n if A is m, although !m is m.
        """
        if not isinstance(expr, tuple):
            return (kconfiglib.EQUAL, expr, self.n)
        operator = expr[0]
        if operator is kconfiglib.AND:
            return (kconfiglib.OR, self._is_no(expr[1]), self._is_no(expr[2]))
        if operator is kconfiglib.OR:
            return (kconfiglib.AND, self._is_no(expr[1]), self._is_no(expr[2]))
        if operator is kconfiglib.NOT:
            return (kconfiglib.NOT, self._is_no(expr[1]))
        return (kconfiglib.NOT, expr)

    def _zero_numbers(self) -> None:
        zero = {kconfiglib.INT: "0", kconfiglib.HEX: "0x0"}
        for symbol in self.unique_defined_syms:
            if symbol.orig_type in zero:
                symbol.defaults.append((self._number(zero[symbol.orig_type]), self.y))
                self.zeroed.add(symbol)
                symbol._invalidate()

    def _number(self, text: str) -> Symbol:
        constant = self.const_syms.get(text)
        if constant is None:
            constant = self.const_syms[text] = kconfiglib.Symbol()
            constant.kconfig, constant.name, constant.is_constant = self, text, True
            constant.rev_dep = constant.weak_rev_dep = constant.direct_dep = self.n
        return constant


def load(
    source: Path, *, version: str, environment: Mapping[str, str], cwd: Path, shell: Shell
) -> KernelKconfig:
    """Parse the Kconfig files of the kernel tree ``source``. Takes 3–8 s.

    The symbols get no user values; see `assign` and `allnoconfig`. ``version`` is the kernel's.
    ``environment`` has the variables that the top Makefile sets for conf; macros of the Kconfig
    files read them. Macros also run commands by ``shell``, which may write temporary files to the
    folder ``cwd``. The environment and the working directory of this process are changed meanwhile,
    so only one load runs at a time. kconfiglib.KconfigError if a file cannot be parsed; ValueError
    if ``version`` is no kernel version.
    """
    with _process(dict(environment) | {"srctree": str(source)}, cwd):
        return KernelKconfig("Kconfig", of=release(version), shell=shell)


@contextmanager
def _process(environment: Mapping[str, str], cwd: Path) -> Iterator[None]:
    with _process_state, chdir(cwd):
        saved = dict(os.environ)
        os.environ.clear()
        os.environ.update(environment)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(saved)


def assign(kconfig: KernelKconfig, values: Mapping[str, str]) -> None:
    """Set the user values of symbols as conf does when it reads a .config.

    ``values`` maps symbols to values as in the .config, in the order of its lines: if several
    members of a choice are y, the last one is picked. Symbols that no Kconfig file defines are
    skipped.
    """
    for name, value in values.items():
        if defined(kconfig, name):
            kconfig.syms[name].set_value(_plain(value))
    if kconfig.of >= CHOICE_HONOURS_N:
        _settle_choices(kconfig, list(values))
    if kconfig.of >= OLD_NUMBER_IS_CLAMPED:
        _clamp_to_ranges(kconfig, values)


def _plain(value: str) -> str:
    if value.startswith('"'):
        return str(kconfiglib.unescape(value[1:-1]))
    return value


def allnoconfig(kconfig: KernelKconfig, values: Mapping[str, str]) -> None:
    """Set all bool and tristate symbols except members of choices to n, then assign ``values``.

    This is ``make allnoconfig`` with ``values`` in KCONFIG_ALLCONFIG. Numbers in ``values`` that
    are out of range are moved into it.
    """
    for symbol in kconfig.unique_defined_syms:
        if symbol.orig_type in (kconfiglib.BOOL, kconfiglib.TRISTATE) and not symbol.choice:
            symbol.set_value(0)
    assign(kconfig, values)
    _clamp_to_ranges(kconfig, values)


def _clamp_to_ranges(kconfig: KernelKconfig, values: Mapping[str, str]) -> None:
    """Move each number in ``values`` that is out of its range to the nearest end of the range.

    conf does that in sym_validate_range() (scripts/kconfig/symbol.c); kconfiglib drops such a
    value. The loop repeats because a range may depend on another number.
    """
    numbers = {kconfig.syms[name]: value for name, value in values.items() if name in kconfig.syms}
    for _ in range(len(numbers) + 1):
        moved = False
        for symbol, value in numbers.items():
            clamped = nearest(symbol, value)
            if clamped is not None and symbol.user_value != clamped:
                symbol.set_value(clamped)
                moved = True
        if not moved:
            break
    kconfig.clamped = {it: value for it, value in numbers.items() if nearest(it, value) != value}


@dataclass(frozen=True)
class Range:
    """A range of an int or hex symbol, from ``low`` to ``high``, both inclusive.

    ``written`` is the condition in the line of the range. ``condition`` also includes the
    dependencies of the symbol and the conditions of the enclosing blocks. ``where`` is the place of
    the symbol's definition, file:line.
    """

    low: Expr
    high: Expr
    written: Expr
    condition: Expr
    where: str


def ranges(symbol: Symbol) -> list[Range]:
    """Return the ranges of ``symbol`` in the Kconfig files, in the order in which conf looks."""
    return [
        Range(low, high, written, condition, f"{node.filename}:{node.linenr}")
        for node in symbol.nodes
        for (low, high, condition), (_, _, written) in zip(
            node.ranges, node.orig_ranges, strict=True
        )
    ]


def active_range(symbol: Symbol) -> Range | None:
    """Return the range that applies to ``symbol`` now: the first whose condition is not n.

    Returns None if there is none.
    """
    holding = (it for it in ranges(symbol) if kconfiglib.expr_value(it.condition))
    return next(holding, None)


def nearest(symbol: Symbol, value: str) -> str | None:
    """Return ``value``, or the nearest end of the active range of ``symbol`` if it is outside.

    Returns None if the symbol is no int or hex, or ``value`` is no number of that type.
    """
    base = _BASES.get(symbol.orig_type)
    number = None if base is None else _number(value, base)
    if base is None or number is None:
        return None
    span = active_range(symbol)
    if span is None:
        return value
    low, high = (_number(end.str_value, base) or 0 for end in (span.low, span.high))
    if low <= number <= high:
        return value
    end = low if number < low else high
    return str(end) if base == DECIMAL else hex(end)


def _number(text: str, base: int) -> int | None:
    try:
        return int(text, base)
    except ValueError:
        return None


def _settle_choices(kconfig: KernelKconfig, order: list[str]) -> None:
    """Select the member that conf picks (`_pick`) in every choice of ``kconfig``.

    ``order`` is as in `_pick`. The loop repeats because one choice may depend on another.
    """
    for _ in range(len(kconfig.unique_choices) + 1):
        moved = False
        for choice in kconfig.unique_choices:
            pick = _pick(choice, order)
            if choice.selection is not pick:
                choice.user_selection = pick
                choice._rec_invalidate()
                moved = True
        if not moved:
            return


def _pick(choice: Choice, order: list[str]) -> Symbol | None:
    """Return the member of ``choice`` that conf picks; None if no member can be picked.

    ``order`` has the names of symbols in the order of the .config lines that set them. conf picks,
    among the visible members, the one that was set to y last; else the default, unless it was set
    to n; else the first that was not set; else the one that was set to n first. Source:
    sym_calc_choice() in scripts/kconfig/symbol.c.
    """
    if not choice.visibility:
        return None
    visible = [member for member in choice.syms if member.visibility]
    latest = sorted(
        (member for member in visible if member.user_value is not None),
        key=lambda member: order.index(member.name) if member.name in order else -1,
        reverse=True,
    )
    default = choice._selection_from_defaults()
    candidates = [
        *(member for member in latest if member.user_value == 2),
        *([default] if default is not None and default.user_value != 0 else []),
        *(member for member in visible if member.user_value is None),
        *reversed(latest),
    ]
    return candidates[0] if candidates else None


def values(kconfig: KernelKconfig) -> dict[str, str]:
    """Return the symbols that conf would write to the .config, with their values as written."""
    text = "".join(
        symbol.config_string for symbol in kconfig.unique_defined_syms if written(kconfig, symbol)
    )
    return dotconfig.parse(text)


def written(kconfig: KernelKconfig, symbol: Symbol) -> bool:
    """Return whether conf would write a line for ``symbol`` to the .config."""
    if symbol in kconfig.transitional:
        return False
    if symbol in kconfig.zeroed and not symbol.visibility:
        return any(kconfiglib.expr_value(condition) for _, condition in defaults(kconfig, symbol))
    return bool(symbol.config_string)


def defaults(kconfig: KernelKconfig, symbol: Symbol) -> list[tuple[Expr, Expr]]:
    """Return the pairs (default, condition) of ``symbol`` in the Kconfig files, in order.

    The default 0 that KernelKconfig adds to numbers is left out.
    """
    return list(symbol.defaults[:-1] if symbol in kconfig.zeroed else symbol.defaults)


def defined(kconfig: KernelKconfig, name: str) -> bool:
    """Return whether a Kconfig file defines the symbol ``name``, and not only refers to it."""
    symbol = kconfig.syms.get(name)
    return symbol is not None and bool(symbol.nodes)


def locations(symbol: Symbol) -> Iterable[str]:
    """Return the places where ``symbol`` is defined, as file:line relative to the kernel tree."""
    return [f"{node.filename}:{node.linenr}" for node in symbol.nodes]
