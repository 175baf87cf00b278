# SPDX-License-Identifier: GPL-2.0-only
"""Planted faults of the relay (data/vmm-faults.toml): each breaks exactly its requirements.

The fault is planted in a copy of uapi/, and the tests that have a requirement run there. Those of
the guest's table take 20 seconds, and run with faults of that table alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from kpatch.dev import uapi_doc
from kpatch.matrix.fault import replaced
from kpatch.verdict import requirements
from ktests.contract import HOST
from tests.commandline import ROOT

FAULTS: dict[str, dict[str, Any]] = tomllib.loads(uapi_doc.VMM_FAULTS.read_text())
TABLE = {name: entry for name, entry in requirements.load().items() if HOST in entry.needs}
SUITE = uapi_doc.tests(uapi_doc.HOST_SUITE)
REQUIREMENTS = {test: name for name, tests in SUITE.items() for test in tests}

# What a fault of the guest's table cannot break, and a fault of anything else cannot spoil.
GUEST_TABLE = ("vmm/guest_table.py", "tests/test_vmm_guest_table.py")

SECONDS = 300

LINKED = ("kconfig", "kpatch", "ktests", "pyproject.toml")

each_fault = pytest.mark.parametrize("name", FAULTS)


def planted(name: str) -> str:
    """Return the text of the module with the fault."""
    return replaced(f"uapi/{FAULTS[name]['file']}", FAULTS[name]["changes"])


@each_fault
def test_row(name: str) -> None:
    compile(planted(name), FAULTS[name]["file"], "exec")
    assert FAULTS[name]["breaks"]
    assert set(FAULTS[name]["breaks"]) <= set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_fault_breaks_the_requirement_alone_or_with_others(name: str) -> None:
    assert any(name in fault["breaks"] for fault in FAULTS.values())


def copied(folder: Path, file: str) -> Path:
    """Make a copy of what the tests need; return the place of the module ``file``."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "uapi", folder / "uapi", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    for path in (ROOT / "tests").glob("*.py"):
        shutil.copy(path, folder / "tests")
    table, its_tests = GUEST_TABLE
    if file != table:
        (folder / its_tests).unlink()
    return folder / "uapi" / file


def broken(folder: Path) -> set[str]:
    """Run the tests in ``folder``, and return the requirements of those that failed."""
    modules = {f"tests/{test.partition('::')[0]}" for test in REQUIREMENTS}
    argv = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    argv += ["-m", "requirement and not vm", "--junitxml=result.xml"]
    ended = subprocess.run(
        [*argv, *sorted(module for module in modules if (folder / module).is_file())],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    cases = [*ElementTree.parse(folder / "result.xml").iter("testcase")]  # noqa: S314 (our own)
    assert cases, ended.stdout
    return {REQUIREMENTS[function(case)] for case in cases if failed(case)}


def failed(case: ElementTree.Element) -> bool:
    """Return whether a case in the file of results has failed, or could not run."""
    return any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))


def function(case: ElementTree.Element) -> str:
    """Return the test of a case in the file of results: "test_vmm_ring.py::test_words"."""
    module = case.attrib["classname"].rpartition(".")[2]
    return f"{module}.py::{case.attrib['name'].partition('[')[0]}"


@pytest.mark.planted
@each_fault
def test_fault_breaks_exactly_its_requirements(tmp_path: Path, name: str) -> None:
    copied(tmp_path, FAULTS[name]["file"]).write_text(planted(name))
    assert broken(tmp_path) == set(FAULTS[name]["breaks"])


@pytest.mark.planted
def test_without_a_fault_nothing_is_broken(tmp_path: Path) -> None:
    table, _ = GUEST_TABLE
    copied(tmp_path, table)
    assert broken(tmp_path) == set()
