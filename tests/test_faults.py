# SPDX-License-Identifier: GPL-2.0-only
"""Planted faults (data/faults/faults.toml): each breaks exactly its requirements.

What the table says is held against the patches and the requirements here; that a fault shows
takes a kernel of its own each, which is marked ``faults`` and run by ``make faults``.

All faults of a series are built in one worktree, one after the other: a worktree belongs to the
path of a mailbox, so that each series has one path in the cache. What is left to make is the file
that the fault changes, and the link.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kpatch.lib import cache
from kpatch.lib.stage import Silent
from kpatch.matrix.fault import BASE, Fault, load
from kpatch.model import Tree
from kpatch.series import apply, catalog
from kpatch.source import resolve
from kpatch.tables import flavors
from kpatch.tables.outcomes import ExitCode
from kpatch.verdict import requirements
from ktests.contract import UNDETECTED
from tests import commandline
from tests.commandline import FAULTS
from tests.faultreport import WHOLE, FaultSeconds

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

KIND = "faults"

SUITE = commandline.ROOT / "ktests"


AREAS, TABLE = load()
each_fault = pytest.mark.parametrize("fault", TABLE, ids=lambda fault: fault.name)


def test_every_patch_is_in_the_table() -> None:
    patches = {path.stem for path in FAULTS.glob("*.patch")}
    assert patches - OTHERS.keys() == {fault.name for fault in TABLE}


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
@each_fault
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


@pytest.fixture
def planted(fault: Fault) -> Iterator[Path]:
    """The series with the fault, at the path that all faults of the series have in turn."""
    name = f"faults-in-{fault.series}"
    with cache.locked(name):
        yield commandline.mailbox(cache.folder(KIND) / f"{name}.mbox", *fault.patches)


@pytest.mark.vm
@pytest.mark.faults
@each_fault
def test_fault_shows(
    request: pytest.FixtureRequest, tmp_path: Path, planted: Path, fault: Fault
) -> None:
    whole = request.config.getoption(WHOLE)
    options = {"--kernel": BASE, "--series": str(planted), "--flavor": fault.flavor}
    if not whole:
        options["--tests"] = fault.selection(AREAS)
    if fault.mechanism != UNDETECTED:
        options["--mechanism"] = fault.mechanism
    words = ["--no-control", *(word for option in options.items() for word in option)]
    ended = commandline.run("test", *words, out=tmp_path / "out")
    FaultSeconds.of(fault.name, ended).put(request.node)
    assert ended.verdict in fault.ends, ended.stdout
    results = ended.result.tests
    broken = {test.requirement for test in results if not test.ok}
    assert broken == {*fault.breaks, *(fault.also if whole else ())}, ended.stdout
    assert {test.requirement for test in results if test.ok} - broken
