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


def write(folder: Path, name: str, truths: list[dict[str, Any]], *checks: Check) -> None:
    """Add a thread to the index of ``folder``, and its review if there are checks."""
    entry = {"message_id": f"{name}@x", "subject": name, "base": "6.1"}
    append(folder, f"[[thread]]\n{toml(entry)}")
    for one in truths:
        append(folder, f"[[thread.truth]]\n{toml(one)}")
    if checks:
        kernel = KernelInfo("6.1.192", "base", "0" * 16, {})
        review = Review(
            ExitCode.PASS,
            name,
            name,
            f"{name}@x",
            1,
            (),
            "2026-01-01T00:00:00Z",
            1.0,
            kernel=kernel,
            checks=checks,
        )
        path = folder / f"{name}_x"
        path.mkdir(parents=True)
        (path / "review.json").write_text(record.dump(review))


def append(folder: Path, text: str) -> None:
    with (folder / "threads.toml").open("a") as index:
        index.write(f"{text}\n")


def toml(table: dict[str, Any]) -> str:
    """Return ``table``, whose values are numbers and strings, in TOML: JSON writes these alike."""
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())


def made(folder: Path) -> str:
    return thread_table.main([str(folder)], index=folder / "threads.toml")


def judged(folder: Path) -> list[Verdict]:
    """Return the verdicts of all truths of ``folder``, in order."""
    return [
        thread_table.compare(
            thread,
            one,
            thread_table.read_review(folder / thread.slug / "review.json"),
        ).verdict
        for thread in thread_table.read_index(folder / "threads.toml")
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
        for line in made(tmp_path).splitlines()
    ]
    assert ["build", "1", "1", "0", "0", "0", "100%"] in rows
    assert ["checkpatch", "1", "0", "0", "1", "0", "0%"] in rows
    assert ["runtime", "1", "0", "0", "0", "1", "-"] in rows
    assert [CLEAN, "1", "0", "1", "0", "0", "0%"] in rows
    assert ["all", "4", "1", "1", "1", "1", "33%"] in rows
    assert ["bisect", "fail", "2", "1", "0", "1", "50%"] in rows


def test_a_finding_that_the_list_does_not_name_is_open(tmp_path: Path) -> None:
    write(tmp_path, "one", [truth("build")], check("bisect"), check("checkpatch", LONG_LINE))
    assert "| checkpatch | warn | 1 | 0 | 1 | 0 | - |" in made(tmp_path)


def test_text_of_mails_is_no_markup(tmp_path: Path) -> None:
    write(tmp_path, "one", [truth("build")])
    index = tmp_path / "threads.toml"
    index.write_text(index.read_text().replace("one@x", "a)<b>|c d@x"))
    tables = made(tmp_path)
    assert r"[a)\<b\>\|c d@x](https://lore.kernel.org/r/a%29%3Cb%3E%7Cc%20d@x)" in tables
    assert r"it \| said" in tables


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[[thread]]", "'truth'"),
        ('[[thread]]\ntruth = []\nmessage_id = "x"\nsubject = "s"', "'base'"),
        ('[[thread]]\ntruth = []\nmessage_id = ".."\nsubject = "s"\nbase = ""', "Message-ID"),
        ("[[thread]]\ntruth = [{ patch = 1 }]", "'kind'"),
        ('[[thread]]\ntruth = ["odd"]', "must be a mapping"),
        (f"[[thread]]\n[[thread.truth]]\n{toml(truth('odd'))}", "'odd' is no kind"),
        (f"[[thread]]\n[[thread.truth]]\n{toml(truth('style', match='('))}", "unterminated"),
        (f"[[thread]]\n[[thread.truth]]\n{toml({**truth('style'), 'x': 1})}", "'x'"),
    ],
)
def test_what_is_no_thread_is_named(tmp_path: Path, text: str, cause: str) -> None:
    write(tmp_path, "one", [truth("style")])
    append(tmp_path, text)
    with pytest.raises(HarnessError, match=r"threads\.toml, thread 2: is wrong: ") as caught:
        made(tmp_path)
    assert cause in str(caught.value)


def test_an_index_that_is_no_toml_is_named(tmp_path: Path) -> None:
    append(tmp_path, "[[thread]")
    with pytest.raises(HarnessError, match=r"threads\.toml: is no TOML"):
        made(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"checks": [{"name": "x"}]}'])
def test_a_damaged_review_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path, "one", [truth("build")], check("bisect"))
    (tmp_path / "one_x" / "review.json").write_text(content)
    with pytest.raises(HarnessError, match=r"review\.json: is not a review"):
        made(tmp_path)


def test_every_check_can_confirm_a_kind() -> None:
    """A check that is added has to be in KINDS."""
    assert {row.name for row in table.CHECKS} <= set().union(*KINDS.values())


def test_a_truth_without_match_agrees_with_any_finding_of_its_kind() -> None:
    alarm = thread_table.Alarm("bisect", CheckOutcome.FAIL, 2, "text", "text")
    assert alarm.confirmed_by(Truth("build", "", "", "", 2))
    assert not alarm.confirmed_by(Truth(CLEAN, "", "", "", 2))


def test_the_command_ends_with_the_code_of_bad_input(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kpatch.dev.thread_table", str(tmp_path / "none")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("\n") == 1
    assert "none: is no folder" in done.stderr


def test_the_page_shows_the_threads_of_the_index(tmp_path: Path) -> None:
    """Threads and truths in docs/threads.md are those of the index, in its order."""
    page = (PROJECT / "docs" / "threads.md").read_text(encoding="utf-8")
    shown, listed = (
        [(cells[0], cells[3]) for cells in map(cells_of, text.splitlines()) if len(cells) == 5]
        for text in (page, thread_table.main([str(tmp_path)]))
    )
    assert shown == listed


def cells_of(row: str) -> list[str]:
    return row.removeprefix("| ").removesuffix(" |").split(" | ")
