# SPDX-License-Identifier: GPL-2.0-only
"""Make the .config of a flavor or a variant with the kernel tree's own conf; check its symbols."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache as once
from pathlib import Path

import kconfiglib

from kconfig import dotconfig, explain, fragment, remedy, selects, tree
from kconfig.errors import RequestError
from kconfig.fragment import SymbolRequest
from kpatch.build import compiler, conf
from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.stage import Stage
from kpatch.model import Config
from kpatch.tables.flavors import Flavor
from kpatch.tables.outcomes import ExitCode

# Part of the key of every cache entry. Increase it if the content of an entry changes.
FORMAT = "2"

CONFIG, FRAGMENT, VARIABLES = "config", "fragment.config", "variables"
SWITCHED_ON = "values.json"

# Tools besides compiler and linker whose version or presence the Kconfig files test.
PROBED_TOOLS = ("rustc", "bindgen", "pahole")


@once
def toolchain() -> tuple[str, ...]:
    """Return the identities of this machine's tools that a .config depends on, for cache keys.

    Compiler and linker are identified by their versions. The tools of PROBED_TOOLS that are
    installed are identified by path, size and modification time: rustc may be a shim (rustup) that
    takes long to print its version. HarnessError (exit 2) if a tool of `packages.BUILD` is missing.
    """
    probed = (path for tool in PROBED_TOOLS if (path := shutil.which(tool)) is not None)
    return (compiler.detect().identity, *map(_stamp, probed))


def _stamp(path: str) -> str:
    stat = Path(path).stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def resolve(*, source: Path, source_id: str, version: str, flavor: Flavor, stage: Stage) -> Config:
    """Return the .config of ``flavor`` for the kernel in ``source``, from the cache if it is there.

    ``source`` has the series applied and is not written to. ``source_id`` identifies the content of
    the files that determine a .config (`kpatch.build.worktree.config_id`). ``version`` is the
    kernel's ("7.3.4"). HarnessError: exit 4 if the .config lacks a requested value (the reasons are
    in ``details``), or if the tree cannot be configured; exit 2 for a bad fragment or a missing
    tool; exit 7 if the disk is full.
    """
    source = source.absolute()
    requests = _requests(flavor, version)
    fragment_text = fragment.render(requests)
    key = cache.digest([FORMAT, source_id, version, fragment_text, *toolchain()])

    def fill(folder: Path) -> None:
        stage.note(f"{flavor.name}: asking the tree's own conf")
        (folder / FRAGMENT).write_text(fragment_text, encoding="utf-8")
        out = folder / "out"
        out.mkdir()
        text = conf.resolve(folder / FRAGMENT, source=source, out=out)
        _check(text, requests, source=source, version=version, flavor=flavor, out=out, stage=stage)
        (folder / CONFIG).write_text(text, encoding="utf-8")
        shutil.rmtree(out)

    def waiting() -> None:
        stage.note(f"{flavor.name}: another run is making this config")

    folder, cached = cache.entry("config", key, fill, waiting=waiting)
    repeat = Path(tempfile.gettempdir()) / f"vfio-acpi-{key}"
    for argv in conf.commands(folder / FRAGMENT, source=source, out=repeat):
        stage.command(argv)
    text = (folder / CONFIG).read_text(encoding="utf-8")
    return Config(flavor.name, text, cache.digest([text]), cached)


def derive(
    flavor: Flavor,
    name: str,
    *,
    fragments: Sequence[str],
    values: Mapping[str, str],
    settings: Sequence[str],
    tools: str,
    source: Path,
    source_id: str,
    version: str,
    stage: Stage,
) -> Config:
    """Return the .config ``name``: that of ``flavor``, changed by ``values`` and ``fragments``.

    ``values`` maps symbols to values; ``fragments`` are names in kconfig/fragments. If several of
    ``flavor``, ``values`` and ``fragments`` request a symbol, the request of ``fragments`` is used,
    else that of ``values``. Only the requests of ``fragments`` must be met; the .config may lack
    those of ``flavor`` and ``values``.

    ``settings`` are variables for make's command line, ``tools`` is the identity of the compiler
    that they select. ``source``, ``source_id`` and ``version`` are as in `resolve`. HarnessError:
    exit 4 if a request of ``fragments`` is not met, or the tree cannot be configured; exit 2 for a
    bad fragment or a missing tool; exit 7 if the disk is full.
    """
    source = source.absolute()
    with _translated():
        required = fragment.stack(fragments, version)
        wished = [SymbolRequest(symbol, value, name) for symbol, value in values.items()]
        plain = fragment.stack(flavor.fragments, version)
        text = fragment.render(fragment.settle([*plain, *wished, *required], version))
    key = cache.digest([FORMAT, source_id, version, text, *settings, tools, *toolchain()])

    def fill(folder: Path) -> None:
        stage.note(f"{name}: asking the tree's own conf")
        (folder / FRAGMENT).write_text(text, encoding="utf-8")
        out = folder / "out"
        out.mkdir()
        made = conf.resolve(folder / FRAGMENT, *settings, source=source, out=out)
        if lost := unmet(made, required):
            names = ", ".join(f"CONFIG_{it.symbol}={it.value}" for it in lost)
            raise HarnessError(
                f"{name} for Linux {version}",
                f"did not stick: {names}",
                hint="see what the Kconfig files of the tree make of it (kpatch config --explain)",
                code=ExitCode.BUILD,
            )
        (folder / CONFIG).write_text(made, encoding="utf-8")
        shutil.rmtree(out)

    folder, cached = cache.entry("config", key, fill)
    made = (folder / CONFIG).read_text(encoding="utf-8")
    return Config(name, made, cache.digest([made]), cached)


def _requests(flavor: Flavor, version: str) -> tuple[SymbolRequest, ...]:
    """Return the requests of the flavor's fragments that apply to a kernel of ``version``.

    HarnessError (exit 2) for a bad fragment.
    """
    with _translated():
        return fragment.stack(flavor.fragments, version)


@contextmanager
def _translated() -> Iterator[None]:
    """Convert a RequestError of the block (package `kconfig`) to a HarnessError (exit 2)."""
    try:
        yield
    except RequestError as error:
        raise HarnessError(error.what, error.cause, hint=error.hint) from error


def unmet(text: str, requests: Iterable[SymbolRequest]) -> list[SymbolRequest]:
    """Return the requests that the .config ``text`` does not meet; a missing symbol counts as n."""
    got = dotconfig.parse(text)
    return [it for it in requests if not dotconfig.same(it.value, got.get(it.symbol, "n"))]


def _check(
    text: str,
    requests: Sequence[SymbolRequest],
    *,
    source: Path,
    version: str,
    flavor: Flavor,
    out: Path,
    stage: Stage,
) -> None:
    """Raise HarnessError (exit 4) if the .config ``text`` does not meet the requests.

    The ``details`` of the error give the reason for each of them. A request for "n" of a symbol
    that no Kconfig file defines is an error, too: the .config seems to meet it, but the name is a
    mistake. The Kconfig files are parsed, which takes seconds, only if a request is not met, or is
    for "n" and its symbol is not in the .config. If kconfiglib cannot parse them, undefined symbols
    are not found, and the reasons are missing.
    """
    failed, got = unmet(text, requests), dotconfig.parse(text)
    doubtful = [it for it in requests if it.value == dotconfig.OFF and it.symbol not in got]
    if not failed and not doubtful:
        return
    stage.note(f"{flavor.name}: finding out why symbols did not stick")
    try:
        variables = conf.variables(source=source, out=out)
        kconfig = tree.load(
            source, version=version, environment=variables, cwd=out, shell=conf.shell
        )
    except kconfiglib.KconfigError as error:
        details = f"kconfiglib cannot read this kernel's Kconfig files: {error}\n"
    else:
        failed += [it for it in doubtful if not tree.defined(kconfig, it.symbol)]
        tree.allnoconfig(kconfig, {it.symbol: it.value for it in requests})
        by_symbol = {it.symbol: it for it in requests}
        details = "\n".join(
            explain.stuck(kconfig, it, got=got.get(it.symbol), requested=by_symbol) for it in failed
        )
    if failed:
        raise _did_not_stick(failed, flavor, version, details)


def _did_not_stick(
    failed: Sequence[SymbolRequest], flavor: Flavor, version: str, details: str
) -> HarnessError:
    names = ", ".join(f"CONFIG_{it.symbol}={it.value} ({it.where})" for it in failed)
    return HarnessError(
        f"flavor {flavor.name} for Linux {version}",
        f"did not stick: {names}",
        hint="change the fragments as said below",
        code=ExitCode.BUILD,
        details=details,
    )


def explanations(
    symbols: Sequence[str],
    *,
    source: Path,
    source_id: str,
    version: str,
    flavor: Flavor,
    text: str | None = None,
    stage: Stage,
) -> str:
    """Return a text that explains ``symbols``: value, its reason, dependencies. Takes 5–10 s.

    Symbols are given with or without CONFIG_. Values are those of ``flavor`` on the kernel in
    ``source``, or those of the .config ``text`` if given. ``source``, ``source_id`` and ``version``
    are as in `resolve`. HarnessError: exit 2 for an unknown symbol, with similar names, for a bad
    fragment and a missing tool; exit 4 if make fails, or kconfiglib cannot parse the Kconfig files.
    """
    source = source.absolute()
    requested = None
    if text is None:
        requested = {it.symbol: it for it in _requests(flavor, version)}
    kconfig = _parsed(source, source_id=source_id, version=version, stage=stage)
    if requested is None:
        tree.assign(kconfig, dotconfig.parse(text or ""))
    else:
        tree.allnoconfig(kconfig, {it.symbol: it.value for it in requested.values()})
    with _translated():
        return "\n".join(
            explain.explanation(kconfig, symbol, requested=requested) for symbol in symbols
        )


def switched_on(
    symbols: Iterable[str],
    *,
    kept: Collection[str] = (),
    source: Path,
    source_id: str,
    version: str,
    flavor: Flavor,
    stage: Stage,
) -> dict[str, str]:
    """Return values of symbols that switch on ``symbols``, and what they depend on, in ``flavor``.

    The values are to be added to the requests of the flavor. If none are found that switch on
    a symbol (`kconfig.remedy.settings`), or only some that change a symbol of ``kept``, the result
    has the symbol alone, with the value y; this includes unknown symbols. ``source``, ``source_id``
    and ``version`` are as in `resolve`. Takes 5–10 s if it is not cached. HarnessError: exit 2 for
    a bad fragment or a missing tool; exit 4 if make fails, or kconfiglib cannot parse the Kconfig
    files.
    """
    source = source.absolute()
    names = sorted(symbols)
    requests = {it.symbol: it.value for it in _requests(flavor, version)}

    def fill(folder: Path) -> None:
        kconfig = _parsed(source, source_id=source_id, version=version, stage=stage)
        tree.allnoconfig(kconfig, requests)
        values: dict[str, str] = {}
        for name in names:
            found: remedy.Settings | None = None
            if tree.defined(kconfig, name):
                found = remedy.settings(kconfig, kconfig.syms[name], "y")
            if {symbol for symbol, _ in found or ()} & {*kept}:
                found = None
            for symbol, value in found or ((name, "y"),):
                values[symbol] = value
                if tree.defined(kconfig, symbol):
                    kconfig.syms[symbol].set_value(value)
        (folder / SWITCHED_ON).write_text(json.dumps(values), encoding="utf-8")

    key = cache.digest(
        [FORMAT, source_id, version, json.dumps([requests, names, sorted(kept)]), *toolchain()]
    )
    folder, _ = cache.entry("switched-on", key, fill)
    made: dict[str, str] = json.loads((folder / SWITCHED_ON).read_text(encoding="utf-8"))
    return made


def unmet_selects(
    pairs: Iterable[tuple[str, str]],
    *,
    source: Path,
    source_id: str,
    version: str,
    stage: Stage,
) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return selecting symbol, selected symbol and `kconfig.selects.unmet` of those of ``pairs``.

    Left out are pairs for which that is nothing, and symbols that the tree does not define.
    ``source``, ``source_id`` and ``version`` are as in `resolve`. Takes 5–10 s. HarnessError: exit
    2 for a missing tool; exit 4 if make fails, or kconfiglib cannot parse the Kconfig files.
    """
    kconfig = _parsed(source.absolute(), source_id=source_id, version=version, stage=stage)
    known = [pair for pair in pairs if all(tree.defined(kconfig, name) for name in pair)]
    found = ((*pair, selects.unmet(kconfig, *pair)) for pair in known)
    return [one for one in found if one[2]]


def _parsed(source: Path, *, source_id: str, version: str, stage: Stage) -> tree.KernelKconfig:
    """Return the parsed Kconfig files of ``source``, without values; see `explanations`."""
    stage.note("parsing the Kconfig files")
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-") as scratch:
        variables = _variables(source, source_id)
        try:
            return tree.load(
                source,
                version=version,
                environment=variables,
                cwd=Path(scratch),
                shell=conf.shell,
            )
        except kconfiglib.KconfigError as error:
            message = str(error).strip().replace(f"{source}/", "")
            raise HarnessError(
                f"Kconfig files of Linux {version}",
                f"kconfiglib cannot read them: {message.splitlines()[0]}",
                hint="correct that line; if the kernel's own conf takes it (without --explain), "
                "see kconfig/tree.py for what kconfiglib has been taught",
                code=ExitCode.BUILD,
                details=message,
            ) from error


def _variables(source: Path, source_id: str) -> Mapping[str, str]:
    """Return `conf.variables` of the tree ``source``, from the cache if it has them."""

    def fill(folder: Path) -> None:
        out = folder / "out"
        out.mkdir()
        pairs = conf.variables(source=source, out=out).items()
        text = "\0".join(f"{name}={value}" for name, value in pairs)
        (folder / VARIABLES).write_text(text, encoding="utf-8", errors="surrogateescape")
        shutil.rmtree(out)

    key = cache.digest([FORMAT, source_id, str(source), *toolchain()])
    folder, _ = cache.entry("variables", key, fill)
    text = (folder / VARIABLES).read_text(encoding="utf-8", errors="surrogateescape")
    return dict(pair.split("=", 1) for pair in text.split("\0"))
