# SPDX-License-Identifier: GPL-2.0-only
"""The bases stand in kpatch/tables/bases.py: whatever else names them has to name the same ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from kpatch.abi import golden
from kpatch.series import catalog
from kpatch.tables.bases import BASES, DEFAULT_BASE
from kpatch.tables.paths import CARRIED, KTESTS, PROJECT
from tests.carried import CARRIED_KERNELS

# File: every place in it that lists the bases, as a pattern whose group has the list.
LISTS = {
    "Makefile": (r"\$\(KPATCH\) test ((?:--kernel \S+ ?)+)$",),
    "README.md": (
        r"`kernel-test` on every base \(([^)]*)\)",
        r"^\| `KERNEL` \| `\S+` \| ((?:`[\d.]+`, )*`[\d.]+`);",
    ),
    "docs/uapi.md": (r"patches for Linux ([\d.]+(?:, [\d.]+)* and [\d.]+) and is tested",),
    "docs/mechanisms.md": (
        r"check on Linux ([\d.]+(?:, [\d.]+)* and [\d.]+)\.",
        r"Measured on ([\d., ]+and\s[\d.]+)\salike",
    ),
    "docs/evidence.md": (r"Tests run on Linux ([\d.]+(?:, [\d.]+)* and [\d.]+),",),
}
# File: every place in it that names the default.
DEFAULTS: dict[str, tuple[str, ...]] = {
    "README.md": (r"^\| `KERNEL` \| `([\d.]+)` \|",),
    "docs/vectors.md": (r"^\| `([\d.]+)-base\.json` \|",),
}
NUMBER = re.compile(r"\d+\.\d+")


def places(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(file, pattern) for file, patterns in table.items() for pattern in patterns]


def named(file: str, pattern: str) -> list[str]:
    """The numbers in the one place of ``file`` that the pattern finds."""
    (found,) = re.findall(pattern, (PROJECT / file).read_text(), re.MULTILINE)
    return NUMBER.findall(found)


@pytest.mark.parametrize(("file", "pattern"), places(LISTS))
def test_a_list_names_every_base_and_no_other(file: str, pattern: str) -> None:
    assert named(file, pattern) == [*BASES]


@pytest.mark.parametrize(("file", "pattern"), places(DEFAULTS))
def test_the_default_is_named(file: str, pattern: str) -> None:
    assert named(file, pattern) == [DEFAULT_BASE]


def test_the_default_is_a_base() -> None:
    assert {name: base.name for name, base in BASES.items()} == {name: name for name in BASES}
    assert DEFAULT_BASE in BASES


@pytest.mark.parametrize("name", catalog.default())
def test_every_base_has_every_series_that_runs_by_default(name: str) -> None:
    assert all(catalog.has_patches(name, base) for base in BASES)


@pytest.mark.parametrize("name", catalog.carried())
def test_every_variant_is_for_a_base(name: str) -> None:
    """What nobody tries is not claimed."""
    taken = {catalog.load(name, base).mailboxes for base, it in CARRIED_KERNELS if it == name}
    variants = tomllib.loads((CARRIED / name / catalog.TABLE).read_text())["variant"]
    listed = {tuple(CARRIED / name / patch for patch in one["patches"]) for one in variants}
    assert taken == listed
    assert all(one["from"] in BASES for one in variants)


def test_golden_files_are_of_bases() -> None:
    found = {path.name.partition("-")[0] for path in golden.FOLDER.glob("[0-9]*.json")}
    assert found == {*BASES}


def test_requirements_begin_with_a_base() -> None:
    table = tomllib.loads((Path(KTESTS) / "requirements.toml").read_text())
    begins = {one["from"] for one in table.values() if isinstance(one, dict) and "from" in one}
    assert begins and begins <= {*BASES}
