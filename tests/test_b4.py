# SPDX-License-Identifier: GPL-2.0-only
"""The answers to b4: what it hands over is found, and b4 itself reads what comes back."""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
import shlex
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from b4.review import checks as b4_checks

from kpatch.checks import b4
from kpatch.checks.b4 import Asked
from kpatch.errors import HarnessError
from kpatch.report.review import b4 as answers
from kpatch.tables.outcomes import ExitCode
from tests import commandline, kerneltree
from tests.samplereviews import BAD, GOOD, REVIEWS, UNJUDGED

FILE = "drivers/vfio/vfio_main.c"

# The command line with one check alone, which finds patches that add the word "bad".
PROGRAM = """\
from kpatch.checks import table
from kpatch.model import Finding


def find(context):
    for patch in context.patches:
        if b"+int bad" in patch.diff:
            yield Finding("ERROR: adds a bad line", patch=patch.number)


table.CHECKS = (table.Row("planted", "Finds bad lines.", "patch", table.QUICK, find),)

from kpatch.cli import main

main()
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a kernel's repository with one commit; b4 has a home of its own."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))
    tree = kerneltree.make(tmp_path / "linux")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "base")):
        kerneltree.git(tree, *words)
    kerneltree.git(tree, "config", "user.name", "T")
    kerneltree.git(tree, "config", "user.email", "t@example.org")
    return tree


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Return the start of the command that b4 is told to run, as docs/check.md has it."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return ["env", f"PYTHONPATH={commandline.ROOT}", sys.executable, "-P", str(program), "check"]


def commit(repository: Path, name: str) -> str:
    """Add a line to a file of the kernel; return the commit's id."""
    with (repository / FILE).open("a") as file:
        file.write(f"int {name};\n")
    kerneltree.git(repository, "commit", "-qam", f"vfio: Add {name}\n\nA text.")
    return kerneltree.git(repository, "rev-parse", "HEAD").strip()


def mail(repository: Path, range_: str, *, number: int = 1) -> bytes:
    """Return the mail of that number, as git writes it for the range of commits."""
    out = repository.parent / "mails"
    kerneltree.git(repository, "format-patch", "-q", "-o", str(out), range_)
    return sorted(out.iterdir())[number - 1].read_bytes()


# b4 prep --check


def test_prep_shows_the_remarks_on_each_patch(repository: Path, command: list[str]) -> None:
    program = [str(Path(sys.executable).with_name("b4")), "-n"]

    def run(*words: str) -> str:
        ended = subprocess.run(
            [*program, *words], cwd=repository, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return re.sub(r"\x1b\[[0-9;]*m", "", ended.stdout + ended.stderr)

    run("prep", "-n", "topic", "-f", "HEAD")
    commits = [commit(repository, name) for name in ("good", "bad", "other")]
    words = shlex.join([*command, "--b4", "prep"])
    kerneltree.git(repository, "config", "b4.prep-perpatch-check-cmd", words)
    shown = run("prep", "--check").partition("---\n")[2]
    assert shown.splitlines() == [
        f"● {commits[0][:12]}: vfio: Add good",
        f"● {commits[1][:12]}: vfio: Add bad",
        "  ● env: ERROR: planted: ERROR adds a bad line",
        f"● {commits[2][:12]}: vfio: Add other",
        "---",
        "Success: 2, Warning: 0, Error: 1",
    ]


# b4 review


def reviewed(
    repository: Path, command: list[str], mail: bytes, **environment: str
) -> list[dict[str, Any]]:
    """Return what b4 makes of the answer to ``mail``."""
    message = email.message_from_bytes(mail, EmailMessage, policy=email.policy.default)
    words = shlex.join([*command, "--b4", "review"])
    return b4_checks.run_series_checks(
        ("cover@example.org", message), [words], str(repository), extra_env=environment
    )


def tracked(repository: Path, tmp_path: Path, *names: str) -> Path:
    """Make a branch as `b4 review` does, and return the file with its record."""
    kerneltree.git(repository, "checkout", "-qb", "b4/review/a-change")
    first, *_ = [commit(repository, name) for name in names]
    kerneltree.git(repository, "commit", "--allow-empty", "-qm", "cover\n\n--- b4-review ---\n{}")
    kerneltree.git(repository, "checkout", "-q", "main")
    file = tmp_path / "tracking.json"
    record = {"first-patch-commit": first, "change-id": "a-change"}
    file.write_text(json.dumps({"series": record}))
    return file


COVER = b"Subject: [PATCH 0/3] vfio: Add lines\nFrom: T <t@example.org>\n\nText.\n"


def test_review_shows_the_whole_series(
    repository: Path, command: list[str], tmp_path: Path
) -> None:
    file = tracked(repository, tmp_path, "good", "bad", "other")
    [entry] = reviewed(repository, command, COVER, B4_TRACKING_FILE=str(file))
    assert (entry["tool"], entry["status"]) == ("planted", "fail")
    assert entry["summary"] == "ERROR: adds a bad line"
    assert "fail: patch 2/3 (vfio: Add bad)" in entry["details"].replace("error:", "fail:")


def test_review_shows_a_success(repository: Path, command: list[str], tmp_path: Path) -> None:
    file = tracked(repository, tmp_path, "good", "other")
    [entry] = reviewed(repository, command, COVER, B4_TRACKING_FILE=str(file))
    assert (entry["status"], entry["summary"]) == ("pass", "nothing found")


def test_review_of_a_cover_alone_is_no_success(repository: Path, command: list[str]) -> None:
    [entry] = reviewed(repository, command, COVER)
    assert entry["status"] == "warn"
    assert "B4_TRACKING_FILE" in entry["summary"]


# What b4 hands over


def test_patch_of_the_branch_is_found(repository: Path) -> None:
    commit(repository, "good")
    second = commit(repository, "bad")
    commit(repository, "other")
    asked = b4.asked(mail(repository, "HEAD~3", number=2), repository, {})
    assert asked == Asked(str(repository), f"{second}~2..{second}", 2)


def test_patch_of_two_files_is_found(repository: Path) -> None:
    (repository / "Makefile").write_text("all:\n")
    kerneltree.git(repository, "add", "Makefile")
    only = commit(repository, "good")
    asked = b4.asked(mail(repository, "HEAD~1"), repository, {})
    assert asked == Asked(str(repository), f"{only}~1..{only}", 1)


def test_patch_with_the_title_of_another_is_not_taken_for_it(repository: Path) -> None:
    commit(repository, "good")
    one = mail(repository, "HEAD~1").replace(b"+int good;", b"+int better;")
    asked = b4.asked(one, repository, {})
    assert asked.patch == 0
    assert Path(asked.series).read_bytes().count(b"+int better;") == 1


def test_single_patch_is_kept_as_b4_has_decoded_it(repository: Path) -> None:
    head = b"Subject: [PATCH] x: y\nContent-Transfer-Encoding: base64\n\n"
    asked = b4.asked(head + b"diff --git a/a b/a\n+b\n", repository, {})
    kept = Path(asked.series).read_bytes()
    assert b"base64" not in kept
    assert kept.endswith(b"\n\ndiff --git a/a b/a\n+b\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is no record of a series"),
        ("[]", "is no record of a series"),
        ('{"series": {"first-patch-commit": "--all", "change-id": "x"}}', "has no first commit"),
        ('{"series": {"first-patch-commit": "%s", "change-id": "../x"}}' % ("a" * 40), "change-id"),
    ],
)
def test_record_of_b4_that_is_none_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "tracking.json"
    file.write_text(text)
    with pytest.raises(HarnessError, match=complaint):
        b4.asked(COVER, tmp_path, {b4.TRACKING: str(file)})


def test_silence_of_b4_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="nothing came by standard input"):
        b4.asked(b"\n", tmp_path, {})


# The answers


def test_remarks_are_those_of_the_patch() -> None:
    first, second = (answers.remarks(BAD, patch).splitlines() for patch in (1, 2))
    assert [line[:18] for line in first] == ["ERROR: kernel: the", "WARNING: coccinell"]
    more = [line[:18] for line in second if line not in first]
    assert more == ["ERROR: bisect: dri", "WARNING: w1: drive"]
    assert answers.remarks(GOOD, 2) == ""


def test_nothing_judged_is_no_success() -> None:
    assert answers.remarks(UNJUDGED).startswith("WARNING: ")
    [entry] = json.loads(answers.results(UNJUDGED))
    assert entry["status"] == "warn"


@pytest.mark.parametrize("name", REVIEWS)
def test_answers_have_the_form_that_b4_reads(name: str) -> None:
    for line in answers.remarks(REVIEWS[name]).splitlines():
        assert re.match(r"(ERROR|WARNING): [^\x00-\x1f\x7f-\x9f\u202a-\u202e]*$", line)
        assert line.startswith("ERROR: ") == ("ERROR:" in line)
    for entry in json.loads(answers.results(REVIEWS[name])):
        assert entry.keys() == {"tool", "status", "summary", "url", "details"}
        assert entry["status"] in ("pass", "warn", "fail")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", entry["details"])


def test_series_that_does_not_apply_fails() -> None:
    error = HarnessError("x", "does not apply", hint="rebase", code=ExitCode.APPLY, details="hunk")
    assert answers.refused_remarks(error) == "ERROR: x: does not apply; rebase\n"
    [entry] = json.loads(answers.refused_results(error))
    assert (entry["status"], entry["details"]) == ("fail", "hunk")


def test_environment_of_the_tests_is_not_b4s() -> None:
    assert b4.TRACKING not in os.environ
