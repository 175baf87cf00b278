# SPDX-License-Identifier: GPL-2.0-only
"""Find what a selected symbol depends on and the symbol that selects it does not imply.

`select` switches a symbol on whether its dependencies hold or not. The kernel's conf warns of
"unmet direct dependencies", but only where a .config has such a case. Here no values are used: the
search goes from the conditions of the select to all that follows from them. Negations and
comparisons in a dependency count as fulfilled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import kconfiglib

from kconfig.tree import Expr, KernelKconfig, Symbol

_NEGATIVE = (kconfiglib.NOT, kconfiglib.EQUAL, kconfiglib.UNEQUAL, *kconfiglib.REL_TO_STR)

MAX_DEPTH = 6
"""Limit of the search for symbols that are on in every .config."""


def unmet(kconfig: KernelKconfig, selecting: str, selected: str) -> tuple[str, ...]:
    """Return the dependencies of ``selected`` that ``selecting`` does not imply, as Kconfig text.

    () if ``selecting`` does not select it, or if one of the two cannot be on: it depends on n, or
    the condition of the select on a symbol that is not defined.
    """
    target = kconfig.syms[selected]
    for symbol, condition in kconfig.syms[selecting].selects:
        if symbol is target:
            implied = _implied(kconfig.syms[selecting], condition)
            parts = kconfiglib.split_expr(target.direct_dep, kconfiglib.AND)
            if kconfig.n not in parts and all(map(_defined, filter(_is_symbol, implied))):
                missed = [part for part in parts if not _holds(part, implied, 0)]
                return tuple(dict.fromkeys(map(kconfiglib.expr_str, missed)))
    return ()


def _defined(symbol: Symbol) -> bool:
    return bool(symbol.nodes or symbol.is_constant)


def _is_symbol(expr: Expr) -> bool:
    return isinstance(expr, kconfiglib.Symbol)


def _implied(selecting: Symbol, condition: Expr) -> list[Expr]:
    """Return the symbols and expressions that hold wherever ``selecting`` selects on ``condition``.

    These are the two, what they depend on, and what the symbols among them select without another
    condition. The dependencies of what is selected do not count.
    """
    found: dict[Expr, None] = {}
    waiting = [selecting, *kconfiglib.split_expr(condition, kconfiglib.AND)]
    while waiting:
        part = waiting.pop()
        if part not in found:
            found[part] = None
            if _is_symbol(part) and not part.is_constant:
                waiting += kconfiglib.split_expr(part.direct_dep, kconfiglib.AND)
    chosen = [part for part in found if _is_symbol(part)]
    for symbol in chosen:
        for other, when in symbol.selects:
            if other not in found and _holds(when, found, 0):
                found[other] = None
                chosen.append(other)
    return list(found)


def _holds(expr: Expr, implied: Collection[Expr], depth: int) -> bool:
    """Return whether ``expr`` holds, and is no negation or comparison, where ``implied`` does."""
    if expr in implied:
        return True
    if _is_symbol(expr):
        return bool(expr.is_constant and expr.tri_value) or _always(expr, depth)
    if not isinstance(expr, tuple) or expr[0] in _NEGATIVE:
        return True
    combine = all if expr[0] is kconfiglib.AND else any
    return combine(_holds(part, implied, depth) for part in expr[1:])


def _always(symbol: Symbol, depth: int) -> bool:
    """Return whether ``symbol`` is on in every .config.

    Its default is y and it has no prompt, or a symbol that is always on selects it.
    """
    if depth == MAX_DEPTH or not symbol.nodes:
        return False
    if any(_holds(part, (), depth + 1) for part in _unnegated(symbol.rev_dep)):
        return True
    return not any(node.prompt for node in symbol.nodes) and any(
        _is_symbol(value)
        and value.is_constant
        and value.tri_value
        and _holds(condition, (), depth + 1)
        for value, condition in symbol.defaults
    )


def _unnegated(expr: Expr) -> Iterator[Expr]:
    """Yield the operands of the || expression ``expr`` that have no negation or comparison."""
    for part in kconfiglib.split_expr(expr, kconfiglib.OR):
        if all(map(_is_symbol, kconfiglib.split_expr(part, kconfiglib.AND))):
            yield part
