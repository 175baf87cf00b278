# SPDX-License-Identifier: GPL-2.0-only
"""Write texts that explain why a symbol has its value, and which settings give it another one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from itertools import chain

import kconfiglib

from kconfig import dotconfig, remedy
from kconfig.errors import RequestError
from kconfig.fragment import SymbolRequest
from kconfig.tree import (
    Expr,
    KernelKconfig,
    Range,
    Symbol,
    active_range,
    defaults,
    defined,
    locations,
    nearest,
    ranges,
    written,
)

# Number of inactive selects and implies to print; active ones are always printed.
MAX_IDLE = 8

_NUMBER = re.compile(r"-?[0-9]+|0[xX][0-9A-Fa-f]+")

_SWITCHES = (kconfiglib.BOOL, kconfiglib.TRISTATE)


def find(kconfig: KernelKconfig, name: str) -> Symbol:
    """Return the symbol ``name`` (CONFIG_ is optional); RequestError with similar names if none."""
    bare = name.removeprefix("CONFIG_")
    if defined(kconfig, bare):
        return kconfig.syms[bare]
    raise RequestError(name, "no Kconfig file of this kernel defines it", hint=_near(kconfig, bare))


def _near(kconfig: KernelKconfig, name: str) -> str:
    known = [symbol.name for symbol in kconfig.unique_defined_syms]
    near = difflib.get_close_matches(name.upper(), known, n=3, cutoff=0.75)
    near += sorted((it for it in known if name.upper() in it and it not in near), key=len)[:3]
    return (
        f"name one of these, if it is meant: {', '.join(near)}"
        if near
        else "check its name; no known one is near"
    )


def explanation(
    kconfig: KernelKconfig, name: str, *, requested: Mapping[str, SymbolRequest] | None = None
) -> str:
    """Return a text that explains the symbol ``name``: definition, value, reason, dependencies.

    The values are those that the symbols of ``kconfig`` have. ``requested`` are the requests of the
    fragments by symbol, None if the values come from a .config. RequestError if there is no such
    symbol.
    """
    symbol = find(kconfig, name)
    lines = chain(
        [f"CONFIG_{symbol.name}"],
        _facts(kconfig, symbol),
        _field("value", f"{_written(kconfig, symbol)}: {_reason(kconfig, symbol, requested)}"),
        _dependencies(symbol),
        _reverse("selected by", symbol.rev_dep),
        _reverse("implied by", symbol.weak_rev_dep),
        _to_set(kconfig, symbol),
    )
    return "".join(f"{line}\n" for line in lines)


def stuck(
    kconfig: KernelKconfig,
    request: SymbolRequest,
    *,
    got: str | None,
    requested: Mapping[str, SymbolRequest],
) -> str:
    """Return a text that tells why the .config lacks the requested value: cause and remedy.

    ``request`` is the request that is not met. ``got`` is the symbol's value in the .config, None
    if the .config does not have the symbol. ``requested`` are all requests, by symbol. In
    ``kconfig`` the requested values have been assigned to the symbols.
    """
    head = f"{_line(request.symbol, request.value)} ({request.where})"
    if not defined(kconfig, request.symbol):
        lines = chain(
            [f"{head} is in no Kconfig file of this kernel"],
            _field("near", _near(kconfig, request.symbol)),
            _field("remedy", 'if only some kernels have it, put "#: from X.Y" above it'),
        )
    else:
        symbol = kconfig.syms[request.symbol]
        lines = chain(
            [f"{head} did not stick, it is {got or _absent(symbol)}"],
            _facts(kconfig, symbol),
            _field("cause", _cause(kconfig, symbol, request, requested)),
            _field("remedy", _remedy(kconfig, symbol, request)),
        )
    return "".join(f"{line}\n" for line in lines)


def _field(name: str, text: str) -> Iterator[str]:
    yield f"  {name:<12}{text}"


def _facts(kconfig: KernelKconfig, symbol: Symbol) -> Iterator[str]:
    yield from _field("type", kconfiglib.TYPE_TO_STR[symbol.orig_type])
    for location in locations(symbol):
        yield from _field("defined", location)
    if symbol in kconfig.transitional:
        yield from _field("prompt", "none, transitional: only read from an old .config")
        return
    prompts = [node for node in symbol.nodes if node.prompt]
    for node in prompts:
        text, condition = node.orig_prompt
        suffix = "" if condition is kconfig.y else f" if {_expr(condition)}"
        yield from _field("prompt", f'"{text}"{suffix}')
    if not prompts:
        yield from _field("prompt", "none: no fragment can set it")
    counts = active_range(symbol)
    for span in ranges(symbol):
        suffix = "" if span.written is kconfig.y else f" if {_expr(span.written)}"
        verdict = "counts" if span == counts else "does not count"
        yield from _field("range", f"{_ends(span)}{suffix} ({span.where}): {verdict}")


def _ends(span: Range) -> str:
    return f"{_expr(span.low)} to {_expr(span.high)}"


def _dependencies(symbol: Symbol) -> Iterator[str]:
    if symbol.direct_dep is symbol.kconfig.y:
        yield from _field("depends on", "nothing")
        return
    yield from _field("depends on", _tri(symbol.direct_dep))
    yield from _tree(symbol.direct_dep, "    ")


def _tree(expr: Expr, indent: str) -> Iterator[str]:
    """Yield a line for each operand of the ``&&`` expression ``expr``, with the operand's value.

    If an operand is an ``||`` expression, its operands follow, indented, below a line "any of".
    """
    for part in dict.fromkeys(kconfiglib.split_expr(expr, kconfiglib.AND)):
        operands = kconfiglib.split_expr(part, kconfiglib.OR)
        if len(operands) == 1:
            yield f"{indent}[{_tri(part)}] {_expr(part)}"
            continue
        yield f"{indent}[{_tri(part)}] any of"
        for operand in operands:
            if isinstance(operand, tuple) and operand[0] is kconfiglib.AND:
                yield f"{indent}    [{_tri(operand)}] all of"
                yield from _tree(operand, f"{indent}        ")
            else:
                yield from _tree(operand, f"{indent}    ")


def _reverse(title: str, expr: Expr) -> Iterator[str]:
    if not isinstance(expr, tuple) and expr.is_constant:
        return
    parts = kconfiglib.split_expr(expr, kconfiglib.OR)
    idle = [part for part in parts if not kconfiglib.expr_value(part)]
    yield from _field(title, _tri(expr))
    for part in [*(part for part in parts if part not in idle), *idle[:MAX_IDLE]]:
        yield f"    [{_tri(part)}] {_expr(part)}"
    if len(idle) > MAX_IDLE:
        yield f"    … and {len(idle) - MAX_IDLE} more that are n"


def _to_set(kconfig: KernelKconfig, symbol: Symbol) -> Iterator[str]:
    if symbol.orig_type in _SWITCHES:
        other = "n" if symbol.tri_value else "y"
        settings = remedy.settings(kconfig, symbol, other)
        how = _settings(settings) if settings else "no setting does it"
        yield from _field(f"to get {other}", how)
    else:
        settings = remedy.settings(kconfig, symbol, "…")
        span = active_range(symbol)
        bounds = "" if span is None else f", from {_ends(span)}"
        yield from _field(
            "to set", f"{_settings(settings)}{bounds}" if settings else "no setting does it"
        )


def _settings(settings: remedy.Settings) -> str:
    return ", ".join(_line(symbol, value) for symbol, value in settings)


def _line(symbol: str, value: str) -> str:
    return f"CONFIG_{symbol}={value}"


def _reason(
    kconfig: KernelKconfig, symbol: Symbol, requested: Mapping[str, SymbolRequest] | None
) -> str:
    """Return in words where the value of ``symbol`` comes from.

    The source is the one that decides in sym_calc_value() (scripts/kconfig/symbol.c): the choice,
    the user value, the default, an imply if it gives more than the default, or a select if it gives
    as much as these. The text also says if a range changes the value. If there is no source, it
    says why. ``requested`` is as in `explanation`.
    """
    selected = kconfiglib.expr_value(symbol.rev_dep)
    if selected and selected >= _unselected(kconfig, symbol):
        active = _active(symbol.rev_dep)
        return f"selected by {', '.join(active)}"
    if symbol.choice and symbol.visibility:
        return _choice_reason(symbol, requested)
    prefix = ""
    if symbol.visibility and symbol.user_value is not None:
        by = _requested_by(symbol, requested)
        if (given := kconfig.clamped.get(symbol)) is not None and (
            clamped := _clamped(symbol, given)
        ):
            return f"{by} as {given}{clamped}"
        if not _clamped(symbol, symbol.user_value):
            return by
        prefix = f"{by} as {symbol.user_value}, out of its range, which does not count; "
    implied = kconfiglib.expr_value(symbol.weak_rev_dep)
    if implied > _default(kconfig, symbol):
        return f"{prefix}implied by {', '.join(_active(symbol.weak_rev_dep))}"
    for expr, condition in defaults(kconfig, symbol):
        if kconfiglib.expr_value(condition):
            value = getattr(expr, "str_value", "")
            return f"{prefix}the default is {_expr(expr)}{_clamped(symbol, value)}"
    if clamped := _clamped(symbol, "0"):
        return f"{prefix}nothing gives it a value{clamped}"
    return _invisible(kconfig, symbol)


def _unselected(kconfig: KernelKconfig, symbol: Symbol) -> int:
    """Return the value that a bool or tristate would have if no symbol selected it: 0 n, 1 m, 2 y.

    The result is 0 for a symbol of another type.
    """
    if symbol.visibility and symbol.user_value in (0, 1, 2):
        return int(min(symbol.user_value, symbol.visibility))
    return max(_default(kconfig, symbol), int(kconfiglib.expr_value(symbol.weak_rev_dep)))


def _default(kconfig: KernelKconfig, symbol: Symbol) -> int:
    """Return the default of a bool or tristate: 0 n, 1 m, 2 y; 0 for a symbol of another type."""
    if symbol.orig_type not in (kconfiglib.BOOL, kconfiglib.TRISTATE):
        return 0
    for expr, condition in defaults(kconfig, symbol):
        if kconfiglib.expr_value(condition):
            return int(min(kconfiglib.expr_value(expr), kconfiglib.expr_value(condition)))
    return 0


def _clamped(symbol: Symbol, value: str) -> str:
    """Return in words how the active range of ``symbol`` changes ``value``; "" if it does not."""
    span, clamped = active_range(symbol), nearest(symbol, value)
    if span is None or clamped is None or clamped == value:
        return ""
    return f"; the range {_ends(span)} ({span.where}) makes it {clamped}"


def _choice_reason(symbol: Symbol, requested: Mapping[str, SymbolRequest] | None) -> str:
    picked = symbol.choice.selection
    if picked is None:
        return "its choice has picked nothing"
    by = f", {_requested_by(picked, requested)}" if picked.user_value else ""
    return f"its choice has picked {picked.name}{by}"


def _requested_by(symbol: Symbol, requested: Mapping[str, SymbolRequest] | None) -> str:
    if requested is None:
        return "the .config has it"
    request = requested.get(symbol.name)
    return f"asked for at {request.where}" if request else "no fragment asks for it"


def _invisible(kconfig: KernelKconfig, symbol: Symbol) -> str:
    prompts = [node.prompt[1] for node in symbol.nodes if node.prompt]
    if not prompts or symbol in kconfig.transitional:
        return "it has no prompt, and nothing that is on selects it"
    return f"not met: {' or '.join(', '.join(_failing(prompt)) for prompt in prompts)}"


def _failing(expr: Expr) -> list[str]:
    """Return the operands of the ``&&`` expression ``expr`` that are n, as text with values."""
    return [
        _expr(part)
        for part in dict.fromkeys(kconfiglib.split_expr(expr, kconfiglib.AND))
        if not kconfiglib.expr_value(part)
    ]


def _active(expr: Expr) -> list[str]:
    """Return the names of the symbols that now select (or imply) a symbol.

    ``expr`` is the rev_dep (or weak_rev_dep) that kconfiglib gives the selected symbol: an ``||``
    expression with an operand for each select (or imply). Those that are not n are active.
    """
    return [
        kconfiglib.split_expr(part, kconfiglib.AND)[0].name
        for part in kconfiglib.split_expr(expr, kconfiglib.OR)
        if kconfiglib.expr_value(part)
    ]


def _cause(
    kconfig: KernelKconfig,
    symbol: Symbol,
    request: SymbolRequest,
    requested: Mapping[str, SymbolRequest],
) -> str:
    switch = symbol.orig_type in _SWITCHES
    if switch and request.value not in kconfiglib.STR_TO_TRI:
        return f"a {kconfiglib.TYPE_TO_STR[symbol.orig_type]} cannot be {request.value}"
    if request.value == "m" and symbol.orig_type is kconfiglib.BOOL:
        return "a bool cannot be m"
    if request.value == "m" and not kconfig.modules.tri_value:
        return f"there are no modules: {_expr(kconfig.modules)}"
    if not switch and symbol.visibility:
        return _number_cause(symbol, request)
    if not symbol.visibility and not (switch and symbol.tri_value):
        return _invisible(kconfig, symbol)
    return _reason(kconfig, symbol, requested)


def _number_cause(symbol: Symbol, request: SymbolRequest) -> str:
    span = active_range(symbol)
    if span is not None and nearest(symbol, request.value) not in (None, request.value):
        return f"the range is {_ends(span)} ({span.where})"
    return f"{request.value} is no {kconfiglib.TYPE_TO_STR[symbol.orig_type]}"


def _remedy(kconfig: KernelKconfig, symbol: Symbol, request: SymbolRequest) -> str:
    switch = symbol.orig_type in _SWITCHES
    if switch and request.value not in kconfiglib.STR_TO_TRI:
        return "ask for y or n"
    if request.value == "m" and symbol.orig_type is kconfiglib.BOOL:
        return f"ask for {_line(symbol.name, 'y')}"
    if not switch and symbol.visibility:
        return "ask for a value that it can have"
    if symbol.choice and symbol.visibility:
        return "ask for one member of the choice only"
    settings = remedy.settings(kconfig, symbol, request.value)
    others = [it for it in settings or () if it[0] != symbol.name]
    if others:
        return f"set {_settings(tuple(others))}"
    return "drop the request; no setting that a fragment could make was found"


def _written(kconfig: KernelKconfig, symbol: Symbol) -> str:
    if written(kconfig, symbol):
        return dotconfig.parse(symbol.config_string)[symbol.name]
    return _absent(symbol)


def _absent(symbol: Symbol) -> str:
    return "n" if symbol.orig_type in _SWITCHES else "not in the .config"


def _tri(expr: Expr) -> str:
    return str(kconfiglib.TRI_TO_STR[kconfiglib.expr_value(expr)])


def _expr(expr: Expr) -> str:
    return str(kconfiglib.expr_str(expr, _with_value))


def _with_value(item: Symbol) -> str:
    plain = str(kconfiglib.standard_sc_expr_str(item))
    if isinstance(item, kconfiglib.Choice):
        return f'choice "{item.nodes[0].prompt[0]}" [={item.str_value}]'
    if item.is_constant or (not item.nodes and _NUMBER.fullmatch(item.name)):
        return plain  # kconfiglib treats an unquoted number as a symbol
    return f"{plain} [={item.str_value}]" if item.nodes else f"{plain} [undefined]"
