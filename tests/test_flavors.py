# SPDX-License-Identifier: GPL-2.0-only
"""The flavors (kpatch/tables/flavors.py): what their rows promise."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kconfig import fragment
from kpatch.series import catalog
from kpatch.tables import bases
from kpatch.tables.flavors import FLAVORS, LOG_LEAKS
from kpatch.tables.paths import PROJECT
from ktests import leaks

KCSAN = FLAVORS["kcsan"]


def test_the_page_has_each_flavor() -> None:
    text = (PROJECT / "docs" / "flavors.md").read_text()
    named = set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE))
    assert named == FLAVORS.keys()


def test_every_flavor_with_kmemleak_logs_the_leaks() -> None:
    """Otherwise the kernel would log their number, and no stack."""
    for flavor in FLAVORS.values():
        asked = {it.symbol: it.value for it in fragment.stack(flavor.fragments, "7.3")}
        has_it = asked.get("DEBUG_KMEMLEAK") == "y"
        assert (LOG_LEAKS in flavor.arguments) == has_it, flavor.name
    for name in leaks.FLAVORS:
        assert LOG_LEAKS in FLAVORS[name].arguments


def watched(source: str) -> str:
    """Return what make computes for a source of the kernel: whether KCSAN watches its accesses.

    scripts/Makefile.lib reads the variable while it compiles $(obj)/$(target-stem).c.
    """
    path = Path(source)
    rule = f"obj := {path.parent}\ntarget-stem := {path.stem}\nall:\n\t@echo '$(KCSAN_SANITIZE)'\n"
    argv = ["make", "-s", "-f", "-", *KCSAN.settings]
    return subprocess.run(argv, input=rule, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("series", catalog.carried())
def test_kcsan_watches_all_that_a_series_changes(series: str) -> None:
    text = "".join(it.read_text() for it in catalog.load(series, bases.DEFAULT_BASE).mailboxes)
    changed = set(re.findall(r"^\+\+\+ b/(\S+\.c)$", text, re.MULTILINE))
    sources = {it for it in changed if not it.startswith(("tools/", "samples/", "Documentation/"))}
    assert sources
    assert {it for it in sources if watched(it) != "y\n"} == set()


@pytest.mark.parametrize(
    "source", ["kernel/fork.c", "fs/eventpoll.c", "drivers/base/core.c", "drivers/vfiox/a.c"]
)
def test_kcsan_watches_nothing_else(source: str) -> None:
    assert watched(source) == "n\n"
