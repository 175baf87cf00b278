# SPDX-License-Identifier: GPL-2.0-only
"""Planted faults (data/faults/faults.toml): each breaks exactly its requirements.

What the table says is held against the patches and the requirements here. To see a fault takes a
kernel of its own: ``make faults`` runs them as cells of the matrix.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kpatch.lib.stage import Silent
from kpatch.matrix.fault import BASE, Fault, load
from kpatch.model import Tree
from kpatch.series import apply, catalog
from kpatch.source import resolve
from kpatch.tables import flavors
from kpatch.tables.outcomes import ExitCode
from kpatch.verdict import requirements
from ktests.contract import HOST, UNDETECTED
from tests import commandline
from tests.commandline import FAULTS

# Patches that break no requirement but test the harness, with the series that each applies to;
# tests/test_bad_input.py uses them.
OTHERS = {
    "does-not-compile": catalog.BASE,
    "hangs-at-boot": catalog.BASE,
    "panics-at-boot": catalog.BASE,
    "hangs-in-notify": "netlink",
    "oopses-in-notify": "netlink",
    "warns-in-notify": "netlink",
}

SUITE = commandline.ROOT / "ktests"


AREAS, TABLE = load()
each_fault = pytest.mark.parametrize("fault", TABLE, ids=lambda fault: fault.name)


def test_every_patch_is_in_the_table() -> None:
    patches = {path.stem for path in FAULTS.glob("*.patch")}
    assert patches - OTHERS.keys() == {fault.name for fault in TABLE if not fault.file}


@pytest.mark.parametrize(
    "name", [name for name, entry in requirements.load().items() if HOST not in entry.needs]
)
def test_a_fault_breaks_the_requirement_alone_or_with_others(name: str) -> None:
    assert any(name in fault.breaks for fault in TABLE)


@each_fault
def test_row(fault: Fault) -> None:
    known = requirements.load()
    assert fault.breaks
    for name in (*fault.breaks, *fault.also):
        assert known[name].promised_by(fault.mechanism), f"{name} is not promised there"
    codes = {ExitCode[ending.upper()] for ending in fault.ends}
    assert codes == {ExitCode.FAIL} or codes <= {ExitCode.CRASH, ExitCode.HANG}
    assert fault.flavor in flavors.FLAVORS
    assert AREAS.keys() > set(fault.spoils)
    assert bool(fault.file) == bool(fault.changes)
    for file, text in fault.changed.items():
        compile(text, file, "exec")


@pytest.mark.parametrize("test", AREAS.values(), ids=AREAS)
def test_sample(test: str) -> None:
    """Each is a test of the suite: one that is not would select nothing, and nobody would see."""
    name = test.partition(" ")[0]
    assert any(f"def {name}(" in path.read_text() for path in SUITE.glob("test_*.py"))


@pytest.fixture(scope="session")
def base_tree() -> Tree:
    """Return the tree in which the faults are planted."""
    return resolve.resolve(BASE, stage=Silent())


@pytest.mark.trees
@pytest.mark.parametrize("fault", [it for it in TABLE if not it.file], ids=lambda it: it.name)
def test_every_fault_applies(base_tree: Tree, tmp_path: Path, fault: Fault) -> None:
    """And changes the tree: the result differs from that of the series alone."""
    mbox = commandline.mailbox(tmp_path / f"{fault.name}.mbox", *fault.patches)
    planted = catalog.load_file(mbox, mechanism=fault.mechanism)
    alone = apply.apply(base_tree, catalog.load(fault.series, BASE), stage=Silent())
    assert apply.apply(base_tree, planted, stage=Silent()).delta_id != alone.delta_id


@pytest.mark.trees
@pytest.mark.parametrize(("name", "series"), OTHERS.items(), ids=OTHERS)
def test_every_other_patch_applies(base_tree: Tree, tmp_path: Path, name: str, series: str) -> None:
    below = catalog.load(series, BASE).mailboxes
    mbox = commandline.mailbox(tmp_path / f"{name}.mbox", *below, FAULTS / f"{name}.patch")
    planted = catalog.load_file(mbox, mechanism=UNDETECTED)
    assert apply.apply(base_tree, planted, stage=Silent()).delta_id
