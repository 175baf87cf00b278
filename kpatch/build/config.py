# SPDX-License-Identifier: GPL-2.0-only
"""Make the .config of a flavor with the kernel tree's own conf; check every requested symbol."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache as once
from pathlib import Path

import kconfiglib

from kconfig import dotconfig, explain, fragment, tree
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

# Tools whose version or presence Kconfig files test, besides compiler and linker.
PROBED_TOOLS = ("rustc", "bindgen", "pahole")


@once
def toolchain() -> tuple[str, ...]:
    """Return the identities of this machine's tools that a .config depends on; takes milliseconds.

    The tools of PROBED_TOOLS are identified by path, size and time, not by their version output:
    rustc may be a shim that takes long to answer. HarnessError (exit 2) if a tool is missing.
    """
    probed = (path for tool in PROBED_TOOLS if (path := shutil.which(tool)) is not None)
    return (compiler.detect().identity, *map(_stamp, probed))


def _stamp(path: str) -> str:
    stat = Path(path).stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def resolve(*, source: Path, source_id: str, version: str, flavor: Flavor, stage: Stage) -> Config:
    """Return the .config of ``flavor`` for the kernel in ``source``; ``source`` is not written to.

    ``source`` has the series applied, ``source_id`` identifies its content, ``version`` is the
    kernel's ("7.3.4"). HarnessError: exit 4 if the .config lacks a requested value (the reasons
    are in ``details``), or if the tree cannot be configured; exit 2 for a bad fragment.
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
    """Return the .config ``name``: that of ``flavor`` with ``values``, changed by ``fragments``.

    The symbols of the fragments have to stick; the others may get lost. ``settings`` are words for
    make, ``tools`` identifies the compiler that they choose; the rest is as in `resolve`.
    HarnessError: exit 4 if a symbol of the fragments does not stick, or the tree cannot be
    configured.
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
    """Return the requests of the flavor's fragments; HarnessError (exit 2) for a bad fragment."""
    with _translated():
        return fragment.stack(flavor.fragments, version)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise a HarnessError (exit 2) for a RequestError of `kconfig`."""
    try:
        yield
    except RequestError as error:
        raise HarnessError(error.what, error.cause, hint=error.hint) from error


def unmet(text: str, requests: Iterable[SymbolRequest]) -> list[SymbolRequest]:
    """Return the requests whose value the .config ``text`` does not have."""
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
    """Raise HarnessError (exit 4) if the .config ``text`` lacks a requested value.

    Also raises it for a request for a symbol that does not exist; the error says why.

    A request for "n" looks met if the symbol does not exist, but then its name is a mistake. The
    Kconfig files are parsed, which takes seconds, only if a request is unmet or in doubt.
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
    """Return texts that explain ``symbols``: value, its reason, dependencies. Takes 5–10 s.

    Symbols are given with or without CONFIG_. Values are those of ``flavor`` on the kernel in
    ``source``, or those of the .config ``text`` if given. HarnessError: exit 2 for an unknown
    symbol, with similar names; exit 4 if kconfiglib cannot parse the Kconfig files.
    """
    source = source.absolute()
    stage.note("parsing the Kconfig files")
    requested = None
    if text is None:
        requested = {it.symbol: it for it in _requests(flavor, version)}
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-") as scratch:
        variables = _variables(source, source_id)
        try:
            kconfig = tree.load(
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
    if requested is None:
        tree.assign(kconfig, dotconfig.parse(text or ""))
    else:
        tree.allnoconfig(kconfig, {it.symbol: it.value for it in requested.values()})
    with _translated():
        return "\n".join(
            explain.explanation(kconfig, symbol, requested=requested) for symbol in symbols
        )


def _variables(source: Path, source_id: str) -> Mapping[str, str]:
    """Return the environment in which the tree's Makefile runs conf; it is kept in the cache."""

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
