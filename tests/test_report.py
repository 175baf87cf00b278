# SPDX-License-Identifier: GPL-2.0-only
"""The files that a run leaves in OUT, and the table at its end."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import resource
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import junitparser
import pytest

from kpatch.build.log import CompilerMessage
from kpatch.errors import HarnessError
from kpatch.lib.stage import StageRecord
from kpatch.report import commands, ktap, output_dir, result, tables, write
from kpatch.report.result import (
    ErrorInfo,
    KernelInfo,
    RunResult,
    SeriesInfo,
)
from kpatch.run.console import Place
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.tables.paths import PROJECT
from kpatch.verdict.judge import Incident, SeenFault, TestResult
from kpatch.vm.accel import Accel
from ktests import ktap as reader

DATA = Path(__file__).parent / "data" / "report"

NASTY = "\x1b[2J\x1b]0;owned\x07ok 1 # SKIP\nnot ok 2 ]]> <b>&\x00\u202e\nok 3"


def seen(
    kind: str,
    line: str,
    excerpt: str,
    test: str | None = None,
    place: Place = Place.BOOT,
    time: float | None = None,
    **more: Any,
) -> SeenFault:
    return SeenFault(kind, line, excerpt, test, place, time, series="netlink", vm=1, **more)


def case(
    name: str,
    series: str,
    outcome: Outcome,
    expected: Outcome = Outcome.PASS,
    *,
    ok: bool | None = None,
    requirement: str = "REQ-EVT-01",
    message: str = "",
) -> TestResult:
    return TestResult(
        id=name,
        requirement=requirement,
        series=series,
        outcome=outcome,
        expected=expected,
        ok=outcome is expected if ok is None else ok,
        seconds=None if outcome is Outcome.LOST else 0.25,
        message=message,
        values={"bytes": 68, "fast": True, "rate": 0.5, "name": "vfio_pci"},
    )


GOOD = RunResult(
    exit_code=ExitCode.PASS,
    flavor="plain",
    started="2026-11-22T14:00:00Z",
    seconds=41.0,
    kernel=KernelInfo("7.3.4", "debian", "0123456789abcdef", {"package": "x"}, "7.3.4-vfio"),
    series=(
        SeriesInfo("control", "the unpatched kernel", "none"),
        SeriesInfo("netlink", "acpi_event for devices", "netlink", ("vfio/pci: forward",), "k1"),
    ),
    accel=Accel("tcg", "auto", "no vmx or svm"),
    tools={"gcc": "12.2.0"},
    requirements={"REQ-EVT-01": "The layout is stable.", "REQ-EVT-05": "32 bits arrive."},
    stages=(
        StageRecord("source", None, 0.01, True),
        StageRecord("build", "netlink", 312.4, False, ("make -j2 bzImage", "cd '/a b' && ls")),
    ),
    tests=(
        case("test_layout[0x81]", "control", Outcome.FAIL, Outcome.FAIL, message="no event"),
        case("test_layout[0x82]", "control", Outcome.FAIL, Outcome.FAIL),
        case("test_layout[0x81]", "netlink", Outcome.PASS),
        case("test_layout[0x82]", "netlink", Outcome.PASS),
        case("test_wide", "control", Outcome.FAIL, Outcome.FAIL, requirement="REQ-EVT-05"),
        case("test_wide", "netlink", Outcome.XFAIL, Outcome.XFAIL, requirement="REQ-EVT-05"),
    ),
)
BAD = dataclasses.replace(
    GOOD,
    exit_code=ExitCode.CRASH,
    tests=(
        *GOOD.tests[:3],
        case("test_layout[0x82]", "netlink", Outcome.CRASH, message=f"BUG: x {NASTY}"),
        case("test_wide", "control", Outcome.PASS, Outcome.FAIL, requirement="REQ-EVT-05"),
        case("test_wide", "netlink", Outcome.SKIP, requirement="REQ-EVT-05", message=NASTY),
        case("test_hang #1", "netlink", Outcome.HANG, message="did not end"),
        case("test_lost", "netlink", Outcome.LOST),
    ),
    incidents=(Incident("netlink", 2, Outcome.INFRA, f"nonsense: {NASTY}"),),
    faults=(
        seen("bug", "BUG: x", NASTY, "test_layout[0x82]", Place.DURING, 1.5),
        seen("bug", "BUG: y", "BUG: y\n"),
        seen("warning", "WARNING", "W\n", known="ours"),
    ),
)
ABORTED = RunResult(
    exit_code=ExitCode.APPLY,
    flavor="plain",
    started="2026-11-22T14:00:00Z",
    seconds=1.0,
    error=ErrorInfo("series netlink, patch 1/1", "hunk 2 does not apply", "rebase it", "hunk"),
)
UNJUDGED = dataclasses.replace(
    GOOD,
    exit_code=ExitCode.NOT_JUDGED,
    series=(
        GOOD.series[0],
        dataclasses.replace(
            GOOD.series[1],
            mechanism="undetected",
            config_id="c0ffee",
            warnings=(
                result.WarningInfo("drivers/a.c", 7, "unused x", new=True),
                result.WarningInfo("drivers/a.c", None, "unused y", new=False),
            ),
        ),
    ),
    tests=(*GOOD.tests[:2], case("test_new", "netlink", Outcome.PASS, requirement="REQ-NEW-01")),
    incidents=(Incident("netlink", 0, Outcome.NOT_JUDGED, "no mechanism was detected"),),
)
RUNS = {"good": GOOD, "bad": BAD, "aborted": ABORTED, "unjudged": UNJUDGED}


def shown(run: RunResult) -> str:
    file = io.StringIO()
    tables.show(run, file)
    return file.getvalue()


def unsafe(text: str) -> set[str]:
    return set(re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text))


# result.json


@pytest.mark.parametrize("name", RUNS)
def test_result_fits_its_schema_and_comes_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(result.dump(RUNS[name]))
    assert result.violation(json.loads(path.read_text())) == ""
    assert result.load(path) == RUNS[name]


def test_what_the_issue_asks_for_is_there() -> None:
    data = json.loads(result.dump(GOOD))
    assert data["schema_version"] == result.SCHEMA_VERSION
    assert (data["verdict"], data["exit_code"]) == ("pass", 0)
    assert {"version", "provider", "tree_id"} <= set(data["kernel"])
    assert {"name", "seconds", "cached"} <= set(data["stages"][0])
    assert {"id", "requirement", "series", "outcome", "seconds", "message"} <= set(data["tests"][0])
    assert {"series", "flavor", "accel", "tools"} <= set(data)


def test_the_schema_describes_every_field() -> None:
    def undescribed(node: object, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        found = []
        for name, field in node.get("properties", {}).items():
            if "description" not in field:
                found.append(f"{path}.{name}")
            for inner in (field, field.get("items"), *field.get("oneOf", [])):
                found += undescribed(inner, f"{path}.{name}")
        return found

    schema = json.loads(result.SCHEMA.read_text())
    assert undescribed(schema, "$") == []
    # A result that an earlier version of the harness wrote has no such field.
    optional = {"not_judged"}
    assert set(schema["properties"]) == set(schema["required"]) | optional


def test_the_table_says_by_what_a_mechanism_was_detected() -> None:
    found = dataclasses.replace(GOOD.series[1], detected="index 5 is there")
    shown = tables.render(dataclasses.replace(GOOD, series=(GOOD.series[0], found)))
    assert "\nnetlink: mechanism netlink, detected: index 5 is there\n" in shown
    assert "detected:" not in tables.render(GOOD), "nobody looks for that of a carried series"


@pytest.mark.parametrize(
    ("outcomes", "expected", "shown"),
    [
        # The worst outcome comes first, at any position.
        (("pass", "fail", "crash"), Outcome.PASS, "CRASH 2/3"),
        (("lost", "hang"), Outcome.PASS, "HANG 2/2"),
        (("infra", "fail"), Outcome.PASS, "INFRA 2/2"),
        (("pass", "skip"), Outcome.PASS, "SKIP 1/2 (unexpected)"),
        (("pass", "fail"), Outcome.FAIL, "PASS 1/2 (unexpected)"),
        (("xfail", "fail"), Outcome.FAIL, "fail 2x (expected)"),
        (("lost",), Outcome.PASS, "LOST"),
        ((), Outcome.PASS, "-"),
    ],
)
def test_a_cell_shows_the_worst(outcomes: tuple[str, ...], expected: Outcome, shown: str) -> None:
    tests = tuple(
        case(
            f"test_{number}",
            "netlink",
            Outcome(word),
            expected,
            ok=word == expected.value or (expected.value, word) == ("fail", "xfail"),
        )
        for number, word in enumerate(outcomes)
    )
    run = dataclasses.replace(GOOD, tests=tests)
    assert tables.cell(run, "REQ-EVT-01", "netlink").plain == shown


@pytest.mark.parametrize(
    ("outcome", "expected", "colour"),
    [
        (Outcome.PASS, Outcome.PASS, "green"),
        (Outcome.XFAIL, Outcome.XFAIL, "yellow"),
        (Outcome.FAIL, Outcome.FAIL, "dim"),
        (Outcome.SKIP, Outcome.SKIP, ""),
        (Outcome.FAIL, Outcome.PASS, "bold red"),
        (None, None, "dim"),
    ],
)
def test_the_colour_of_a_cell(outcome: Outcome | None, expected: Outcome, colour: str) -> None:
    tests = (case("test", "netlink", outcome, expected),) if outcome else ()
    run = dataclasses.replace(GOOD, tests=tests)
    assert tables.cell(run, "REQ-EVT-01", "netlink").style == colour


def test_an_incident_of_a_series_names_no_vm() -> None:
    incidents = (
        Incident("netlink", 0, Outcome.INFRA, "REQ-EVT-05 has no test"),
        Incident("netlink", 2, Outcome.LOST, "x" * 1000),
    )
    lines = tables.render(dataclasses.replace(GOOD, incidents=incidents)).splitlines()
    assert "netlink: infra: REQ-EVT-05 has no test" in lines
    [lost] = [line for line in lines if line.startswith("netlink VM 2: lost: xxx")]
    assert lost.count("x") < tables.MESSAGE_WIDTH, "and no more of it than fits"


def test_the_table_tells_warnings_of_every_series() -> None:
    said = result.warnings_of([CompilerMessage("drivers/a.c", 7, "unused x")], {})
    run = dataclasses.replace(
        GOOD, series=tuple(dataclasses.replace(series, warnings=said) for series in GOOD.series)
    )
    shown = tables.render(run)
    for name in ("control", "netlink"):
        assert (
            f"\n{name}: warning, not compared with the base's build: drivers/a.c:7: unused x\n"
            in shown
        )


def test_the_table_tells_what_the_base_complains_of_as_well() -> None:
    fault = seen("bug", "BUG: x", "BUG: x\n", title="BUG: x", of_base=True)
    shown = tables.render(dataclasses.replace(GOOD, faults=(fault, fault)))
    assert (
        "\nnetlink: not counted, the unpatched kernel makes the same report: BUG: x, 2x\n" in shown
    )


def test_the_table_tells_new_warnings_from_those_of_the_base() -> None:
    told = ((7, "unused x"), (9, "unused y"), (11, "unused x"))
    said = [CompilerMessage("drivers/a.c", line, text) for line, text in told]
    unknown = "warning, not compared with the base's build"
    for before, lines in (
        ({}, (f"{unknown}: drivers/a.c:7: unused x", f"{unknown}: drivers/a.c:9: unused y")),
        (
            {"drivers/a.c": ["unused x"], "drivers/b.c": ["unused y"]},
            (
                "warning, of the base too: drivers/a.c:7: unused x",
                "new warning: drivers/a.c:9: unused y",
                "new warning: drivers/a.c:11: unused x",  # one in the base, two in the series
            ),
        ),
    ):
        warned = dataclasses.replace(GOOD.series[1], warnings=result.warnings_of(said, before))
        shown = tables.render(dataclasses.replace(GOOD, series=(GOOD.series[0], warned)))
        for line in lines:
            assert f"\nnetlink: {line}\n" in shown


WARNED = dataclasses.replace(
    GOOD,
    series=(
        GOOD.series[0],
        dataclasses.replace(
            GOOD.series[1],
            config_id="c0ffee",
            warnings=(
                result.WarningInfo("drivers/a.c", 7, f"unused x {NASTY}", new=False),
                result.WarningInfo("drivers/a.c", None, "unused y", new=True),
            ),
        ),
    ),
)


def test_every_report_has_the_warnings(tmp_path: Path) -> None:
    """Warnings do not change the verdict: tests that are "ok" without them stay "ok"."""
    assert result.violation(json.loads(result.dump(WARNED))) == ""
    (tmp_path / "result.json").write_text(result.dump(WARNED))
    assert result.load(tmp_path / "result.json") == WARNED
    assert WARNED.exit_code is ExitCode.PASS
    lines = shown(WARNED).splitlines()
    at = [
        n for n, line in enumerate(lines) if line.startswith("netlink: ") and "drivers/a.c" in line
    ]
    assert [lines[n].partition(": unused")[0] for n in at] == [
        "netlink: new warning: drivers/a.c",
        "netlink: warning, of the base too: drivers/a.c:7",
    ]
    added = [line for line in ktap.render(WARNED).splitlines() if line not in ktap.render(GOOD)]
    assert [line.partition(": unused")[0] for line in added] == [
        "# netlink: warning, of the base too: drivers/a.c:7",
        "# netlink: new warning: drivers/a.c",
    ]
    document = junit(WARNED, tmp_path)
    assert (document.tests, document.failures, document.errors, document.skipped) == (6, 0, 0, 1)
    [_, suite] = ElementTree.fromstring(  # noqa: S314
        (tmp_path / "out" / "junit.xml").read_bytes()
    ).iter("testsuite")
    assert "new warning: drivers/a.c: unused y" in (suite.findtext("system-out") or "")
    properties = {item.get("name"): item.get("value") for item in suite.iter("property")}
    assert properties["config"] == "c0ffee"
    for name in ("junit.xml", "results.ktap", "summary.txt"):
        assert not unsafe((tmp_path / "out" / name).read_text()), name


def test_the_table_does_not_drown_in_warnings() -> None:
    many = tuple(result.WarningInfo("a.c", n, "unused", new=n == 99) for n in range(100))
    series = (dataclasses.replace(GOOD.series[1], warnings=many),)
    lines = [line for line in shown(dataclasses.replace(GOOD, series=series)).splitlines() if line]
    at = lines.index("netlink: new warning: a.c:99: unused")
    assert lines[at + tables.WARNINGS] == "netlink: 80 warnings more, in result.json"
    long = result.WarningInfo("a.c", 1, "unused " + "x" * 1000, new=True)
    series = (dataclasses.replace(series[0], warnings=(*many[: tables.WARNINGS - 1], long)),)
    text = shown(dataclasses.replace(GOOD, series=series))
    assert "warnings more" not in text
    assert max(len(line) for line in text.splitlines() if "unused" in line) < 200


def test_every_warning_of_the_base_excuses_one() -> None:
    said = [CompilerMessage(None, None, "no rule")] * 3
    found = result.warnings_of(said, {"": ["no rule", "no rule"]})
    assert [(it.file, it.new) for it in found] == [("", False), ("", False), ("", True)]


def test_the_error_of_a_run_is_kept_whole() -> None:
    error = HarnessError("series x", "does not apply", hint="rebase it", details="hunk")
    assert result.error_of(error) == ErrorInfo("series x", "does not apply", "rebase it", "hunk")


def test_a_result_is_json_that_a_person_can_read() -> None:
    text = result.dump(dataclasses.replace(GOOD, flavor="größe"))
    assert '\n  "flavor": "größe",\n' in text
    with pytest.raises(ValueError, match="not JSON compliant"):
        result.dump(dataclasses.replace(GOOD, seconds=float("nan")))


def test_the_schema_knows_the_tables() -> None:
    properties = json.loads(result.SCHEMA.read_text())["properties"]
    assert properties["verdict"]["enum"] == [code.word for code in ExitCode]
    assert properties["exit_code"]["enum"] == list(ExitCode)
    of_tests = [outcome for outcome in Outcome if outcome is not Outcome.NOT_JUDGED]
    assert properties["tests"]["items"]["properties"]["outcome"]["enum"] == of_tests
    of_no_test = properties["incidents"]["items"]["properties"]["outcome"]["enum"]
    assert of_no_test == ["crash", "hang", "lost", "infra", "not-judged"]
    assert properties["faults"]["items"]["properties"]["place"]["enum"] == list(Place)


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "fine"},
        {"more": 1},
        {"started": "yesterday"},
        {"seconds": -1},
        {"schema_version": 2},
        {"tests": [{"id": "x"}]},
    ],
    ids=str,
)
def test_the_schema_is_strict(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**json.loads(result.dump(GOOD)), **change}))
    with pytest.raises(HarnessError, match=r"result\.schema\.json") as error:
        result.load(path)
    assert error.value.code is ExitCode.LOST


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]"])
def test_a_bad_result_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(HarnessError):
        result.load(tmp_path / "result.json")


def test_a_result_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as error:
        result.load(tmp_path / "result.json")
    assert error.value.what == str(tmp_path / "result.json")
    assert error.value.cause == "No such file or directory"
    assert error.value.hint == "run the tests again"
    assert error.value.code is ExitCode.LOST


# junit.xml


def junit(run: RunResult, tmp_path: Path) -> junitparser.JUnitXml:
    with output_dir.open_output_dir(tmp_path / "out") as out:
        write.write(out, run)
    return junitparser.JUnitXml.fromfile(str(tmp_path / "out" / "junit.xml"))


def test_junit_of_a_good_run(tmp_path: Path) -> None:
    document = junit(GOOD, tmp_path)
    assert [suite.name for suite in document] == ["control", "netlink"]
    assert (document.tests, document.failures, document.errors, document.skipped) == (6, 0, 0, 1)


def test_junit_of_a_bad_run(tmp_path: Path) -> None:
    document = junit(BAD, tmp_path)
    # failures: a pass on the control, an unexpected skip; errors: crash, hang, lost, the incident
    assert (document.tests, document.failures, document.errors, document.skipped) == (9, 2, 4, 0)
    assert unsafe((tmp_path / "out" / "junit.xml").read_text()) == set()
    root = ElementTree.fromstring((tmp_path / "out" / "junit.xml").read_bytes())  # noqa: S314
    names = {item.get("name") for item in root.iter("testcase")}
    assert "test_layout[0x82]" in names


def test_junit_of_an_aborted_run(tmp_path: Path) -> None:
    document = junit(ABORTED, tmp_path)
    assert (document.tests, document.errors) == (1, 1)


@pytest.mark.parametrize("name", RUNS)
def test_junit_golden(name: str) -> None:
    root = ElementTree.fromstring(write.FORMATS["junit.xml"](RUNS[name]))  # noqa: S314 - ours
    ElementTree.indent(root)
    shown = ElementTree.tostring(root, encoding="unicode") + "\n"
    assert shown == (DATA / f"{name}.junit.xml").read_text()


# results.ktap


@pytest.mark.parametrize("name", RUNS)
def test_ktap_golden(name: str) -> None:
    assert ktap.render(RUNS[name]) == (DATA / f"{name}.ktap").read_text()


RESULT_LINE = re.compile(
    r"(  )?(ok|not ok) (\d+) ([^#\n]+?)(?: # (SKIP|XFAIL|TIMEOUT|ERROR)( .*)?)?"
)


@pytest.mark.parametrize("name", RUNS)
def test_ktap_grammar(name: str) -> None:
    expected = {"": 0, "  ": 0}
    for line in ktap.render(RUNS[name]).splitlines():
        indent = "  " if line.startswith("  ") else ""
        if line.strip() == "KTAP version 1":
            expected[indent] = 0
        elif match := re.fullmatch(r"\s*1\.\.(\d+)", line):
            assert expected[indent] == 0
        elif not line.strip().startswith("#"):
            match = RESULT_LINE.fullmatch(line)
            assert match is not None, line
            expected[indent] += 1
            assert int(match[3]) == expected[indent]


@pytest.mark.parametrize(
    ("name", "failed"), [("good", []), ("bad", ["control", "netlink"]), ("aborted", ["run"])]
)
def test_ktap_is_whole_for_the_reader_of_the_guest(name: str, failed: list[str]) -> None:
    report = reader.parse(ktap.render(RUNS[name]))
    assert report.flaws == ()
    assert [case.name for case in report.failed] == failed
    flaws = [flaw for case in report.cases for flaw in case.flaws]
    assert all(flaw.startswith("nested: not ok ") for flaw in flaws), "every nested plan is kept"


def test_no_word_of_the_guest_is_a_directive() -> None:
    lines = ktap.render(BAD).splitlines()
    assert not [line for line in lines if "SKIP" in line and not line.strip().startswith("# ")]
    assert not [line for line in lines if unsafe(line)]
    for test in BAD.tests:
        name = test.id.replace("#", "%23")
        status = "ok" if test.ok else "not ok"
        assert [line for line in lines if re.match(rf"  {status} \d+ {re.escape(name)}", line)]


# the table


@pytest.mark.parametrize("name", RUNS)
def test_table_golden(name: str) -> None:
    assert shown(RUNS[name]) == (DATA / f"{name}.txt").read_text()


def test_table_of_several_runs_golden() -> None:
    older = dataclasses.replace(
        BAD, kernel=dataclasses.replace(BAD.kernel or KernelInfo("", "", ""), version="6.12.117")
    )
    file = io.StringIO()
    tables.show_all([GOOD, older, ABORTED], file)
    assert file.getvalue() == (DATA / "matrix.txt").read_text()


class Terminal(io.StringIO):
    """A text stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_no_escape_of_the_guest_reaches_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    file = Terminal()
    tables.show(BAD, file)
    left = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())  # the colours are ours
    assert "CRASH" in left
    assert unsafe(left) == set()
    assert "\x1b[2J" not in file.getvalue()


@pytest.mark.parametrize("columns", [200, 98, 60, 48])
def test_a_narrow_terminal_cuts_nothing_but_sentences(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    rows = [[f"REQ-EVT-{number:02}", "fail 10x (expected)", "pass"] for number in range(3)]
    file = Terminal()
    tables.print_grid(["requirement", "base", "netlink"], rows, file, ["A long sentence. " * 9] * 3)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    for row in rows:
        line = next(line for line in shown.splitlines() if row[0] in line)
        assert line.split()[:5] == " ".join(row).split()
        assert len(line) <= columns
    assert ("A long" in shown) is (columns >= 98)
    assert ("…" in shown) is (columns == 98), "only a sentence that is cut says so"


def test_a_plain_table_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown(GOOD) == (DATA / "good.txt").read_text()


def test_the_table_tells_what_takes_another_flavor() -> None:
    flavors = {"REQ-DEL-61": "hypervisor", "REQ-VMM-01": "relay", "REQ-DEL-60": "hypervisor"}
    told = tables.render(dataclasses.replace(GOOD, not_judged=flavors))
    assert "\nnot judged without FLAVOR=hypervisor: REQ-DEL-60, REQ-DEL-61\n" in told
    assert "\nnot judged without FLAVOR=relay: REQ-VMM-01\n" in told


def test_a_requirement_without_test_has_no_row() -> None:
    new = {"REQ-NEW-01": "The selftests pass.", **GOOD.requirements}
    assert shown(dataclasses.replace(GOOD, requirements=new)) == shown(GOOD)


def test_there_is_no_table_without_tests() -> None:
    assert "requirement  control" in shown(GOOD)
    assert "requirement  control" not in shown(dataclasses.replace(GOOD, tests=()))


# commands.txt


def test_commands_can_be_read_by_a_shell() -> None:
    text = commands.render(GOOD)
    assert "# build netlink (took 5m12s)" in text
    assert "# source (cached: nothing was run)" in text
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines == ["make -j2 bzImage", "cd '/a b' && ls"]
    assert shlex.split(lines[1])[:2] == ["cd", "/a b"]


# OUT


def test_everything_is_written(tmp_path: Path) -> None:
    with output_dir.open_output_dir(tmp_path / "a" / "out", names=write.FORMATS) as out:
        out.write(write.config_name("netlink"), "CONFIG_X=y\n")
        with out.file(write.console_name("netlink", 1)).open("wb") as console:
            console.write(b"[    0.000000] hello\n")
        write.write(out, GOOD)
    names = {path.name for path in (tmp_path / "a" / "out").iterdir()}
    assert names == {*write.FORMATS, "netlink.config", "console-netlink-1.log", output_dir.MANIFEST}
    for name in write.FORMATS:
        assert stat.S_IMODE((tmp_path / "a" / "out" / name).stat().st_mode) == 0o644


def test_a_format_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [*write.FORMATS][-1] == write.RESULT, "whoever finds it finds the rest"
    monkeypatch.setitem(write.FORMATS, "count.txt", lambda run: f"{len(run.tests)}\n")
    with output_dir.open_output_dir(tmp_path, names=write.FORMATS) as out:
        write.write(out, GOOD)
    assert (tmp_path / "count.txt").read_text() == f"{len(GOOD.tests)}\n"


def test_an_earlier_result_goes_and_nothing_else(tmp_path: Path) -> None:
    with output_dir.open_output_dir(tmp_path) as out:
        write.write(out, GOOD)
        out.write("console-netlink-2.log", "old")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "mine.config").write_text("mine")
    with output_dir.open_output_dir(tmp_path, names=write.FORMATS) as out:
        assert not (tmp_path / write.RESULT).exists()
        assert out.names == ()
    assert {path.name for path in tmp_path.iterdir()} == {
        "notes.txt",
        "mine.config",
        output_dir.MANIFEST,
    }


def test_what_a_killed_run_left_goes_too(tmp_path: Path) -> None:
    with output_dir.open_output_dir(tmp_path) as out:
        out.file("console-netlink-1.log").write_text("half")
        # as if the run was killed here: nothing more is written
        with pytest.raises(HarnessError, match="another run"), output_dir.open_output_dir(tmp_path):
            pass
    with output_dir.open_output_dir(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [output_dir.MANIFEST]


def test_what_a_run_left_that_was_killed_while_it_wrote(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from kpatch.report import output_dir;"
        "Path.replace = lambda *_: os.kill(os.getpid(), 9);"
        "open_ = output_dir.open_output_dir(Path(sys.argv[1]));"
        "open_.__enter__().write('result.json', 'x')"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=PROJECT)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    with output_dir.open_output_dir(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [output_dir.MANIFEST]


def test_somebody_elses_file_is_refused_early_and_kept(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("mine")
    with (
        pytest.raises(HarnessError, match="not from a run") as error,
        output_dir.open_output_dir(tmp_path, names=write.FORMATS),
    ):
        pytest.fail("claimed")
    assert error.value.code is ExitCode.USAGE
    assert (tmp_path / "result.json").read_text() == "mine"


def test_somebody_elses_file_is_never_overwritten(tmp_path: Path) -> None:
    with output_dir.open_output_dir(tmp_path) as out:
        (tmp_path / "x.log").write_text("mine")
        with pytest.raises(HarnessError, match="not from a run"):
            out.write("x.log", "ours")
    assert (tmp_path / "x.log").read_text() == "mine"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", ".vfio-acpi", "a\nb", "-x"])
def test_no_name_leaves_the_folder(name: str, tmp_path: Path) -> None:
    with (
        output_dir.open_output_dir(tmp_path / "out") as out,
        pytest.raises(HarnessError, match="is no file name"),
    ):
        out.write(name, "x")


def test_a_forged_manifest_removes_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("x")
    out = tmp_path / "out"
    (out / "folder").mkdir(parents=True)
    (out / output_dir.MANIFEST).write_text("../victim\n/etc/hostname\nfolder\n\xff\n")
    with output_dir.open_output_dir(out):
        pass
    assert (tmp_path / "victim").exists()
    assert (out / "folder").is_dir()


def test_a_manifest_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("x")
    (tmp_path / output_dir.MANIFEST).symlink_to("victim")
    with (
        pytest.raises(HarnessError, match="cannot be written"),
        output_dir.open_output_dir(tmp_path),
    ):
        pass
    assert (tmp_path / "victim").read_text() == "x"


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("x")
    with output_dir.open_output_dir(tmp_path / "out") as out:
        out.write("a.log", "1")
        (tmp_path / "out" / "a.log").unlink()
        (tmp_path / "out" / "a.log").symlink_to("../victim")
        out.write("a.log", "2")
    assert (tmp_path / "victim").read_text() == "x"
    assert (tmp_path / "out" / "a.log").read_text() == "2"


@pytest.mark.parametrize("where", ["file/out", "/proc/out", "/sys/kernel"])
def test_a_folder_that_cannot_be_written(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(HarnessError, match="cannot be written") as error,
        output_dir.open_output_dir(tmp_path / where),
    ):
        pytest.fail("claimed")
    assert error.value.code is ExitCode.USAGE
    assert "\n" not in str(error.value)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    """A limit on the file size simulates a full disk: both make write(2) fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with output_dir.open_output_dir(tmp_path) as out:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(HarnessError, match="cannot be written") as error:
                out.write("result.json", "x" * 100_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
    assert error.value.code is ExitCode.LOST
    assert [path.name for path in tmp_path.iterdir()] == [output_dir.MANIFEST]
