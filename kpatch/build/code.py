# SPDX-License-Identifier: GPL-2.0-only
"""Compile one source of a tree with a series, and identify the code of its object.

Two objects have the same identity if they are equal without debug information: code, data,
relocations and symbols. Line numbers that code contains (__LINE__) are part of it.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path

from kpatch.build import compiler, make, objects, settings, variant
from kpatch.build.worktree import checkout, locate
from kpatch.errors import HarnessError
from kpatch.lib import cache, confine, environment, process
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Config
from kpatch.tables.outcomes import ExitCode

KIND = "code"
NAME = "identity"

RECIPE = "1"
"""Part of the cache key. Increase it if a change here alters identities."""

_NO_RULE = re.compile(r"No rule to make target '[^']+\.o'")


def identity(
    applied: Applied, config: Config, source: str, *, like: str = "", jobs: int, stage: Stage
) -> str:
    """Return the identity of the code that ``source``, a path like "kernel/fork.c", compiles to.

    It is taken from the cache if it is there. HarnessError: exit 4 if the source does not compile;
    exit 2 if the config leaves it out; also the errors of `kpatch.build.worktree.checkout`.
    ``like`` is as there.
    """
    tools = compiler.detect()
    where = locate(applied, config.flavor)
    target = f"{source.removesuffix('.c')}.o"
    variables = settings.of(applied, config)
    key = cache.digest(
        (
            *(RECIPE, applied.tree.tree_id, applied.delta_id),
            *(config.config_id, tools.identity, target, *variables),
        )
    )
    argv = [
        *("make", "-C", str(where.src), f"O={where.obj}", f"-j{jobs}"),
        *(*tools.settings, *objects.FIXED, *variables, variant.VERSION, target),
    ]
    stage.command(argv)

    def fill(partial: Path) -> None:
        log_file = make.log_file("object", key)
        with checkout(applied, config.flavor, like=like, stage=stage) as worktree:
            try:
                objects.build(
                    worktree,
                    applied,
                    config,
                    argv,
                    what=target,
                    log_file=log_file,
                    product=Path(target),
                    renew=False,
                    stage=stage,
                )
            except HarnessError as error:
                if _NO_RULE.search(log_file.read_text(errors="replace")):
                    raise HarnessError(
                        source,
                        f"is not compiled with the flavor {config.flavor}",
                        hint="choose another FLAVOR",
                    ) from error
                raise
            (partial / NAME).write_text(of_object(confine.product(worktree.obj, target)))
        log_file.unlink()

    path, _ = cache.entry(KIND, key, fill)
    return (path / NAME).read_text()


def of_object(path: Path) -> str:
    """Return the identity of the code in the object file ``path``.

    HarnessError (exit 4) if objcopy does not take it. objcopy is confined: the file is made from
    a series.
    """
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-code.") as folder:
        stripped = Path(folder) / "stripped.o"
        argv = ["objcopy", "--strip-debug", str(path), str(stripped)]
        status, output = process.capture(
            confine.wrap(argv, readable=[path], writable=[Path(folder)]), env=environment.clean()
        )
        if status != 0:
            raise HarnessError(
                str(path),
                f"is no object file for objcopy: {output.strip()[:200]}",
                hint="look for what makes it in the series",
                code=ExitCode.BUILD,
            )
        return hashlib.sha256(confine.product(Path(folder), stripped.name).read_bytes()).hexdigest()
