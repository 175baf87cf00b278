# SPDX-License-Identifier: GPL-2.0-only
"""The series of tests/series, and what the checks say about each (tests/series/expected.toml)."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kpatch.checks import table
from kpatch.errors import HarnessError
from kpatch.lib.stage import Silent
from kpatch.model import Applied
from kpatch.series import apply, catalog
from kpatch.source import resolve
from kpatch.tables.outcomes import CheckOutcome, ExitCode
from tests import commandline

FOLDER = Path(__file__).parent / "series"
AUTHOR = "vfio-acpi tests <tests@vfio-acpi.invalid>"
BASE, OLDER_BASE = "7.3", "6.12"

# Refusals, which end a review before its first check.
REFUSED = {"input": ExitCode.USAGE, "base": ExitCode.APPLY}

# Checks that take seconds, since they build no kernel.
FAST = {"checkpatch", "kconfig", "kernel-doc", "mail", "uapi"}


@dataclass(frozen=True)
class Case:
    """A series and what is expected of it: a table of expected.toml."""

    name: str
    check: str
    outcome: CheckOutcome
    defect: str
    patch: int = 0
    finding: str = ""

    @property
    def mbox(self) -> Path:
        """The file of the series."""
        return FOLDER / f"{self.name}.mbox"

    def applied(self, base: str) -> Applied:
        """Apply the series to ``base``; HarnessError if it is refused."""
        tree = resolve.resolve(base, stage=Silent())
        return apply.apply(tree, catalog.load(str(self.mbox), base), stage=Silent())

    def matches(self, text: str) -> bool:
        """Return whether ``text`` is of the finding that is expected."""
        return re.search(self.finding, text) is not None


def read(text: str) -> tuple[Case, ...]:
    """Return the cases of a file like expected.toml."""
    return tuple(
        Case(name, outcome=CheckOutcome(row.pop("outcome")), **row)
        for name, row in tomllib.loads(text).items()
    )


CASES = read((FOLDER / "expected.toml").read_text())
TAKEN = [case for case in CASES if case.check not in REFUSED]


def named(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def known() -> set[str]:
    return {*table.GROUPS, *(row.name for row in table.CHECKS)}


def test_every_file_has_its_row() -> None:
    assert {path.stem for path in FOLDER.glob("*.mbox")} == {case.name for case in CASES}


def test_rows_name_checks() -> None:
    assert {case.check for case in CASES} - set(REFUSED) <= known()


def test_rows_say_what_is_found() -> None:
    for case in CASES:
        good = case.outcome is CheckOutcome.PASS
        assert good == case.name.startswith("good-") == (not case.finding), case.name
        assert good or case.check in REFUSED or case.patch, case.name


@named(list(CASES))
def test_nobody_else_signs(case: Case) -> None:
    text = case.mbox.read_text()
    assert set(re.findall(r"^(?:From|[A-Z][a-z-]+-by): (.*)$", text, re.M)) == {AUTHOR}


@pytest.mark.trees
@named(TAKEN)
def test_applies(case: Case) -> None:
    applied = case.applied(BASE)
    assert case.patch <= len(applied.subjects)
    assert applied.changes


@pytest.mark.trees
@named([case for case in CASES if case.check in REFUSED])
def test_refused(case: Case) -> None:
    with pytest.raises(HarnessError) as caught:
        case.applied(BASE)
    assert caught.value.code is REFUSED[case.check]
    assert case.matches(str(caught.value))


@pytest.mark.trees
def test_wrong_base_applies_to_its_own() -> None:
    [case] = (case for case in CASES if case.check == "base")
    assert case.applied(OLDER_BASE).changes


CASE = read('[a]\ncheck = "c"\noutcome = "warn"\npatch = 2\ndefect = ""\nfinding = "x unused"')[0]
GOOD = read('[a]\ncheck = "c"\noutcome = "pass"\ndefect = ""')[0]


def checked(outcome: str, *findings: tuple[int, str]) -> list[dict[str, Any]]:
    """Return the results of a check with ``findings``, each a patch and a text, and of others."""
    found = [{"patch": patch, "text": text, "details": []} for patch, text in findings]
    return [
        {"outcome": outcome, "findings": found},
        {"outcome": "not-selected", "findings": []},
    ]


def test_what_is_expected_is_right() -> None:
    assert_judged(CASE, checked("warn", (2, "x unused")))
    assert_judged(GOOD, checked("pass"))


@pytest.mark.parametrize(
    ("case", "checks"),
    [
        (CASE, checked("pass")),
        (CASE, checked("fail", (2, "x unused"))),
        (CASE, checked("could-not-run")),
        (CASE, checked("not-selected")),
        (CASE, checked("warn", (1, "x unused"))),
        (CASE, checked("warn", (2, "y unused"))),
        (CASE, checked("warn", (2, "x unused"), (1, "y unused"))),
        (GOOD, checked("warn", (1, "x unused"))),
        (GOOD, checked("could-not-run")),
    ],
)
def test_all_else_is_wrong(case: Case, checks: list[dict[str, Any]]) -> None:
    with pytest.raises(AssertionError):
        assert_judged(case, checks)


@pytest.mark.trees
@named([case for case in TAKEN if case.check in FAST])
def test_fast_check_finds_it(case: Case, tmp_path: Path) -> None:
    assert_judged(case, reviewed(case, case.check, tmp_path / "out"))


@pytest.mark.trees
@named([case for case in TAKEN if case.check not in FAST])
def test_fast_checks_find_nothing_else(case: Case, tmp_path: Path) -> None:
    results = reviewed(case, " ".join(sorted(FAST)), tmp_path / "out")
    assert {one["outcome"] for one in results} <= {"pass", "not-applicable", "not-selected"}


@pytest.mark.check
@named([case for case in TAKEN if case.check not in FAST])
def test_check_finds_it(case: Case, tmp_path: Path) -> None:
    assert_judged(case, reviewed(case, case.check, tmp_path / "out"))


def reviewed(case: Case, checks: str, out: Path) -> list[dict[str, Any]]:
    """Review a series by ``checks``. Returns the results of the checks."""
    argv = ("check", "--kernel", BASE, "--series", str(case.mbox), "--checks", checks)
    ended = commandline.run(*argv, "--out", str(out), out=out)
    results: list[dict[str, Any]] = json.loads((ended.out / "review.json").read_text())["checks"]
    return results


def assert_judged(case: Case, checks: list[dict[str, Any]]) -> None:
    """Assert that the checks found what is expected, and nothing else."""
    outcomes = {one["outcome"] for one in checks} - {"not-selected", "not-applicable"}
    findings = [found for one in checks for found in one["findings"]]
    assert outcomes == {case.outcome.value}, findings
    if case.finding:
        assert {found["patch"] for found in findings} == {case.patch}, findings
        told = ["\n".join((found["text"], *found["details"])) for found in findings]
        assert any(map(case.matches, told)), told
