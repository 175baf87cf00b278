# SPDX-License-Identifier: GPL-2.0-only
"""The documents of the uAPI agree with the requirements and the suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpatch.dev import uapi_doc
from kpatch.verdict import requirements

TABLE = requirements.load()
TESTS = uapi_doc.tests()
ENTRIES = {entry.requirement.id: entry for rows in uapi_doc.entries().values() for entry in rows}

SUITE = """
import pytest

@pytest.mark.requirement("REQ-EVT-01")
@pytest.mark.parametrize("value", [1])
def test_one(value: int) -> None: ...

@pytest.mark.requirement("REQ-EVT-01")
def test_two() -> None: ...

def helper() -> None: ...
"""


@pytest.mark.parametrize("document", uapi_doc.DOCUMENTS, ids=lambda path: path.name)
def test_the_document_is_up_to_date(document: Path) -> None:
    """`python -m kpatch reference` writes it."""
    assert document.read_text(encoding="utf-8") == uapi_doc.render(document)


def test_every_test_has_a_requirement() -> None:
    assert set(TESTS) <= set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_every_requirement_has_a_test(name: str) -> None:
    assert ENTRIES[name].tests


@pytest.mark.parametrize("name", TABLE)
def test_every_requirement_was_seen_failing(name: str) -> None:
    assert ENTRIES[name].seen_failing, f"{name}: plant a fault that breaks it in tests/data/faults"


@pytest.mark.parametrize("name", TABLE)
def test_every_requirement_is_tested_where_it_says(name: str) -> None:
    on_host = {test.startswith("tests/") for test in ENTRIES[name].tests}
    assert on_host == {ENTRIES[name].on_host}


def test_tests_are_found_by_their_marker(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(SUITE)
    (tmp_path / "other.py").write_text(SUITE)
    assert uapi_doc.tests(tmp_path) == {
        "REQ-EVT-01": ["test_x.py::test_one", "test_x.py::test_two"]
    }


def test_faults_are_found_by_what_they_break(tmp_path: Path) -> None:
    planted = {"a": "eventq", "b": "base", "c": "eventq"}
    (tmp_path / "faults.toml").write_text(
        "[sample]\nformat = 1\n"
        + "".join(f'[{it}]\nseries = "{to}"\nbreaks = ["REQ-A"]\n' for it, to in planted.items())
    )
    assert uapi_doc.faults(tmp_path / "faults.toml") == {
        "REQ-A": {"eventq": ("a", "c"), "base": ("b",)}
    }
