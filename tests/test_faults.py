# SPDX-License-Identifier: GPL-2.0-only
"""Planted faults (data/faults/faults.toml): each breaks the requirements that it should, alone.

What the table says is held against the patches and the requirements here; that a fault shows
takes a kernel of its own each, which is marked ``faults`` and run by ``make faults``.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from kpatch.lib.stage import Silent
from kpatch.model import Tree
from kpatch.series import apply, catalog
from kpatch.source import resolve
from kpatch.tables import flavors
from kpatch.tables.outcomes import ExitCode
from kpatch.verdict import requirements
from ktests.contract import UNDETECTED
from tests import commandline
from tests.commandline import FAULTS

# Of the harness itself, not of a requirement; tests/test_bad_input.py runs these.
OTHERS = {
    *("does-not-compile", "hangs-at-boot", "hangs-in-notify"),
    *("oopses-in-notify", "panics-at-boot", "warns-in-notify"),
}

BASE = "7.3"


@dataclass(frozen=True)
class Fault:
    """A row of the table."""

    name: str
    series: str
    breaks: tuple[str, ...]
    tests: str
    ends: str = "fail"
    flavor: str = flavors.DEFAULT_FLAVOR

    @property
    def patch(self) -> Path:
        """The patch that plants it."""
        return FAULTS / f"{self.name}.patch"

    @property
    def patches(self) -> tuple[Path, ...]:
        """The series' patches, and the one that plants it."""
        if self.series == catalog.BASE:
            return (self.patch,)
        return (*catalog.load(self.series, BASE).mailboxes, self.patch)

    @property
    def mechanism(self) -> str:
        """What the kernel is held against; nothing is to be detected in a changed base."""
        if self.series == catalog.BASE:
            return UNDETECTED
        return catalog.load(self.series, BASE).mechanism


def load() -> list[Fault]:
    """The table."""
    table = tomllib.loads((FAULTS / "faults.toml").read_text(encoding="utf-8"))
    return [Fault(name, **{**row, "breaks": tuple(row["breaks"])}) for name, row in table.items()]


TABLE = load()
each_fault = pytest.mark.parametrize("fault", TABLE, ids=lambda fault: fault.name)


def test_every_patch_is_in_the_table() -> None:
    patches = {path.stem for path in FAULTS.glob("*.patch")}
    assert patches - OTHERS == {fault.name for fault in TABLE}


@each_fault
def test_row(fault: Fault) -> None:
    known = requirements.load()
    assert fault.breaks
    for name in fault.breaks:
        assert known[name].promised_by(fault.mechanism), f"{name} is not promised there"
    assert ExitCode[fault.ends.upper()] in (ExitCode.FAIL, ExitCode.CRASH, ExitCode.HANG)
    assert fault.flavor in flavors.FLAVORS


@pytest.fixture(scope="session")
def base_tree() -> Tree:
    """The tree that the faults are planted in."""
    return resolve.resolve(BASE, stage=Silent())


@pytest.mark.trees
@each_fault
def test_every_fault_applies(base_tree: Tree, tmp_path: Path, fault: Fault) -> None:
    """And changes something: the tree with it is not that of the series alone."""
    mbox = commandline.mailbox(tmp_path / f"{fault.name}.mbox", *fault.patches)
    planted = catalog.load_file(mbox, mechanism=fault.mechanism)
    alone = apply.apply(base_tree, catalog.load(fault.series, BASE), stage=Silent())
    assert apply.apply(base_tree, planted, stage=Silent()).delta_id != alone.delta_id


@pytest.mark.vm
@pytest.mark.faults
@each_fault
def test_fault_shows(tmp_path: Path, fault: Fault) -> None:
    mbox = commandline.mailbox(tmp_path / f"{fault.name}.mbox", *fault.patches)
    options = {
        "--kernel": BASE,
        "--series": str(mbox),
        "--flavor": fault.flavor,
        "--tests": fault.tests,
    }
    if fault.mechanism != UNDETECTED:
        options["--mechanism"] = fault.mechanism
    words = ["--no-control", *(word for option in options.items() for word in option)]
    ended = commandline.run("test", *words, out=tmp_path / "out")
    assert ended.verdict == fault.ends, ended.stdout
    results = ended.result.tests
    assert {test.requirement for test in results if not test.ok} == set(fault.breaks)
    assert {test.requirement for test in results if test.ok} - set(fault.breaks)
