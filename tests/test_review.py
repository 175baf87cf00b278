# SPDX-License-Identifier: GPL-2.0-only
"""Reviews: which checks run, what they are recorded as, and the exit code."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kpatch.checks import review, table
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.checks.review import ReviewRequest
from kpatch.checks.table import QUICK, Row
from kpatch.errors import HarnessError
from kpatch.lib.progress import Progress
from kpatch.model import Finding
from kpatch.pipeline import RunRequest
from kpatch.tables.outcomes import CheckOutcome, ExitCode
from tests import commandline, kerneltree

Find = Callable[[Context], Iterator[Finding]]

WARNING = Finding("is odd", CheckOutcome.WARN, patch=1, file="a.c", line=3)
FAULT = Finding("is broken", CheckOutcome.FAIL, patch=1)


def finds(*findings: Finding) -> Find:
    return lambda context: iter(findings)


def raises(error: BaseException) -> Find:
    def run(context: Context) -> Iterator[Finding]:
        raise error
        yield

    return run


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[ExitCode, dict[str, Any]]]:
    """Return a function that reviews a patch by the given checks: exit code and review.json."""
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "one.mbox").write_text(commandline.PATCH)
    tree = kerneltree.make(tmp_path / "tree")

    def run(*checks: Find, **more: Any) -> tuple[ExitCode, dict[str, Any]]:
        rows = tuple(Row(f"c{n}", "Finds.", "patch", QUICK, one) for n, one in enumerate(checks))
        monkeypatch.setattr(table, "CHECKS", rows)
        request = RunRequest(kernel=str(tree), series=(str(tmp_path / "one.mbox"),))
        try:
            made = review.review(ReviewRequest(request, **more), tmp_path / "out", Progress())
            code = made.exit_code
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        return code, json.loads((tmp_path / "out" / "review.json").read_text())

    return run


def outcomes(record: dict[str, Any]) -> list[str]:
    return [check["outcome"] for check in record["checks"]]


def test_worst_finding_is_the_outcome_and_comes_first(check: Any) -> None:
    code, record = check(finds(WARNING, FAULT), finds(), finds(WARNING))
    assert code is ExitCode.FAIL
    assert outcomes(record) == ["fail", "pass", "warn"]
    assert [found["text"] for found in record["checks"][0]["findings"]] == ["is broken", "is odd"]


def test_fail_on_decides_about_warnings(check: Any) -> None:
    assert check(finds(WARNING))[0] is ExitCode.PASS
    assert check(finds(WARNING), fail_on=CheckOutcome.WARN)[0] is ExitCode.FAIL


def test_check_that_judges_nothing_is_no_pass(check: Any) -> None:
    lost = HarnessError("QEMU", "is gone", hint="start it", code=ExitCode.LOST)
    code, record = check(
        raises(CouldNotRunError("no clang here")),
        raises(NotApplicableError("no header of the uAPI is touched")),
        raises(lost),
    )
    assert code is ExitCode.NOT_JUDGED
    assert outcomes(record) == ["could-not-run", "not-applicable", "could-not-run"]
    reasons = [one["reason"] for one in record["checks"]]
    assert reasons == ["no clang here", "no header of the uAPI is touched", str(lost)]


def test_check_that_is_not_selected_is_told(check: Any) -> None:
    code, record = check(finds(FAULT), finds(), checks=("c1",))
    assert (code, outcomes(record)) == (ExitCode.PASS, ["not-selected", "pass"])


def test_interrupted_review_leaves_what_is_known(check: Any) -> None:
    checks = (finds(FAULT), raises(KeyboardInterrupt()), finds(), finds())
    code, record = check(*checks, checks=("c0", "c1", "c3"))
    assert (code, record["exit_code"]) == (ExitCode.INTERRUPTED, ExitCode.INTERRUPTED)
    assert outcomes(record) == ["fail", "could-not-run", "not-selected", "could-not-run"]


def test_findings_are_kept_for_the_next_review(check: Any) -> None:
    calls = []

    def find(context: Context) -> Iterator[Finding]:
        def made() -> list[Finding]:
            calls.append(1)
            return [WARNING]

        yield from context.memo("one", [context.applied.delta_id], made)

    first, second = (check(find)[1]["checks"][0] for _ in range(2))
    assert len(calls) == 1
    assert first["findings"] == second["findings"] != []
    assert (first["parts"], first["reused"], second["reused"]) == (1, 0, 1)


def test_record_names_what_was_judged_and_repeats_it(check: Any, tmp_path: Path) -> None:
    def find(context: Context) -> Iterator[Finding]:
        context.tool("sparse", "0.6.4")
        context.stage.command(["sparse", "a b.c"])
        yield WARNING

    _, record = check(find, fail_on=CheckOutcome.WARN)
    [patch] = record["patches"]
    [judged] = record["checks"]
    assert len(patch["sha256"]) == 64
    assert patch["author"] == "vfio-acpi <vfio-acpi@localhost>"
    assert record["fail_on"] == "warn"
    assert record["tools"]["sparse"] == "0.6.4"
    assert {"compiler", "vfio-acpi"} < set(record["tools"])
    words = shlex.split(record["command"])
    assert words[1:4] == ["-m", "kpatch", "check"]
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert options["--kernel"] == str(tmp_path / "tree")
    assert options["--series"] == str(tmp_path / "one.mbox")
    assert options["--fail-on"] == "warn"
    assert judged["commands"] == [
        "sparse 'a b.c'",
        record["command"].replace(options["--checks"], "c0"),
    ]


@pytest.mark.parametrize("row", table.CHECKS, ids=lambda row: row.name)
def test_row_is_whole(row: Row) -> None:
    assert row.scope in ("patch", "series")
    assert row.group in table.GROUPS["all"]
    assert row.title.endswith(".")


def test_groups_select_their_rows() -> None:
    every = {row.name for row in table.CHECKS}
    assert table.selected(["all"]) == every
    assert table.selected(["quick"]) < every or len(every) == 1
    assert table.selected(["bisect"]) == {"bisect"}
