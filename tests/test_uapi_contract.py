# SPDX-License-Identifier: GPL-2.0-only
"""docs/uapi.md, the contract: its length, its subjects, and the requirements that it refers to."""

from __future__ import annotations

import re

import pytest

from kpatch.dev import errnos, uapi_doc
from kpatch.tables.mechanisms import MECHANISMS, RECOMMENDED
from kpatch.verdict import requirements

TEXT = (uapi_doc.DOCS / "uapi.md").read_text()
TABLE = requirements.load()

# A VMM's author reads it in six minutes.
WORDS = 1400

# What the author of a VMM asks, and a pattern of the answer.
SUBJECTS = {
    "status": r"\*\*Status:\*\*",
    "kernels and drivers": r"\*\*Kernels and drivers:\*\*",
    "probe and register": r"^## Probe and register$",
    "read": r"^## Read$",
    "order": r"\*\*Order:\*\*",
    "overflow": r"\*\*Overflow:\*\*",
    "re-arm": r"re-armed",
    "never relay": r"^## Never relay$",
    "reset": r"\*\*Reset\*\*",
    "low power": r"\*\*Low power:\*\*",
    "hot-unplug": r"\*\*Hot-unplug, unbind:\*\*",
    "duplicates": r"\*\*Duplicates of the device's descriptor\*\*",
    "live update": r"\*\*Live update:\*\*",
    "migration": r"\*\*Migration:\*\*",
    "errors": r"^## Errors$",
    "fallback": r"^## Without it$",
    "pyroute2": r"53504",
}


def test_it_is_short() -> None:
    """All words count, also those of the tables' borders and of the code."""
    assert len(TEXT.split()) <= WORDS


@pytest.mark.parametrize("subject", SUBJECTS)
def test_it_has_the_subject(subject: str) -> None:
    assert len(re.findall(SUBJECTS[subject], TEXT, re.MULTILINE)) == 1


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_each_mechanism_has_a_section(mechanism: str) -> None:
    page = (uapi_doc.DOCS / "mechanisms.md").read_text()
    assert f"\n## {mechanism}\n" in page
    if mechanism != RECOMMENDED:
        section = TEXT.partition(f"\n### {mechanism}\n")[2].partition("\n#")[0]
        assert f"](mechanisms.md#{mechanism})" in section


def test_it_refers_to_what_the_recommended_mechanism_has_to_meet() -> None:
    ids = set(re.findall(r"\[([A-Z]{3}-\d\d)\]\(evidence", TEXT))
    assert len(ids) > 25
    rows = [TABLE[f"REQ-{name}"] for name in ids]
    assert [row.id for row in rows if not row.promised_by(RECOMMENDED)] == []
    assert [row.id for row in rows if RECOMMENDED in row.limits] == []


def test_it_says_which_errnos_no_test_shows() -> None:
    rows = re.findall(r"^\| \w* \| `(E\w+)` \| (.*) \|$", TEXT, re.MULTILINE)
    wanted = [
        (errno.name, errno.cause + " (not judged)" * (not errno.tests))
        for call in errnos.load()
        if call.mechanism == RECOMMENDED and "GET_INFO" not in call.name
        for errno in call.errnos
    ]
    assert rows == wanted
    assert {"ENODEV", "ENOMEM", "EBUSY"} < {name for name, _ in rows}
