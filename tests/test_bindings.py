# SPDX-License-Identifier: GPL-2.0-only
"""Where the mirror ends: the names that crosvm and rust-vmm use of the kernel's headers."""

from __future__ import annotations

import tomllib
from collections import Counter

import pytest

from tests.commandline import ROOT
from uapi import names, structures

DATA = tomllib.loads((ROOT / "tests" / "data" / "bindings.toml").read_text())
MIRROR = {*names.everything(), *structures.STRUCTURES}
LEFT_OUT = Counter(name for part in DATA["left-out"].values() for name in part["names"])


@pytest.mark.parametrize("project", DATA["uses"])
def test_a_used_name_is_mirrored_or_left_out_for_a_reason(project: str) -> None:
    used = DATA["uses"][project]["names"]
    assert len(used) == len(set(used)) > 70
    assert [name for name in used if (name in MIRROR) == (name in LEFT_OUT)] == []


def test_what_is_left_out_is_used_and_has_one_reason() -> None:
    used = {name for project in DATA["uses"].values() for name in project["names"]}
    assert LEFT_OUT.keys() <= used
    assert set(LEFT_OUT.values()) == {1}
    assert all(part["reason"].endswith(".") for part in DATA["left-out"].values())


def test_the_document_tells_the_reasons_and_numbers() -> None:
    text = (ROOT / "docs" / "vectors.md").read_text().partition("## Where the mirror ends")[2]
    section = " ".join(text.partition("\n## ")[0].split())
    for project, uses in DATA["uses"].items():
        mirrored = sum(name in MIRROR for name in uses["names"])
        assert f"| {project} | {len(uses['names'])} | {mirrored} |" in section
    for part in DATA["left-out"].values():
        assert f"| {part['reason']} | {len(part['names'])} |" in section


def test_every_name_for_interrupts_and_features_is_mirrored() -> None:
    """What a VMM needs for notifications is not left out, except a project's own names."""
    elsewhere = {
        name for part, it in DATA["left-out"].items() if part != "own" for name in it["names"]
    }
    parts = ("_IRQ", "vfio_irq", "FEATURE", "device_feature", "GROUP", "BIND", "ATTACH")
    assert [name for name in elsewhere if any(part in name for part in parts)] == []
