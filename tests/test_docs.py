# SPDX-License-Identifier: GPL-2.0-only
"""The documents agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

from kpatch.checks import table
from kpatch.run.runner import ACTIONS
from kpatch.series import catalog
from kpatch.tables import bases
from kpatch.tables.outcomes import EXIT_MEANING
from kpatch.tables.paths import KTESTS, PROJECT
from kpatch.verdict import requirements
from ktests.contract import ANY, HOST

README = (PROJECT / "README.md").read_text()
DOCUMENTS = (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md"))


def test_exit_codes_are_the_codes_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE)
    assert rows == [(str(code.value), meaning) for code, meaning in EXIT_MEANING.items()]


def test_every_link_leads_somewhere() -> None:
    found = [
        (document, target)
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text())
    ]
    assert {document.name for document, _ in found} >= {"README.md", "python.md"}
    for document, target in found:
        assert (document.parent / target).exists(), f"{document.name}: {target}"


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in headings}


def test_every_anchor_is_a_heading() -> None:
    found = [
        (document, target, anchor)
        for document in DOCUMENTS
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text())
    ]
    assert {document.name for document, _, _ in found} >= {"README.md", "uapi.md", "evidence.md"}
    for document, target, anchor in found:
        there = document.parent / target if target else document
        assert there.exists() and anchor in anchors(there), f"{document.name}: {target}#{anchor}"


def test_every_path_in_the_documents_exists() -> None:
    pattern = r"`((?:kpatch|kconfig|ktests|uapi|tests|docs)/[\w./-]*)`"
    found = [
        (document, path)
        for document in DOCUMENTS
        for path in re.findall(pattern, document.read_text())
    ]
    assert {document.name for document, _ in found} >= {"README.md", "add-a-test.md"}
    for document, path in found:
        assert (PROJECT / path.partition("NAME")[0]).exists(), f"{document.name}: {path}"


def test_every_mechanism_that_is_needed_is_carried() -> None:
    carried = {catalog.load(name, bases.DEFAULT_BASE).mechanism for name in catalog.carried()}
    carried |= {ANY, HOST, catalog.CONTROL.mechanism}
    for requirement in requirements.load().values():
        assert set(requirement.needs) | set(requirement.limits) <= carried


def test_every_action_is_used() -> None:
    suite = "".join(file.read_text() for file in Path(KTESTS).glob("*.py"))
    for action in ACTIONS:
        assert f'request("{action}"' in suite


def test_every_check_is_described() -> None:
    text = (PROJECT / "docs" / "check.md").read_text()
    sections = re.findall(r"^### (.+)$", text, re.MULTILINE)
    described = [name for section in sections for name in section.split(", ")]
    assert sorted(described) == sorted(row.name for row in table.CHECKS)
