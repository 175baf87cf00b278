# SPDX-License-Identifier: GPL-2.0-only
"""Configure and build a tree with a series as a variant (`kpatch.tables.variants`) demands.

Each variant has worktrees of its own, as a flavor does.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kpatch.build import compiler, config, diagnostics, make, objects, touched
from kpatch.build.compiler import Compiler
from kpatch.build.diagnostics import Record
from kpatch.build.worktree import checkout, config_id, config_source, locate
from kpatch.errors import HarnessError
from kpatch.lib import cache, system
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Config
from kpatch.tables.flavors import DEFAULT_FLAVOR, FLAVORS
from kpatch.tables.outcomes import ExitCode
from kpatch.tables.variants import Scope, Variant

RECIPE = "1"
"""Part of the cache keys of builds' results. Increase it if a change here alters results."""

VERSION = "KBUILD_BUILD_VERSION=1"

PRODUCT = {
    Scope.KERNEL: Path("vmlinux"),
    Scope.OBJECTS: Path("include/generated/asm-offsets.h"),
}
"""The last file that a full build of a scope makes, relative to the objects' folder."""

# Printed by the tree's Makefile, which then goes on without the checker (scripts/checker-valid.sh).
_NO_CHECKER = "is not available or not up to date"

_NO_RULE = re.compile(r"No rule to make target '([^']+)'")
_FAILED = re.compile(r"\*\*\* \[[^\]]*: ([^\]:]+)\.[os]\] Error")


def tools(variant: Variant) -> Compiler:
    """Return the compiler for ``variant``; its ``identity`` includes the variant's other tools.

    HarnessError (exit 2) if compiler or tools are not installed.
    """
    missing = {tool: package for tool, package in variant.tools.items() if not shutil.which(tool)}
    if missing:
        raise HarnessError(
            ", ".join(missing), "not found in PATH", hint=system.install([*missing.values()])
        )
    found = compiler.llvm() if variant.llvm else compiler.detect()
    others = [compiler.identity(tool) for tool in variant.tools]
    return Compiler("; ".join([found.identity, *others]), found.settings, found.cached)


def resolve(
    applied: Applied,
    variant: Variant,
    *,
    values: Mapping[str, str] = MappingProxyType({}),
    stage: Stage,
) -> Config:
    """Return the .config of ``variant`` for ``applied``, from the cache if it is there.

    It is that of the plain flavor, changed by ``values`` (symbol: value), which it may lack, and by
    the variant's fragments, whose requests must be met. HarnessError: exit 4 if they are not met,
    or the tree cannot be configured; exit 2 if a tool is not installed, or for a bad fragment;
    exit 7 if the disk is full.
    """
    with config_source(applied, variant.name, like=variant.like, stage=stage) as source:
        return config.derive(
            FLAVORS[DEFAULT_FLAVOR],
            variant.name,
            fragments=variant.fragments,
            values=values,
            settings=_settings(variant, tools(variant)),
            tools=tools(variant).identity,
            source=source,
            source_id=config_id(applied),
            version=applied.tree.version,
            stage=stage,
        )


def switched_on(applied: Applied, symbols: Iterable[str], *, stage: Stage) -> dict[str, str]:
    """Return values of symbols for `resolve` that switch on ``symbols`` and what they depend on.

    Raises the errors of `kpatch.build.config.switched_on`.
    """
    flavor = FLAVORS[DEFAULT_FLAVOR]
    with config_source(applied, flavor.name, stage=stage) as source:
        return config.switched_on(
            symbols,
            kept=touched.FIXED,
            source=source,
            source_id=config_id(applied),
            version=applied.tree.version,
            flavor=flavor,
            stage=stage,
        )


@dataclass(frozen=True)
class Built:
    """The result of a build.

    ``record`` has the warnings of the requested objects, or of all in the worktree if none was
    requested. ``error`` is the reason if it failed; None also in the cases that `build` names.
    ``unbuilt`` are objects that the config leaves out: of the requested ones, or of those of the
    changed sources if none was requested. ``seconds`` is its duration.
    """

    record: Record
    error: HarnessError | None
    unbuilt: tuple[str, ...]
    seconds: float


def build(
    applied: Applied,
    variant: Variant,
    resolved: Config,
    *,
    targets: Sequence[str] = (),
    jobs: int,
    stage: Stage,
) -> Built:
    """Build ``applied`` as ``variant`` demands, with its .config ``resolved``, by ``jobs`` jobs.

    ``targets`` are the objects to compile, for a variant of Scope.OBJECTS; without them kernel and
    modules are linked. The error of a failed build is returned, not raised. With ``targets`` make
    goes on after an object that fails. The result's ``error`` is then None if its ``record`` has
    the compilers' errors, or if the config leaves out a target, and nothing else failed.
    HarnessError (exit 2) if a tool is missing, or the tree's Makefile refuses the version of the
    checker; also the errors of `kpatch.build.worktree.checkout`.
    """
    argv = command(applied, variant, resolved, targets=targets, jobs=jobs)
    name = cache.digest((applied.tree.tree_id, applied.delta_id, resolved.config_id, *argv))
    log_file = make.log_file(variant.name, name)
    begun = time.monotonic()
    error: HarnessError | None = None
    with checkout(applied, variant.name, like=variant.like, stage=stage) as worktree:
        try:
            objects.build(
                worktree,
                applied,
                resolved,
                argv,
                what=variant.name,
                log_file=log_file,
                product=PRODUCT[variant.scope],
                stage=stage,
            )
        except HarnessError as failed:
            if failed.code is not ExitCode.BUILD:
                raise
            error = failed
        record = diagnostics.read(worktree.warnings)
        # Another run of the same build, which waits for the worktree, writes to the same log.
        text = log_file.read_text(errors="replace")
        if targets:
            record = diagnostics.without_kernel_doc(diagnostics.of_objects(record, targets))
            unbuilt = tuple(sorted(set(_NO_RULE.findall(text)) & set(targets)))
            if _explained(text, unbuilt, record):
                error = None
        else:
            unbuilt = objects.left_out(applied, text) if error is None else ()
        if error is None:
            log_file.unlink()
    if _NO_CHECKER in text:
        raise HarnessError(
            variant.name,
            "the tree's make refuses this version of the checker, and compiles without it",
            hint="install a newer one",
        )
    return Built(record, error, unbuilt, round(time.monotonic() - begun, 3))


def _explained(text: str, unbuilt: Collection[str], record: Record) -> bool:
    """Return whether ``unbuilt``, or the errors in ``record``, explain each failure in ``text``.

    ``text`` is the output of a make that goes on after an object that fails.
    """
    wrong = diagnostics.stems_with_errors(record)
    if not unbuilt and not wrong:
        return False
    return set(_NO_RULE.findall(text)) <= {*unbuilt} and set(_FAILED.findall(text)) <= wrong


def command(
    applied: Applied,
    variant: Variant,
    resolved: Config,
    *,
    targets: Sequence[str] = (),
    jobs: int,
) -> list[str]:
    """Return the argv of the make that `build` runs for the same arguments, without SYNCED."""
    where, found = locate(applied, variant.name), tools(variant)
    return [
        *("make", "-C", str(where.src), f"O={where.obj}", f"-j{jobs}"),
        *(["-k"] if variant.scope is Scope.OBJECTS else []),
        *found.settings,
        *variant.settings,
        *objects.FIXED,
        VERSION,
        *(targets or _linked(resolved)),
    ]


def _linked(resolved: Config) -> tuple[str, ...]:
    """Return make's targets for kernel and modules; "modules" fails without CONFIG_MODULES."""
    modules = "CONFIG_MODULES=y" in resolved.text.splitlines()
    return ("vmlinux", "modules") if modules else ("vmlinux",)


def _settings(variant: Variant, found: Compiler) -> tuple[str, ...]:
    """Return the variables for make's command line that can change the .config.

    gcc's are left out: they add ccache to gcc, and the Makefile finds gcc itself.
    """
    return (*variant.settings, *(found.settings if variant.llvm else ()))
