# SPDX-License-Identifier: GPL-2.0-only
"""The files that a review leaves in OUT, made of the reviews of `tests/samplereviews.py`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from kpatch.errors import HarnessError
from kpatch.lib.stage import Silent
from kpatch.model import Finding
from kpatch.report import kcidb as run_kcidb
from kpatch.report import kcidb_objects, result
from kpatch.report import ktap as run_ktap
from kpatch.report.output_dir import open_output_dir
from kpatch.report.review import (
    gitlab,
    html,
    junit,
    kcidb,
    ktap,
    markdown,
    record,
    sarif,
    text,
    words,
    write,
)
from kpatch.report.review.record import Review
from kpatch.source import resolve
from kpatch.tables.bases import DEFAULT_BASE
from kpatch.tables.outcomes import JUDGED, CheckOutcome, ExitCode
from ktests import ktap as reader
from tests import samplereviews
from tests.samplereviews import BAD, BROKEN, GOOD, MANY, REVIEWS, UNJUDGED, WARNING
from tests.test_report import RUNS

STRICT = dataclasses.replace(BAD, fail_on=CheckOutcome.WARN)

# C0 and C1 without tab and newline, direction marks, surrogates.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

every_review = pytest.mark.parametrize("review", REVIEWS.values(), ids=REVIEWS)


def rendered(name: str, review: Review) -> str:
    made = write.FORMATS[name](review)
    return made if isinstance(made, str) else made.decode()


@pytest.mark.parametrize("name", [name for name in write.FORMATS if name != write.REVIEW])
@every_review
def test_outputs_are_safe_text(name: str, review: Review) -> None:
    made = rendered(name, review)
    assert UNSAFE.findall(made) == []
    # JSON could hide the characters in its escapes.
    assert not re.search(r"\\u(00[0189]|20(2[89a-e]|6[6-9])|d8)", made)


@every_review
def test_every_file_is_written(review: Review, tmp_path: Path) -> None:
    with open_output_dir(tmp_path) as output:
        write.write(output, review)
        assert list(output.names)[-1] == write.REVIEW
    assert {file.name for file in tmp_path.iterdir()} == {*write.FORMATS, ".vfio-acpi"}


# review.json


@pytest.mark.parametrize("name", [name for name in REVIEWS if name != "hostile"])
def test_record_fits_its_schema_and_comes_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / write.REVIEW
    path.write_text(record.dump(REVIEWS[name]))
    assert result.violation(json.loads(path.read_text()), record.SCHEMA) == ""
    assert record.load(path) == REVIEWS[name]


def test_record_of_hostile_text_is_whole(tmp_path: Path) -> None:
    with open_output_dir(tmp_path) as output:
        write.write(output, REVIEWS["hostile"])
    loaded = record.load(tmp_path / write.REVIEW)
    assert loaded.subject == REVIEWS["hostile"].subject.replace("\ud800", "?")


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"exit_code": 9}, "$.exit_code"),
        ({"more": 1}, "'more' was unexpected"),
        ({"patches": [{"number": 0}]}, "$.patches[0]"),
    ],
)
def test_record_that_does_not_fit_is_refused(
    changed: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / write.REVIEW
    path.write_text(json.dumps({**json.loads(record.dump(BAD)), **changed}))
    with pytest.raises(HarnessError, match=re.escape(complaint)) as error:
        record.load(path)
    assert error.value.code is ExitCode.LOST


def test_schema_describes_every_field() -> None:
    def undescribed(node: Any, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        found = [
            f"{path}.{name}"
            for name, field in node.get("properties", {}).items()
            if "description" not in field
        ]
        inner = [*node.get("properties", {}).values(), node.get("items"), *node.get("oneOf", [])]
        return found + [name for one in inner for name in undescribed(one, path)]

    schema = json.loads(record.SCHEMA.read_text())
    assert undescribed(schema, "$") == []
    assert set(schema["properties"]) == set(schema["required"])


def test_places_of_a_check() -> None:
    form, bisect, *_, kernel, debug = BAD.checks
    assert BAD.places(form) == {1: (), 2: (), 3: ()}
    assert BAD.places(bisect) == {1: (), 2: (BROKEN,), 3: ()}
    assert list(BAD.places(kernel)) == [0]
    assert BAD.places(debug) == {}


# report.txt


@every_review
def test_report_fits_a_screen_and_its_prose_a_mail(review: Review) -> None:
    lines = text.render(review).splitlines()
    assert len(lines) <= 50
    tools = (text.NEW, text.OLD, "  repeat: ", "Re: ")
    prose = [line for line in lines if not line.startswith(tools) or line.startswith("    ")]
    assert max(map(len, prose)) <= max(text.WIDTH, text.TOOL_LINE + 3)
    wide = [line for line in prose if len(line) > text.WIDTH and not line.startswith("      ")]
    assert wide == []


def test_report_names_subject_inputs_and_what_was_tested() -> None:
    made = text.render(GOOD)
    assert made.startswith("Re: [PATCH v2 0/3] vfio/pci: Forward ACPI notifications\n\n")
    for words_ in ("v7.3.4", "gcc (Debian 12.2.0-14)", "7.2.22", "plain fedcba9876543210"):
        assert words_ in made
    assert "\nNothing found by: form, bisect, kernel.\n" in made
    assert "\nTested: 3 patches on Linux 7.3.4 by form, bisect, kernel, in 5m12s" in made


def test_report_shows_findings_the_worst_first() -> None:
    made = text.render(BAD)
    heads = re.findall(r"^(FAIL|WARN) (\S+): (.*)$", made, re.MULTILINE)
    assert [head[:2] for head in heads] == [
        ("FAIL", "bisect"),
        ("FAIL", "kernel"),
        ("WARN", "w1"),
    ]
    assert heads[0][2] == "patch 2/3 (vfio/pci: Forward ACPI notifications)"
    assert f"  repeat: {BROKEN.command}\n" in made


def test_report_marks_the_new_lines_of_a_tool() -> None:
    marked = re.findall(r"^>> (\S+?): (\w+): ", text.render(BAD), re.MULTILINE)
    assert marked == [
        ("drivers/vfio/pci/vfio_pci_acpi.c:41:9", "error"),
        ("drivers/vfio/pci/vfio_pci_acpi.c:77:6", "warning"),
    ]
    assert "\n   drivers/vfio/pci/vfio_pci_core.c:12:5: warning: unused" in text.render(BAD)


def test_report_tells_why_a_check_has_not_judged() -> None:
    made = text.render(BAD)
    assert "\nCould not run: coccinelle (spatch is missing; install it).\n" in made
    assert "\nNot applicable: uapi (no header of the uAPI is touched).\n" in made
    assert "\nNot selected: kernel-debug.\n" in made
    assert "(1 could not run)" in made


def test_report_counts_what_it_does_not_show() -> None:
    made = text.render(MANY)
    shown = len(re.findall(r"^(?:FAIL|WARN) ", made, re.MULTILINE))
    left = re.search(r"^And (\d+) warnings: see report.html or review.json", made, re.MULTILINE)
    assert left is not None
    assert 0 < shown < len(MANY.findings)
    assert shown + int(left[1]) == len(MANY.findings)


def test_report_without_a_judgement_is_no_pass() -> None:
    made = text.render(UNJUDGED)
    assert "nothing is known of the series" in " ".join(made.split())
    assert "Tested: nothing." in made
    assert "nothing found" not in made.lower()


def test_report_names_the_checks_of_one_reason_together() -> None:
    why = "the review was interrupted"
    checks = tuple(
        samplereviews.check(name, CheckOutcome.COULD_NOT_RUN, reason=why) for name in "abc"
    )
    made = text.render(dataclasses.replace(BAD, checks=checks))
    assert f"\nCould not run: a, b, c ({why}).\n" in made


def test_interrupted_report_says_so() -> None:
    assert "before the review was interrupted: 1 failure" in words.verdict(REVIEWS["interrupted"])


# report.html


class _Page(HTMLParser):
    """What a page has: its tags with attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@every_review
def test_page_is_one_file_without_scripts(review: Review) -> None:
    page = _Page(html.render(review))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "img", "link", "object", "form", "base"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        target = attributes.get("href") or "#"
        assert target.startswith(("#", html.ARCHIVE))


@every_review
def test_every_link_within_the_page_leads_somewhere(review: Review) -> None:
    page = _Page(html.render(review))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [str(it["href"]) for _, it in page.tags if str(it.get("href", "")).startswith("#")]
    assert targets
    assert {target.removeprefix("#") for target in targets} <= set(ids)


@every_review
def test_page_shows_every_check_and_finding(review: Review) -> None:
    shown = _Page(html.render(review)).text
    for check, found in review.findings:
        assert check.name in shown
        assert words.cause(found) in shown
    for check in review.checks:
        assert html.MEANING[check.outcome] in shown


def test_page_escapes_markup() -> None:
    page = html.render(REVIEWS["hostile"])
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.parametrize(
    ("message_id", "link"),
    [
        ("a@b", "https://lore.kernel.org/all/a@b/"),
        ("a/?#b@c", "https://lore.kernel.org/all/a%2F%3F%23b@c/"),
        ("a@b\nc", ""),
        ("javascript:x", ""),
        ("", ""),
    ],
)
def test_page_links_to_a_mail_alone(message_id: str, link: str) -> None:
    page = _Page(html.render(dataclasses.replace(GOOD, message_id=message_id)))
    links = [it["href"] for tag, it in page.tags if tag == "a" and "http" in str(it["href"])]
    assert links == ([link] if link else [])


# report.md


def test_markdown_has_a_row_for_each_check() -> None:
    rows = [line for line in markdown.render(BAD).splitlines() if line.startswith("| ")]
    assert rows[0] == "| check | series | 1 | 2 | 3 |"
    assert rows[2:5] == [
        "| form |  | pass | pass | pass |",
        "| bisect |  | pass | **fail** | pass |",
        "| w1 |  | pass | **warn** | pass |",
    ]
    assert "| coccinelle | could-not-run&#58; spatch is missing; install it |" in rows[5]
    assert all(row.count("|") == 6 for row in rows)


@pytest.mark.parametrize(
    "markup",
    [
        *("@all", "[x](y)", "<b>", "`", "*x*", "_x_", "a|b", "#1", "https://x", "www.x.org"),
        *("- x", "+ x", "1. x", "12) x", "---", "    x"),
    ],
)
def test_markdown_shows_text_as_it_is(markup: str) -> None:
    import html as characters

    escaped = markdown.escape(markup)
    assert escaped != markup
    assert characters.unescape(escaped) == markup


def test_markdown_fences_hold_backticks() -> None:
    finding = dataclasses.replace(BROKEN, details=("a ```` b", "# no heading"), command="")
    check = dataclasses.replace(BAD.checks[1], findings=(finding,), commands=())
    made = markdown.render(dataclasses.replace(BAD, checks=(check,)))
    assert "\n`````\n   a ```` b\n   # no heading\n`````\n" in made


# results.ktap and junit.xml


@pytest.mark.parametrize(
    "review", [BAD, STRICT, GOOD, UNJUDGED], ids=["bad", "strict", "good", "un"]
)
def test_ktap_agrees_with_the_verdict(review: Review) -> None:
    report = reader.parse(ktap.render(review))
    assert report.flaws == () or any("not ok" in flaw for flaw in report.flaws)
    bad = {one.name for one in review.checks if one in review.judged and review.counts(one.outcome)}
    assert {case.name for case in report.cases if not case.ok} == bad
    skipped = {one.name for one in report.cases if one.skipped}
    assert skipped == {
        check.name
        for check in review.checks
        if check.outcome in (CheckOutcome.COULD_NOT_RUN, CheckOutcome.NOT_APPLICABLE)
    }


def test_ktap_of_hostile_text_has_no_line_and_no_directive_of_its_own() -> None:
    def results(review: Review) -> list[tuple[str, str]]:
        found = re.findall(r"^ *((?:not )?ok \d+) (.*)$", ktap.render(review), re.MULTILINE)
        return [(begin, "SKIP" if " # SKIP" in rest else "") for begin, rest in found]

    lines = ktap.render(REVIEWS["hostile"]).splitlines()
    assert [line for line in lines if not re.match(r" *(KTAP|1\.\.|ok|not ok|#)", line)] == []
    assert results(REVIEWS["hostile"]) == results(BAD)


def kunit(path: Path) -> str:
    """Return what the kernel's own parser, of the newest base, prints of the file ``path``."""
    tree = resolve.resolve(DEFAULT_BASE, stage=Silent()).path
    parser = tree / "tools/testing/kunit/kunit.py"
    return subprocess.run(
        [sys.executable, "-B", str(parser), "parse", str(path)],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout


@pytest.mark.trees
def test_kunit_reads_a_review(tmp_path: Path) -> None:
    path = tmp_path / "results.ktap"
    path.write_text(ktap.render(BAD))
    shown = kunit(path)
    assert re.search(r"\[FAILED\] bisect", shown)
    assert re.search(r"\[FAILED\] patch 2/3 \(vfio/pci: Forward ACPI notifications\)", shown)
    assert re.search(r"\[PASSED\] form", shown)
    assert re.search(r"\[SKIPPED\] coccinelle", shown)
    assert "Ran 12 tests: passed: 8, failed: 2, skipped: 2" in shown


@pytest.mark.trees
def test_kunit_counts_a_runs_expected_failures_as_passed(tmp_path: Path) -> None:
    """It knows no XFAIL; the totals are right all the same: nothing unexpected, nothing lost."""
    path = tmp_path / "results.ktap"
    made = run_ktap.render(RUNS["good"])
    path.write_text(made)
    assert made.count("# XFAIL") == 4
    assert "Ran 6 tests: passed: 6\n" in kunit(path)


def test_junit_agrees_with_the_verdict() -> None:
    for review, failures in ((GOOD, 0), (BAD, 2), (STRICT, 3)):
        root = ElementTree.fromstring(junit.render(review))  # noqa: S314 - ours
        assert root.get("failures") == str(failures)
        assert len(root.findall(".//failure")) == failures
    skipped = ElementTree.fromstring(junit.render(BAD)).findall(".//skipped")  # noqa: S314
    assert [one.get("type") for one in skipped] == ["could-not-run", "not-applicable"]


# kcidb.json

REPORTS = {
    **{f"review-{name}": kcidb.render(review) for name, review in REVIEWS.items()},
    **{f"run-{name}": run_kcidb.render(run) for name, run in RUNS.items()},
}


@pytest.mark.parametrize("name", REPORTS)
def test_kcidb_accepts_the_report(name: str) -> None:
    from kcidb_io.schema import V5_3

    data = json.loads(REPORTS[name])
    assert data["version"] == {"major": 5, "minor": 3}
    assert V5_3.is_valid_exactly(data)
    ids = [one["id"] for kind in ("checkouts", "builds", "tests") for one in data[kind]]
    assert len(ids) == len(set(ids))
    checkouts, builds = ({one["id"] for one in data[kind]} for kind in ("checkouts", "builds"))
    assert {build["checkout_id"] for build in data["builds"]} <= checkouts
    assert {test["build_id"] for test in data["tests"]} <= builds


KERNEL = result.KernelInfo("7.3.4", "git", "t" * 16, {"commit": "ab" * 20})


def test_kcidb_checkout() -> None:
    source = kcidb_objects.Source(KERNEL, "d1", "by\x07 netlink", "now", ("1", "2"), "m@x.org")
    made = kcidb_objects.checkout(source)
    assert made == {
        "id": kcidb_objects.identifier("checkout", "t" * 16, "d1", "now"),
        "origin": "vfio_acpi",
        "comment": "Linux 7.3.4, by netlink",
        "start_time": "now",
        "valid": True,
        "misc": {"tree_id": "t" * 16, "delta_id": "d1"},
        "git_commit_hash": "ab" * 20,
        "patchset_hash": hashlib.sha256(b"1\n2\n").hexdigest(),
        "message_id": "m@x.org",
    }
    released = dataclasses.replace(KERNEL, origin={"commit": "v7.3"})
    least = kcidb_objects.checkout(kcidb_objects.Source(released, "", "base", "now"))
    assert least.keys() == made.keys() - {"git_commit_hash", "patchset_hash", "message_id"}
    unpatched = kcidb_objects.checkout(kcidb_objects.Source(KERNEL, "", "base", "now", ()))
    assert unpatched["patchset_hash"] == ""


def test_kcidb_build() -> None:
    made = kcidb_objects.build("c:1", config="plain", config_id="f00", compiler="gcc\n12")
    assert made == {
        "id": kcidb_objects.identifier("build", "c:1", "plain", "f00"),
        "checkout_id": "c:1",
        "origin": "vfio_acpi",
        "architecture": "x86_64",
        "compiler": "gcc",
        "config_name": "plain",
        "misc": {"config_id": "f00"},
    }


def test_kcidb_test() -> None:
    made = kcidb_objects.test("b:1", "a.b", key="k", status="PASS", log="x" * 20000, seconds=0)
    assert made == {
        "id": kcidb_objects.identifier("test", "b:1", "a.b", "k"),
        "build_id": "b:1",
        "origin": "vfio_acpi",
        "path": "a.b",
        "status": "PASS",
        "comment": "k",
        "log_excerpt": "x" * kcidb_objects.EXCERPT,
        "duration": 0,
    }
    least = kcidb_objects.test("b:1", "a.b", key="k", status="PASS", log="")
    assert least.keys() == made.keys() - {"log_excerpt", "duration"}


def test_kcidb_names() -> None:
    digest = hashlib.sha256(b"a\0b").hexdigest()
    assert kcidb_objects.identifier("a", "b") == f"vfio_acpi:{digest[:32]}"
    assert (
        kcidb_objects.path("REQ-EVT-01", "X: a.b", "_x_", "[0]", "..") == "REQ-EVT-01.X_a_b.x.0._"
    )


def statuses(report: str) -> dict[str, str]:
    return {one["path"]: one["status"] for one in json.loads(report)["tests"]}


def test_kcidb_says_how_each_check_ended() -> None:
    made = statuses(kcidb.render(BAD))
    assert made == {
        "vfio_acpi_check.form": "PASS",
        "vfio_acpi_check.bisect": "FAIL",
        "vfio_acpi_check.w1": "PASS",
        "vfio_acpi_check.coccinelle": "MISS",
        "vfio_acpi_check.uapi": "SKIP",
        "vfio_acpi_check.kernel": "FAIL",
    }
    assert statuses(kcidb.render(STRICT))["vfio_acpi_check.w1"] == "FAIL"


def test_kcidb_has_the_hash_of_the_patches() -> None:
    [checkout] = json.loads(kcidb.render(GOOD))["checkouts"]
    lines = "".join(f"{patch.sha256}\n" for patch in GOOD.patches)
    assert checkout["patchset_hash"] == hashlib.sha256(lines.encode()).hexdigest()
    assert checkout["message_id"] == GOOD.message_id


def test_kcidb_leaves_out_what_fails_as_expected() -> None:
    data = json.loads(run_kcidb.render(RUNS["good"]))
    assert [one["status"] for one in data["tests"]] == ["PASS", "PASS"]
    assert [one["status"] for one in data["builds"]] == ["PASS"]


def test_kcidb_tells_what_is_unexpected() -> None:
    data = json.loads(run_kcidb.render(RUNS["bad"]))
    made = sorted(one["status"] for one in data["tests"])
    # the crash and the hang; the skip; the lost test and the incident; a pass
    assert made == ["ERROR", "FAIL", "FAIL", "MISS", "MISS", "PASS"]


# report.sarif and the report for GitLab


def test_sarif_has_a_result_for_each_finding() -> None:
    data = json.loads(sarif.render(BAD))
    assert data["version"] == "2.1.0"
    [run] = data["runs"]
    assert [(one["ruleId"], one["level"]) for one in run["results"]] == [
        ("bisect", "error"),
        ("kernel", "error"),
        ("w1", "warning"),
    ]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == BROKEN.file
    assert place["region"]["startLine"] == BROKEN.line
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert rules == {check.name for check in BAD.checks}
    [invocation] = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert "spatch is missing" in invocation["toolExecutionNotifications"][0]["message"]["text"]


def test_gitlab_tells_like_findings_apart() -> None:
    twice = dataclasses.replace(BAD.checks[2], findings=(WARNING, dataclasses.replace(WARNING)))
    items = json.loads(gitlab.render(dataclasses.replace(BAD, checks=(twice,))))
    assert [item["severity"] for item in items] == ["minor", "minor"]
    assert len({item["fingerprint"] for item in items}) == 2
    moved = dataclasses.replace(WARNING, line=99)
    [item] = json.loads(
        gitlab.render(
            dataclasses.replace(BAD, checks=(dataclasses.replace(twice, findings=(moved,)),))
        )
    )
    assert item["fingerprint"] == items[0]["fingerprint"]
    assert item["location"] == {"path": WARNING.file, "lines": {"begin": 99}}


def test_samples_have_every_outcome() -> None:
    seen = {check.outcome for review in REVIEWS.values() for check in review.checks}
    assert seen == set(CheckOutcome)
    assert {found.outcome for _, found in BAD.findings} == set(JUDGED) - {CheckOutcome.PASS}
    assert isinstance(samplereviews.SPLAT, Finding)
