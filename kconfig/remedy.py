# SPDX-License-Identifier: GPL-2.0-only
"""Find the settings (symbol, value) that the user has to make so that a symbol has a value.

The search goes from an expression to its symbols, and from a symbol to the condition of its prompt.
If no prompt can be made visible, it goes to the symbols that select the symbol and to the defaults.
Of several alternatives, the shortest list of settings is taken. The search starts from the current
values of the symbols: if an expression contradicts itself, the settings may do so too.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import kconfiglib

from kconfig.tree import Expr, KernelKconfig, Symbol, defaults

Settings = tuple[tuple[str, str], ...]
Seen = tuple[Symbol, ...]

# Limits of the search: the number of selects that are tried for one symbol, and the length of a
# chain of symbols. A symbol like CRC32 is selected by hundreds of others, and each of these depends
# on many symbols.
MAX_SELECTORS = 25
MAX_DEPTH = 6

_TRI = {0: "n", 1: "m", 2: "y"}
_SWITCHES = (kconfiglib.BOOL, kconfiglib.TRISTATE)


def settings(kconfig: KernelKconfig, symbol: Symbol, value: str) -> Settings | None:
    """Return the settings that give ``symbol`` the ``value``; None if the search finds none.

    If ``symbol`` itself has to be set, it is the last. It is not in the result if other symbols
    decide its value: a symbol that selects it, one in the condition of its default, or another
    member of its choice. The result is () for a bool or tristate that has the value. ``value`` is a
    text as in a .config; for a bool or tristate it must be "y", "m" or "n".
    """
    if symbol.orig_type not in _SWITCHES:
        return _with(_prompts(kconfig, symbol, 2, ()), (symbol.name, value))
    wanted = kconfiglib.STR_TO_TRI[value]
    if value == "m" and not kconfig.modules.tri_value:
        return _all(_raise(kconfig, it, 1, ()) for it in (kconfig.modules, symbol))
    if wanted > symbol.tri_value:
        return _raise(kconfig, symbol, wanted, ())
    return _lower(kconfig, symbol, wanted, ())


def _raise(kconfig: KernelKconfig, expr: Expr, to: int, seen: Seen) -> Settings | None:
    """Return settings that make ``expr`` at least ``to`` (0 n, 1 m, 2 y); None if none are found.

    ``seen`` are the symbols from the start of the search to ``expr``; none is tried again.
    """
    if kconfiglib.expr_value(expr) >= to:
        return ()
    if not isinstance(expr, tuple):
        return _raise_symbol(kconfig, expr, to, seen)
    operator, *operands = expr
    if operator is kconfiglib.AND:
        return _all(_raise(kconfig, it, to, seen) for it in operands)
    if operator is kconfiglib.OR:
        return _shortest(_raise(kconfig, it, to, seen) for it in operands)
    if operator is kconfiglib.NOT:
        return _lower(kconfig, operands[0], 2 - to, seen)
    return _compare(kconfig, operator, operands[0], operands[1], seen)


def _raise_symbol(kconfig: KernelKconfig, symbol: Symbol, to: int, seen: Seen) -> Settings | None:
    if isinstance(symbol, kconfiglib.Choice):
        return _prompts(kconfig, symbol, to, seen)
    if symbol in seen or len(seen) >= MAX_DEPTH or symbol.orig_type not in _SWITCHES:
        return None
    seen = (*seen, symbol)
    value = _TRI[to] if symbol.orig_type is kconfiglib.TRISTATE else "y"
    direct = _with(_prompts(kconfig, symbol, to, seen), (symbol.name, value))
    if direct is not None:
        return direct
    selectors = islice(kconfiglib.split_expr(symbol.rev_dep, kconfiglib.OR), MAX_SELECTORS)
    given = ((kconfiglib.AND, *default) for default in defaults(kconfig, symbol))
    return _shortest(_raise(kconfig, it, to, seen) for it in (*selectors, *given))


def _prompts(kconfig: KernelKconfig, item: Symbol, to: int, seen: Seen) -> Settings | None:
    """Return settings that make a prompt of ``item`` visible; None if none are found.

    The condition of the prompt becomes at least ``to`` (0 n, 1 m, 2 y). A transitional symbol
    counts as one without a prompt. ``seen`` is as in `_raise`.
    """
    if item in kconfig.transitional:
        return None
    return _shortest(
        _raise(kconfig, node.prompt[1], to, seen) for node in item.nodes if node.prompt
    )


def _lower(kconfig: KernelKconfig, expr: Expr, to: int, seen: Seen) -> Settings | None:
    """Return settings that make ``expr`` at most ``to`` (0 n, 1 m, 2 y); None if none are found.

    A comparison is not searched. ``seen`` is as in `_raise`.
    """
    if kconfiglib.expr_value(expr) <= to:
        return ()
    if not isinstance(expr, tuple):
        return _lower_symbol(kconfig, expr, to, seen)
    operator, *operands = expr
    if operator is kconfiglib.AND:
        return _shortest(_lower(kconfig, it, to, seen) for it in operands)
    if operator is kconfiglib.OR:
        return _all(_lower(kconfig, it, to, seen) for it in operands)
    if operator is kconfiglib.NOT:
        return _raise(kconfig, operands[0], 2 - to, seen)
    return None


def _lower_symbol(kconfig: KernelKconfig, symbol: Symbol, to: int, seen: Seen) -> Settings | None:
    if symbol in seen or len(seen) >= MAX_DEPTH or isinstance(symbol, kconfiglib.Choice):
        return None
    seen = (*seen, symbol)
    if symbol.choice:
        others = (it for it in symbol.choice.syms if it is not symbol and it.visibility)
        return _shortest([((other.name, "y"),) for other in others])
    freed = _lower(kconfig, symbol.rev_dep, to, seen)
    shown = _prompts(kconfig, symbol, 1, seen)
    if shown is None:
        return freed or None
    return _with(_all([freed, shown]), (symbol.name, _TRI[to]))


def _compare(
    kconfig: KernelKconfig, operator: int, left: Symbol, right: Symbol, seen: Seen
) -> Settings | None:
    """Return settings that make the comparison of ``left`` with ``right`` true, None if none found.

    Only ``left = y``, ``left = m``, ``left = n`` and ``left != n`` are searched, for a bool or
    tristate ``left``. For any other comparison the user has to find the settings. ``operator`` is
    one of kconfiglib's (EQUAL, UNEQUAL, …); ``seen`` is as in `_raise`.
    """
    if right.is_constant and left.orig_type in _SWITCHES:
        value = kconfiglib.STR_TO_TRI.get(right.name)
        if operator is kconfiglib.UNEQUAL and value == 0:
            return _raise(kconfig, left, 1, seen)
        if operator is kconfiglib.EQUAL and value is not None:
            move = _raise if value > left.tri_value else _lower
            return move(kconfig, left, value, seen)
    return None


def _with(earlier: Settings | None, last: tuple[str, str]) -> Settings | None:
    return None if earlier is None else (*earlier, last)


def _all(parts: Iterable[Settings | None]) -> Settings | None:
    merged: dict[tuple[str, str], None] = {}
    for part in parts:
        if part is None:
            return None
        merged |= dict.fromkeys(part)
    return tuple(merged)


def _shortest(alternatives: Iterable[Settings | None]) -> Settings | None:
    return min(
        (settings for settings in alternatives if settings is not None), key=len, default=None
    )
