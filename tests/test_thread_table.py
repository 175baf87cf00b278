# SPDX-License-Identifier: GPL-2.0-only
"""Reviews of threads against what the lists said: verdicts, totals, and what a folder may hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kpatch.checks import table
from kpatch.dev import thread_table
from kpatch.dev.thread_table import CLEAN, KINDS, Truth, Verdict
from kpatch.errors import HarnessError
from kpatch.model import Check, Finding
from kpatch.report.result import KernelInfo
from kpatch.report.review import record
from kpatch.report.review.record import Review
from kpatch.tables.outcomes import CheckOutcome, ExitCode
from kpatch.tables.paths import PROJECT

BROKEN = Finding("does not build: error: 'x' undeclared", patch=2, file="drivers/acpi/x.c", line=4)
LONG_LINE = Finding("LONG_LINE: line length of 104", CheckOutcome.WARN, patch=1)


def truth(kind: str, patch: int = 2, match: str = "") -> dict[str, Any]:
    return {
        "patch": patch,
        "kind": kind,
        "what": "it | said",
        "by": "0-day",
        "message_id": "reply@list",
        "match": match,
    }


def check(name: str, *findings: Finding, outcome: CheckOutcome = CheckOutcome.PASS) -> Check:
    worst = max((one.outcome for one in findings), key=list(CheckOutcome).index, default=outcome)
    return Check(name, name, "patch", worst, findings)


def write(folder: Path, slug: str, truths: list[dict[str, Any]], *checks: Check) -> None:
    """Add a thread to the index of ``folder``, and its review if there are checks."""
    entry = {"slug": slug, "message_id": f"{slug}@x", "subject": slug, "base": "6.1"}
    with (folder / "index.jsonl").open("a") as index:
        index.write(json.dumps({**entry, "truth": truths, "applies": ["6.1"]}) + "\n")
    if checks:
        kernel = KernelInfo("6.1.192", "base", "0" * 16, {})
        review = Review(
            ExitCode.PASS,
            slug,
            slug,
            f"{slug}@x",
            1,
            (),
            "2026-01-01T00:00:00Z",
            1.0,
            kernel=kernel,
            checks=checks,
        )
        path = folder / "results" / slug
        path.mkdir(parents=True)
        (path / "review.json").write_text(record.dump(review))


def judged(folder: Path) -> list[Verdict]:
    """Return the verdicts of all truths of ``folder``, in order."""
    return [
        thread_table.compare(
            thread,
            one,
            thread_table.read_review(folder / "results" / thread.slug / "review.json"),
        ).verdict
        for thread in thread_table.read_index(folder)
        for one in thread.truth
    ]


@pytest.mark.parametrize(
    ("kind", "patch", "match", "checks", "verdict"),
    [
        ("build", 2, "undeclared", [check("bisect", BROKEN)], Verdict.RIGHT),
        ("build", 2, "acpi/x.c", [check("bisect", BROKEN)], Verdict.RIGHT),
        ("build", 0, "", [check("bisect", BROKEN)], Verdict.RIGHT),
        ("build", 1, "", [check("bisect", BROKEN)], Verdict.NOT_SEEN),
        ("build", 2, "modpost", [check("bisect", BROKEN)], Verdict.NOT_SEEN),
        ("uapi", 2, "", [check("bisect", BROKEN)], Verdict.NOT_JUDGED),
        (
            "uapi",
            2,
            "",
            [check("uapi", outcome=CheckOutcome.COULD_NOT_RUN)],
            Verdict.NOT_JUDGED,
        ),
        ("uapi", 2, "", [check("uapi")], Verdict.NOT_SEEN),
        (CLEAN, 0, "", [check("bisect", BROKEN)], Verdict.WRONG),
        (CLEAN, 0, "", [check("checkpatch", LONG_LINE)], Verdict.RIGHT),
        (CLEAN, 0, "", [check("bisect")], Verdict.RIGHT),
        (
            CLEAN,
            0,
            "",
            [check("bisect", outcome=CheckOutcome.COULD_NOT_RUN)],
            Verdict.NOT_JUDGED,
        ),
        (CLEAN, 0, "", [], Verdict.NOT_JUDGED),
    ],
)
def test_a_truth_is_held_against_the_review(
    tmp_path: Path, kind: str, patch: int, match: str, checks: list[Check], verdict: Verdict
) -> None:
    write(tmp_path, "one", [truth(kind, patch, match)], *checks)
    assert judged(tmp_path) == [verdict]


def test_totals(tmp_path: Path) -> None:
    write(
        tmp_path,
        "two",
        [truth("build"), truth("checkpatch")],
        check("bisect", BROKEN),
        check("checkpatch"),
    )
    write(tmp_path, "good", [truth(CLEAN, 0)], check("bisect", BROKEN))
    write(tmp_path, "later", [truth("runtime")])
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in thread_table.main([str(tmp_path)]).splitlines()
    ]
    assert ["build", "1", "1", "0", "0", "0", "100%"] in rows
    assert ["checkpatch", "1", "0", "0", "1", "0", "0%"] in rows
    assert ["runtime", "1", "0", "0", "0", "1", "-"] in rows
    assert [CLEAN, "1", "0", "1", "0", "0", "0%"] in rows
    assert ["all", "4", "1", "1", "1", "1", "33%"] in rows
    assert ["bisect", "fail", "2", "1", "0", "1", "50%"] in rows


def test_a_finding_that_the_list_does_not_name_is_open(tmp_path: Path) -> None:
    write(tmp_path, "one", [truth("build")], check("bisect"), check("checkpatch", LONG_LINE))
    assert "| checkpatch | warn | 1 | 0 | 1 | 0 | - |" in thread_table.main([str(tmp_path)])


def test_text_of_mails_is_no_markup(tmp_path: Path) -> None:
    write(tmp_path, "one", [truth("build")])
    text = (tmp_path / "index.jsonl").read_text()
    (tmp_path / "index.jsonl").write_text(text.replace("one@x", "a)<b>|c d@x"))
    made = thread_table.main([str(tmp_path)])
    assert r"[a)\<b\>\|c d@x](https://lore.kernel.org/r/a%29%3Cb%3E%7Cc%20d@x)" in made
    assert r"it \| said" in made


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '{"slug": "../x", "message_id": "a", "subject": "s", "truth": []}',
        '{"slug": "x", "message_id": "a", "subject": "s", "truth": [{"patch": 1}]}',
        json.dumps({"slug": "x", "message_id": "a", "subject": "s", "truth": [truth("odd")]}),
        '{"slug": "x", "message_id": "a", "subject": "s", "truth": ["odd"]}',
        json.dumps(
            {"slug": "x", "message_id": "a", "subject": "s", "truth": [truth("style", match="(")]}
        ),
    ],
)
def test_a_line_that_is_no_thread_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path, "one", [])
    with (tmp_path / "index.jsonl").open("a") as index:
        index.write(line + "\n")
    with pytest.raises(HarnessError, match=r"index\.jsonl, line 2: is not a thread"):
        thread_table.main([str(tmp_path)])


@pytest.mark.parametrize("content", ["", "[]", '{"checks": [{"name": "x"}]}'])
def test_a_damaged_review_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path, "one", [truth("build")], check("bisect"))
    (tmp_path / "results" / "one" / "review.json").write_text(content)
    with pytest.raises(HarnessError, match=r"review\.json: is not a review"):
        thread_table.main([str(tmp_path)])


def test_every_check_can_confirm_a_kind() -> None:
    """A check that is added has to be in KINDS."""
    assert {row.name for row in table.CHECKS} <= set().union(*KINDS.values())


def test_a_truth_without_match_agrees_with_any_finding_of_its_kind() -> None:
    alarm = thread_table.Alarm("bisect", CheckOutcome.FAIL, 2, "text", "text")
    assert alarm.confirmed_by(Truth(2, "build", "", "", ""))
    assert not alarm.confirmed_by(Truth(2, CLEAN, "", "", ""))


def test_the_command_ends_with_the_code_of_bad_input(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kpatch.dev.thread_table", str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("\n") == 1
    assert "index.jsonl: cannot be read: No such file or directory" in done.stderr
