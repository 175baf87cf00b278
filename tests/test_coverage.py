# SPDX-License-Identifier: GPL-2.0-only
"""Coverage: added lines by patch, counters of real programs, what is not run, and the bar.

A program of user space stands for the kernel; gcc, gcov, gcovr, diff-cover and git are real.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from kpatch import cli
from kpatch.build import gcov, objects
from kpatch.build.worktree import Worktree
from kpatch.checks import coverage as check
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.coverage import added, explained, figures, html, run, text, trace
from kpatch.coverage.explained import Row
from kpatch.coverage.figures import Coverage, Line, Patch
from kpatch.coverage.history import History
from kpatch.errors import HarnessError
from kpatch.model import Applied, Change, Config, Kernel, Origin, Series, Tree
from kpatch.model import Patch as Mail
from kpatch.pipeline import RunRequest
from kpatch.report.result import ErrorInfo, RunResult
from kpatch.run.protocol import Transcript
from kpatch.run.vm_run import Ending, VmRun
from kpatch.series import apply, catalog
from kpatch.tables.flavors import FLAVORS
from kpatch.tables.limits import DEFAULTS
from kpatch.tables.outcomes import CheckOutcome, ExitCode
from kpatch.tables.paths import PROJECT
from ktests import counters
from ktests.channel import Channel

DATA = PROJECT / "tests" / "data" / "coverage"
BASE, FIRST, SECOND = (DATA / f"sum-{number}.c.txt" for number in range(3))
HEADER = DATA / "sum.h.txt"
SOURCE, INCLUDED = "drivers/sum/sum.c", "drivers/sum/sum.h"
STEM = "drivers/sum/sum"


def mail(number: int, subject: str) -> Mail:
    return Mail(number, 2, subject, "", ("A", "a@example.org"), b"", ())


@pytest.fixture
def applied(tmp_path: Path) -> Applied:
    """A series of two patches on the program, the second of which adds a header too."""
    tree = tmp_path / "tree"
    (tree / "drivers/sum").mkdir(parents=True)
    (tree / SOURCE).write_bytes(BASE.read_bytes())
    one = (Change(SOURCE, FIRST.read_bytes()), Change("tools/sum.c", b"int x;\n"))
    two = (
        Change(SOURCE, SECOND.read_bytes()),
        Change(INCLUDED, HEADER.read_bytes()),
        Change("tools/sum.c", b"int x;\n"),
    )
    return Applied(
        Tree(tree, "7.3.4", "7.3", "folder", {}, "f" * 16, cached=False),
        Series("sums", "sums", "none", (), Origin.MBOX),
        (mail(1, "sum: add numbers"), mail(2, "sum: refuse <large> numbers")),
        two,
        apply.delta_id(two),
        (one, two),
    )


@pytest.fixture
def worktree(tmp_path: Path, applied: Applied) -> Worktree:
    """The program, compiled out of tree as the kernel is."""
    made = Worktree(tmp_path / "worktree")
    (made.obj / "drivers/sum").mkdir(parents=True)
    (made.src / "drivers/sum").mkdir(parents=True)
    for change in applied.changes[:2]:
        (made.src / change.path).write_bytes(change.content or b"")
    counted = ["-fprofile-arcs", "-ftest-coverage"]
    subprocess.run(
        ["gcc", "-O0", *counted, "-c", "-o", f"{STEM}.o", f"../{SOURCE}"], cwd=made.obj, check=True
    )
    subprocess.run(["gcc", "--coverage", "-o", "sum", f"{STEM}.o"], cwd=made.obj, check=True)
    return made


def counted(worktree: Worktree, *words: str) -> bytes:
    """Run the program with ``words``, and return its counters."""
    file = worktree.obj / f"{STEM}.gcda"
    file.unlink(missing_ok=True)
    subprocess.run(["./sum", *words], cwd=worktree.obj, check=False)
    return file.read_bytes()


@pytest.fixture
def kernel(tmp_path: Path, worktree: Worktree, applied: Applied) -> Kernel:
    """A kernel in the cache, as far as coverage reads it."""
    path = tmp_path / "kernel"
    path.mkdir()
    gcov.keep(worktree, applied, path)
    config = Config("coverage", "", "c", cached=True)
    return Kernel(applied, config, "gcc", path, "k", cached=True)


def vm(**of_objects: bytes) -> VmRun:
    sent = {f"build/source/.obj/{STEM}.gcda": data for data in of_objects.values()}
    return VmRun(Transcript(counters=sent), (), Ending.DONE)


def by_text(lines: tuple[Line, ...] | list[Line]) -> dict[str, Line]:
    return {line.text.strip(): line for line in lines}


# ---- the build ----------------------------------------------------------------------------------


def test_the_flavor_counts_and_no_other_does() -> None:
    assert [name for name, flavor in FLAVORS.items() if flavor.gcov] == [run.FLAVOR]
    fragment = (PROJECT / "kconfig/fragments/coverage.config").read_text()
    assert "CONFIG_GCOV_KERNEL=y" in fragment
    assert "GCOV_PROFILE_ALL" not in fragment


# scripts/Makefile.lib asks in this way whether an object has counters.
MAKEFILE = """\
target-stem = $(basename $(patsubst $(obj)/%,%,$@))
all: $(obj)/sum.o $(obj)/other.o
$(obj)/%.o: ; @echo $@: $(if $(patsubst n%,,$(GCOV_PROFILE_$(target-stem).o)$(GCOV_PROFILE)),yes,no)
"""


@pytest.mark.parametrize(("folder", "told"), [("drivers/sum", "yes"), ("drivers/other", "no")])
def test_only_touched_objects_have_counters(
    tmp_path: Path, applied: Applied, folder: str, told: str
) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "Top").write_text(f"all: ; @$(MAKE) --no-print-directory obj={folder}\n")
    done = subprocess.run(
        ["make", "-s", "-f", "Top", *gcov.settings(applied)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [f"{folder}/sum.o: {told}", f"{folder}/other.o: no"]


def test_an_unpatched_kernel_has_no_counters(applied: Applied) -> None:
    base = replace(applied, changes=(), steps=(), patches=())
    assert gcov.settings(base) == ()


def test_sources_beside_the_kernel_have_no_counters(applied: Applied) -> None:
    assert objects.stems(applied) == (STEM,)


def test_graphs_are_kept(kernel: Kernel, worktree: Worktree) -> None:
    [(stem, graph)] = gcov.graphs(kernel).items()
    assert stem == STEM
    assert graph.read_bytes() == (worktree.obj / f"{STEM}.gcno").read_bytes()


def test_a_link_to_another_file_is_not_followed(
    tmp_path: Path, worktree: Worktree, applied: Applied
) -> None:
    (tmp_path / "secret").write_text("secret")
    graph = worktree.obj / f"{STEM}.gcno"
    graph.unlink()
    graph.symlink_to(tmp_path / "secret")
    (tmp_path / "kernel").mkdir()
    with pytest.raises(HarnessError, match="is not there as a regular file") as refused:
        gcov.keep(worktree, applied, tmp_path / "kernel")
    assert refused.value.code is ExitCode.BUILD


# ---- the guest ----------------------------------------------------------------------------------


class Port(Channel):
    """A channel that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, str]]] = []

    def send(self, kind: str, **fields: str) -> None:
        """Keep the message."""
        self.sent.append((kind, fields))


def test_the_guest_sends_counters_and_follows_no_link(tmp_path: Path) -> None:
    folder = tmp_path / "build/source/.obj/fs"
    folder.mkdir(parents=True)
    (folder / "a.gcda").write_bytes(b"\x01\xff")
    (folder / "a.gcno").symlink_to("/nowhere/a.gcno")
    (tmp_path / "reset").write_text("0")
    port = Port()
    counters.send(port, tmp_path)
    data = base64.b64encode(b"\x01\xff").decode()
    assert port.sent == [("counters", {"name": "build/source/.obj/fs/a.gcda", "data": data})]


def test_a_kernel_without_counters_sends_none(tmp_path: Path) -> None:
    port = Port()
    counters.send(port, tmp_path / "gcov")
    assert port.sent == []


# ---- which patch added a line -------------------------------------------------------------------


def test_each_line_belongs_to_the_patch_that_added_it(tmp_path: Path, applied: Applied) -> None:
    history = History(tmp_path / "history", applied)
    assert history.paths == (SOURCE, INCLUDED), "no source that is not the kernel's"
    lines = dict(zip(history.lines(SOURCE), history.patches(SOURCE), strict=False))
    assert lines["#include <stdlib.h>"] == 0
    assert lines["\tint total = 0;"] == 1
    assert lines["\t\tif (too_large(value))"] == 2
    assert set(history.patches(INCLUDED)) == {2}


def test_a_file_that_the_series_removes_has_no_lines(tmp_path: Path, applied: Applied) -> None:
    gone = (Change(SOURCE, None),)
    history = History(tmp_path / "history", replace(applied, steps=(*applied.steps, gone)))
    assert history.paths == (SOURCE, INCLUDED)
    assert history.patches(SOURCE) == []


# ---- what was run -------------------------------------------------------------------------------


def test_lines_that_ran_and_lines_that_did_not(kernel: Kernel, worktree: Worktree) -> None:
    found = run.coverage(kernel, [vm(a=counted(worktree, "1", "2"))])
    lines = by_text(found.lines)
    assert lines["total += value;"].hits == 2
    assert (lines["exit(2);"].hits, lines["exit(2);"].patch) == (0, 2)
    assert lines["exit(2);"].function == "main"
    assert (lines["if (too_large(value))"].path, lines["return v > 100;"].path) == (
        SOURCE,
        INCLUDED,
    )
    assert "int old = 1;" not in lines, "not added by the series"
    condition = lines["if (too_large(value))"]
    assert (condition.branches, condition.taken) == (2, 1)
    assert [line.text.strip() for line in found.missed] == ["exit(2);"]
    assert (found.vms, found.silent, found.unbuilt) == (1, 0, ())


def test_what_several_vms_ran_is_added(kernel: Kernel, worktree: Worktree) -> None:
    vms = [vm(a=counted(worktree, "1", "2")), vm(a=counted(worktree, "500")), vm()]
    found = run.coverage(kernel, vms)
    lines = by_text(found.lines)
    assert lines["total += value;"].hits == 2
    assert lines["exit(2);"].hits == 1
    assert (found.missed, found.vms, found.silent) == ((), 3, 1)


def test_totals_by_patch(kernel: Kernel, worktree: Worktree) -> None:
    found = run.coverage(kernel, [vm(a=counted(worktree, "1"))])
    both, first, second = (found.totals(number) for number in range(3))
    assert second.executable - second.run == 1
    assert (first.executable, first.percent) == (first.run, 100.0)
    assert both.executable == first.executable + second.executable
    assert both.added == first.added + second.added > both.executable
    assert second.added == 10, "a header's lines count"


def test_counters_of_other_objects_are_left_out() -> None:
    names = {
        "build/source/.obj/fs/a.gcda": b"1",
        "fs/a.gcda": b"2",
        "build/source/.obj/fs/xa.gcda": b"3",
        "build/../../etc/passwd.gcda": b"4",
    }
    assert run.of_objects(names, {"fs/a": 0}) == {"fs/a": b"1"}


def test_without_counters_nothing_is_judged(kernel: Kernel) -> None:
    with pytest.raises(HarnessError, match="no VM has sent counters") as refused:
        run.coverage(kernel, [vm(), vm()])
    assert refused.value.code is ExitCode.NOT_JUDGED


def test_counters_of_another_compilation_are_refused(kernel: Kernel, worktree: Worktree) -> None:
    data = bytearray(counted(worktree, "1"))
    data[8] ^= 0xFF  # the stamp
    with pytest.raises(HarnessError, match="the guest's counters may be damaged") as refused:
        run.coverage(kernel, [vm(a=bytes(data))])
    assert refused.value.code is ExitCode.LOST


@pytest.mark.parametrize("data", [b"", b"gcda", b"\xff" * 4096])
def test_rubbish_for_counters_is_no_run(kernel: Kernel, data: bytes) -> None:
    try:
        run_ = run.coverage(kernel, [vm(a=data)]).totals().run
    except HarnessError as error:
        assert error.code is ExitCode.LOST
    else:
        assert run_ == 0


def test_sources_that_the_config_leaves_out(kernel: Kernel, worktree: Worktree) -> None:
    more = (*kernel.applied.changes, Change("fs/left.c", b"int left;\n"))
    other = replace(kernel, applied=replace(kernel.applied, changes=more))
    found = run.coverage(other, [vm(a=counted(worktree, "1"))])
    assert found.unbuilt == ("fs/left.c",)
    assert "not compiled with this config: fs/left.c" in text.render([found])


def test_a_series_without_code_is_not_judged(kernel: Kernel) -> None:
    folder = kernel.path / gcov.FOLDER
    next(folder.rglob("*.gcno")).unlink()
    with pytest.raises(HarnessError, match="adds no executable line") as refused:
        run.coverage(kernel, [vm()])
    assert refused.value.code is ExitCode.NOT_JUDGED


def test_a_failed_program_is_named(tmp_path: Path, applied: Applied) -> None:
    history = History(tmp_path / "work", applied)
    with pytest.raises(HarnessError, match="gcovr: ended with status") as refused:
        trace.run(history, "gcovr", "--no-such-option")
    assert refused.value.code is ExitCode.LOST
    assert "--no-such-option" in refused.value.details


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trace, "PROGRAMS", tmp_path)
    with pytest.raises(HarnessError, match="gcovr: is not installed; run: make coverage-ready"):
        trace.require()


def test_a_line_of_several_functions_counts_once() -> None:
    entry = {"line_number": 3, "count": 1, "branches": [{"count": 0}, {"count": 2}]}
    other = entry | {"count": 2, "function_name": "f", "branches": []}
    found = trace.parse({"files": [{"file": "a.c", "lines": [entry, other]}]})
    assert found == {("a.c", 3): trace.Count("f", 3, 2, 1)}


def test_the_settings_of_the_user_do_not_matter(
    kernel: Kernel, worktree: Worktree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".gitconfig").write_text("[core]\n\tautocrlf = true\n[diff]\n\texternal = false\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert by_text(run.coverage(kernel, [vm(a=counted(worktree, "1"))]).lines)


# ---- explanations and the bar -------------------------------------------------------------------

RAN = Line("fs/a.c", 10, 1, "f", "\tx = 1;", 5, 2, 1)
MISSED = Line("fs/a.c", 11, 1, "f", "\treturn -ENOMEM;", 0)
OTHER = Line("fs/a.c", 20, 2, "g", "\treturn -ENOMEM;", 0)
ROW = Row(("eventq",), "fs/a.c", "f", ("return -ENOMEM;",), "no memory")
PATCHES = (Patch(1, "one", 8), Patch(2, "two", 4))
MADE = Coverage("7.3.4", "eventq", PATCHES, (RAN, MISSED, OTHER), vms=1, silent=0)
RESULT = RunResult(ExitCode.PASS, "coverage", "2026-01-01T00:00:00Z", 1.0)


def test_explanations_are_of_file_function_and_line() -> None:
    lines, stale = explained.explain([RAN, MISSED, OTHER], "eventq", [ROW])
    assert [line.reason for line in lines] == ["", "no memory", ""]
    assert stale == ()
    assert explained.explain([MISSED], "netlink", [ROW]) == ((MISSED,), ())


def test_an_explanation_of_a_line_that_ran_is_stale() -> None:
    lines, stale = explained.explain([replace(MISSED, hits=1)], "eventq", [ROW])
    assert lines[0].reason == ""
    assert stale == ("fs/a.c, f(): return -ENOMEM;",)


def test_the_bar() -> None:
    told = ["33.3 % of the lines were run, less than 95 %"]
    assert MADE.failures(95) == told
    assert MADE.failures(33.3) == []
    open_ = "2 lines were not run and are not explained"
    assert replace(MADE, needed=True).failures(0) == [open_]
    why = tuple(replace(line, reason="why") for line in (MISSED, OTHER))
    assert replace(MADE, needed=True, lines=(RAN, *why)).failures(0) == []


def test_the_table_names_lines_that_the_series_add() -> None:
    rows = explained.load()
    for row in rows:
        assert row.reason.endswith("."), row
        for name in row.series:
            series = catalog.load(name, "7.3")
            files = [file for box in series.mailboxes for file in _files(box)]
            texts = "".join(file.read_text(errors="replace") for file in files)
            plus = {line[1:].strip() for line in texts.splitlines() if line.startswith("+")}
            assert set(row.lines) <= plus, (name, set(row.lines) - plus)


def _files(box: Path) -> list[Path]:
    return sorted(box.rglob("*")) if box.is_dir() else [box]


# ---- reports ------------------------------------------------------------------------------------


def test_text() -> None:
    lines = (RAN, replace(MISSED, reason="no memory"), OTHER)
    shown = text.render([replace(MADE, lines=lines, silent=1, stale=("x",))])
    assert shown == (DATA / "coverage.txt").read_text()


def test_html_is_one_file_and_escapes_the_source() -> None:
    hostile = replace(MISSED, text='\tif (a < b) x = "<script>\x1b[2J";')
    page = html.render([replace(MADE, lines=(RAN, hostile))])
    assert "if (a &lt; b) x = &#34;&lt;script&gt;&#34;;" in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "src=" not in page.replace("default-src", "").replace("style-src", "")


def test_json() -> None:
    data = json.loads(figures.dump([MADE]))
    [one] = data["coverage"]
    assert one["totals"] == {
        "added": 12, "executable": 3, "run": 1, "branches": 2, "taken": 1, "percent": 33.33
    }  # fmt: skip
    assert one["by_patch"]["2"]["percent"] == 0.0
    assert one["lines"][1]["text"] == "\treturn -ENOMEM;"


@pytest.mark.parametrize(
    ("code", "made", "options", "expected"),
    [
        (ExitCode.PASS, MADE, ("--fail-under", "30"), ExitCode.PASS),
        (ExitCode.PASS, MADE, (), ExitCode.FAIL),
        (ExitCode.CRASH, MADE, ("--fail-under", "0"), ExitCode.CRASH),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    code: ExitCode,
    made: Coverage,
    options: tuple[str, ...],
    expected: ExitCode,
) -> None:
    result = replace(RESULT, exit_code=code)
    monkeypatch.setattr(run, "measure", lambda *_: run.Measured(result, (made,)))
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path))
    done = CliRunner().invoke(cli.main, ["coverage", *options])
    assert done.exit_code == expected
    assert f"exit {expected.value}: " in done.output


def test_lines_are_found_by_diff_cover(tmp_path: Path, kernel: Kernel, worktree: Worktree) -> None:
    """The counts are those of gcovr, whatever diff-cover makes of them."""
    (tmp_path / "work").mkdir()
    history = History(tmp_path / "work/source", kernel.applied)
    graphs = gcov.graphs(kernel)
    counts = trace.trace(history, graphs, [{STEM: counted(worktree, "1")}])
    found = added.lines(history, counts)
    assert {(line.path, line.number) for line in found} < counts.keys()
    assert all(line.patch in (1, 2) for line in found)


# ---- the check of a series ----------------------------------------------------------------------


class Review:
    """What the check reads of a review's context."""

    series_argument, mechanism, accel, jobs, kernel_argument = "s.mbox", None, "tcg", 1, "7.3"
    limits, progress = DEFAULTS, None

    def __init__(self, applied: Applied, folder: Path) -> None:
        self.applied = applied
        self.output = SimpleNamespace(path=folder)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)


def judged(
    applied: Applied, folder: Path, monkeypatch: pytest.MonkeyPatch, measured: Any
) -> tuple[Any, Review]:
    def measure(request: RunRequest, out: Path, _: object) -> Any:
        asked = (request.flavor, request.series, request.negative, out)
        assert asked == ("coverage", ("s.mbox",), False, folder / "coverage")
        if isinstance(measured, HarnessError):
            raise measured
        return measured

    monkeypatch.setattr(run, "measure", measure)
    review = Review(applied, folder)
    found: Any = check.check(cast(Context, review))
    return list(found), review


def test_the_check_warns_of_each_function(
    applied: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (RAN, MISSED, replace(MISSED, number=12), OTHER, replace(OTHER, number=21, reason="y"))
    measured = run.Measured(RESULT, (replace(MADE, lines=lines),))
    found, review = judged(applied, tmp_path, monkeypatch, measured)
    assert [(it.text, it.patch, it.place, len(it.details)) for it in found] == [
        ("the suite does not run 2 added lines of f()", 1, "fs/a.c:11", 2),
        ("the suite does not run an added line of g()", 2, "fs/a.c:20", 1),
    ]
    assert {it.outcome for it in found} == {CheckOutcome.WARN}
    assert review.notes == ["1 of 5 added lines were run (20.0 %)"]


def test_the_check_of_a_series_without_code_does_not_apply(
    applied: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = replace(applied, changes=(Change("Documentation/a.rst", b"x"),))
    with pytest.raises(NotApplicableError, match="changes no C source"):
        judged(documents, tmp_path, monkeypatch, None)
    nothing = HarnessError("coverage of s", "adds no line", hint="h", code=ExitCode.NOT_JUDGED)
    with pytest.raises(NotApplicableError, match="adds no line"):
        judged(applied, tmp_path, monkeypatch, nothing)


def test_the_check_could_not_run(
    applied: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = HarnessError("gcovr", "is not installed", hint="run: make coverage-ready")
    with pytest.raises(CouldNotRunError, match="gcovr: is not installed; run: make"):
        judged(applied, tmp_path, monkeypatch, missing)
    broken = replace(RESULT, error=ErrorInfo("build", "an error", "see"))
    with pytest.raises(CouldNotRunError, match="build: an error; see"):
        judged(applied, tmp_path, monkeypatch, run.Measured(broken, ()))
