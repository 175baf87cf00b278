# SPDX-License-Identifier: GPL-2.0-only
"""Mutants: what is made of a line, which ones are drawn, what their runs mean. No kernels."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kpatch import pipeline
from kpatch.errors import HarnessError
from kpatch.lib.progress import Progress
from kpatch.matrix import cell, html, merge, mutation, text
from kpatch.matrix.cell import Axes, Cell
from kpatch.matrix.job import OUT, Ending, Record
from kpatch.matrix.store import Store
from kpatch.model import Applied, Change, Origin, Series, Tree
from kpatch.report import result
from kpatch.report.result import ErrorInfo, RunResult
from kpatch.series import apply, catalog, mutant
from kpatch.series.mutant import Mutant
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.verdict import requirements
from kpatch.verdict.judge import TestResult as Judged

OLD = """\
int old(int x)
{
	return x + 1;
}
"""
NEW = """\
#include <linux/mutex.h>

/* if (a == b) is a comment */
static int fresh(struct one *one, int count)
{
	int ret = -EINVAL;

	mutex_lock(&one->lock);
	if (count > 8 && one->ready)
		goto out;
	one->flags |= ONE_READY;
	ret = 0;
out:
	mutex_unlock(&one->lock);
	return ret;
}
"""
PATH = "drivers/new.c"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "tree/drivers").mkdir(parents=True)
    (tmp_path / "tree/drivers/old.c").write_text(OLD)
    return Tree(tmp_path / "tree", "9.9.1", "9.9", "folder", {}, "f" * 16, cached=False)


def applied(tree: Tree, *changes: Change, origin: Origin = Origin.MBOX) -> Applied:
    series = Series("test", "a test", "eventq", (), origin)
    return Applied(tree, series, (), changes, apply.delta_id(changes), (changes,))


def made(source: str, numbers: range | None = None) -> dict[int, set[str]]:
    """Return the mutated lines by number, without their indentation."""
    lines: dict[int, set[str]] = {}
    wanted = numbers or range(1, source.count("\n") + 1)
    for it in mutation.generate(PATH, source.encode(), wanted):
        assert it.before == source.split("\n")[it.line - 1]
        lines.setdefault(it.line, set()).add(it.after.strip())
    return lines


# ---- generation ---------------------------------------------------------------------------------


def test_what_is_made_of_the_lines_of_a_function() -> None:
    lines = made(NEW)
    assert lines[6] == {"int ret = -EIO;", "int ret = 0;"}, "a declaration is not dropped"
    assert lines[8] == {";"}
    assert lines[9] == {
        "if (!(count > 8 && one->ready))",
        "if (0 && (count > 8 && one->ready))",
        "if (1 || (count > 8 && one->ready))",
        "if (count > 8 || one->ready)",
        "if (count >= 8 && one->ready)",
        "if (count > (8 + 1) && one->ready)",
        "if (count > (8 - 1) && one->ready)",
    }
    assert lines[10] == {";"}
    assert lines[11] == {";", "one->flags = ONE_READY;", "one->flags |= 0;"}
    assert lines[12] == {";", "ret = (0 + 1);", "ret = (0 - 1);"}
    assert lines[14] == {";"}, "the missing unlock"
    assert lines[15] == {";", "return 0;"}
    assert lines.keys() == {6, 8, 9, 10, 11, 12, 14, 15}, "nothing else is code"


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("\tif (!a) {", "\tif (a) {"),
        ("\twhile (a) {", "\twhile (!(a)) {"),
        ("\tfor (i = 0; i < n; i++) {", "\tfor (i = 0; i <= n; i++) {"),
        ("\tfor (i = 0; i < n; i++) {", "\tfor (i = 0; i < n; i--) {"),
        ("\treturn a == b;", "\treturn a != b;"),
        ("\treturn 0;", "\treturn -EIO;"),
        ("\treturn -ENODEV;", "\treturn 0;"),
        ("\tx = true;", "\tx = false;"),
        ("\tx = kzalloc(8, GFP_KERNEL_ACCOUNT);", "\tx = kzalloc(8, GFP_KERNEL);"),
        ("\tx = a & ~b;", "\tx = a & b;"),
        ("\tx = a << 2;", "\tx = a >> 2;"),
        ("\tx = min(a, b);", "\tx = max(a, b);"),
        ("\tx += 2;", "\tx -= 2;"),
        ("\twake_up(&w);", "\t;"),
    ],
)
def test_rules(line: str, after: str) -> None:
    source = f"void f(void)\n{{\n{line}\n}}\n"
    afters = {it.after for it in mutation.generate(PATH, source.encode(), [3])}
    assert after in afters


def test_only_added_lines_are_mutated(tree: Tree) -> None:
    source = OLD.replace("int old(int x)\n{\n", "int old(int x)\n{\n\tif (!x)\n\t\tx++;\n")
    change = Change("drivers/old.c", source.encode())
    changed = applied(tree, change, Change("drivers/gone.c", None), Change("a.h", b"int x;\n"))
    assert mutation.added(changed, change) == {3, 4}
    assert mutation.added(changed, Change(PATH, NEW.encode())) == set(range(1, 17))
    drawn = mutation.drawn(changed, seed=1, count=1000)
    assert {it.line for it in drawn.mutants} == {3, 4} and drawn.total == len(drawn.mutants)


def test_lines_that_nobody_writes_by_hand_are_left_alone(tree: Tree) -> None:
    long = f"\tx = {'1 + ' * 60}1;"
    lines = made(f"{long}\n\ty = 1\x1b[1m;\n\tz = \u202e1;\n\tw = 2;\n")
    assert lines.keys() == {3, 4} - {3}
    assert mutation.generate(PATH, b"\tx = 1;\xff\n", [1]) == []
    comment = f"/* {'long ' * 50}\n\tx = 1;\n{'long ' * 50} */\n\tx = 1;\n"
    assert made(comment).keys() == {4} == made(comment, range(2, 5)).keys()
    big = Change(PATH, b"\tx = 1;\n" * (mutation.LARGEST // 8 + 1))
    found = mutation.drawn(applied(tree, Change("a.c", b"\tx = 1;\n"), big), seed=1, count=9)
    assert found.left_out == (f"{PATH}: the sources are too large for mutants",)
    assert {it.path for it in found.mutants} == {"a.c"}


def test_what_is_no_part_of_the_kernel_is_not_mutated(tree: Tree) -> None:
    tool = Change("tools/testing/selftests/x.c", NEW.encode())
    with pytest.raises(HarnessError, match="adds no line") as refused:
        mutation.drawn(applied(tree, tool), seed=1, count=9)
    assert refused.value.code is ExitCode.USAGE


# ---- samples ------------------------------------------------------------------------------------


def test_a_sample_depends_on_its_seed_alone() -> None:
    every = mutation.generate(PATH, NEW.encode(), range(1, 17))
    first = mutation.sample(every, seed=1, count=12)
    assert first == mutation.sample(every, seed=1, count=12)
    assert first != mutation.sample(every, seed=2, count=12)
    assert mutation.sample(every, seed=1, count=5) == first[:5], "a smaller one is its beginning"
    whole = mutation.sample(every, seed=1, count=10_000)
    assert Counter(whole) == Counter(every), "each of them once"


def test_each_line_has_its_turn() -> None:
    every = mutation.generate(PATH, NEW.encode(), range(1, 17))
    lines = {it.line for it in every}
    drawn = mutation.sample(every, seed=3, count=len(lines))
    assert {it.line for it in drawn} == lines
    assert [it.line for it in drawn] != sorted(lines), "in no order of the file's"


SAMPLES = sorted(mutation.FOLDER.glob("*.mutants"))
LARGE = ("eventfd", "eventq", "netlink")


def test_samples_are_those_of_carried_series() -> None:
    """Without one, the seed draws the same as long as neither rules nor lines change."""
    names = {path.stem.rpartition("-")[0] for path in SAMPLES}
    assert {*LARGE} <= names <= {*catalog.carried()}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_have_their_size(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert len({mutant.parse(line) for line in lines}) == len(lines)
    assert len(lines) == (150 if path.stem.removesuffix("-7.3") in LARGE else 30)


@pytest.mark.trees
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_fit_their_series(path: Path) -> None:
    """And are what the seed draws; a newer kernel moves lines, but keeps them."""
    name, _, base = path.stem.rpartition("-")
    whole = mutation.applied(base, catalog.load(name, base))
    kept = mutation.load(path, whole)
    assert kept.left_out == ()
    assert mutation.of_series(whole, seed=mutation.SEED, count=20).mutants == kept.mutants[:20]
    drawn = mutation.drawn(whole, seed=mutation.SEED, count=len(kept.mutants))
    assert [it.change for it in drawn.mutants] == [it.change for it in kept.mutants]


def test_a_kept_sample_follows_its_lines(tree: Tree, tmp_path: Path) -> None:
    whole = applied(tree, Change(PATH, NEW.encode()))
    drawn = mutation.drawn(whole, seed=1, count=100)
    file = tmp_path / "x.mutants"
    file.write_text(mutation.dump(drawn, whole, 1))
    assert mutation.load(file, whole).mutants == drawn.mutants
    moved = applied(tree, Change(PATH, f"int first;\n{NEW}".encode()))
    assert [it.line for it in mutation.load(file, moved).mutants] == [
        it.line + 1 for it in drawn.mutants
    ]
    twice = applied(tree, Change(PATH, f"{NEW.replace('fresh', 'other')}{NEW}".encode()))
    shift = NEW.count("\n")
    file.write_text(f"{PATH}:{14 + shift}: \tmutex_unlock(&one->lock); ==> \t;\n")
    assert [it.line for it in mutation.load(file, twice).mutants] == [14 + shift], "the nearest"
    file.write_text(mutation.dump(drawn, whole, 1))
    gone = applied(tree, Change(PATH, NEW.replace("\tret = 0;\n", "").encode()))
    found = mutation.load(file, gone)
    assert len(found.mutants) == len(drawn.mutants) - 3
    assert f"{PATH}:12: the line is no longer there (ret = 0; ==> ;)" in found.left_out


# ---- one mutant ---------------------------------------------------------------------------------


def test_the_text_of_a_mutant_is_read_again() -> None:
    for it in mutation.generate(PATH, NEW.encode(), range(1, 17)):
        assert mutant.parse(str(it)) == it


@pytest.mark.parametrize(
    "word", ["", "a.c", "a.c:1", "a.c:1: a", "a.c:x: a ==> b", "a.c:1: a ==> b\nc", "a.c:1:a ==> b"]
)
def test_what_is_no_mutant(word: str) -> None:
    with pytest.raises(HarnessError, match="is no mutant") as refused:
        mutant.parse(word)
    assert refused.value.code is ExitCode.USAGE
    with pytest.raises(HarnessError, match="is no mutant"):
        mutant.parse(f"a.c:1: a ==> {'b' * mutant.LONGEST}")


def test_planting_changes_one_line(tree: Tree) -> None:
    whole = applied(tree, Change("a.h", b"x\n"), Change(PATH, NEW.encode()))
    it = Mutant(PATH, 14, "\tmutex_unlock(&one->lock);", "\t;")
    planted = mutant.plant(whole, it)
    assert planted.changes[0] == whole.changes[0]
    assert planted.changes[1].content == NEW.replace(it.before, it.after).encode()
    assert planted.delta_id != whole.delta_id and planted.series == whole.series
    for wrong, said in (
        (replace(it, line=13), "another text"),
        (replace(it, line=99), "another text"),
        (replace(it, line=0), "another text"),
        (replace(it, path="b.c"), "neither changes nor adds"),
    ):
        with pytest.raises(HarnessError, match=said) as refused:
            mutant.plant(whole, wrong)
        assert refused.value.code is ExitCode.USAGE


def test_errors_of_a_build_are_the_mutants() -> None:
    it = Mutant("a.c", 1, "a", "b")
    with pytest.raises(HarnessError) as broken, mutant.blamed(it):
        raise HarnessError("build", "a.c:1: error: b", hint="h", code=ExitCode.BUILD)
    assert str(broken.value) == "mutant a.c:1: does not compile: a.c:1: error: b; h"
    with pytest.raises(HarnessError, match="full") as other, mutant.blamed(it):
        raise HarnessError("disk", "full", hint="h", code=ExitCode.LOST)
    assert other.value.code is ExitCode.LOST


@pytest.mark.parametrize(
    ("series", "mechanism", "said"),
    [
        (("base",), None, "a mutant is one of a series"),
        (("eventq", "netlink"), None, "a mutant is one of a series"),
    ],
)
def test_a_mutant_needs_one_series_of_known_mechanism(
    tree: Tree, series: tuple[str, ...], mechanism: str | None, said: str
) -> None:
    loaded = [catalog.load(name, "7.3") for name in series]
    with pytest.raises(HarnessError, match=said):
        pipeline._refuse_undeclared([Applied(tree, it, (), (), "") for it in loaded])


def test_a_mutant_could_hide_a_mechanism_that_is_not_given(tree: Tree) -> None:
    whole = applied(tree)
    pipeline._refuse_undeclared([whole])
    unknown = replace(whole, series=replace(whole.series, mechanism="undetected"))
    with pytest.raises(HarnessError, match="a mutant could hide it; give MECHANISM"):
        pipeline._refuse_undeclared([unknown])


def test_a_run_with_a_mutant_has_no_control(tmp_path: Path) -> None:
    mail = tmp_path / "x.mbox"
    mail.write_text("From x\n")
    request = pipeline.RunRequest(series=(str(mail),), mutant="a.c:1: a ==> b")
    assert request.names() == (str(mail),)
    command = request.command(catalog.load_file(mail))
    assert command[command.index("--mutant") + 1] == request.mutant
    assert pipeline.Pipeline(request, Progress()).request.mutant


def test_requirements_are_tested_cheapest_first() -> None:
    order = requirements.cheapest_first()
    assert set(order) <= requirements.load().keys() and len(set(order)) == len(order)
    costs = json.loads(requirements.COSTS.read_text())["seconds"]
    assert [costs[name] for name in order] == sorted(costs.values())


# ---- as cells of a matrix -----------------------------------------------------------------------

DATE = "2026-01-01T00:00:00Z"
LINE = "drivers/a.c:7: \tif (x) ==> \tif (!x)"


def test_cells_of_mutants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: Tree) -> None:
    whole = applied(tree, Change(PATH, NEW.encode()))
    monkeypatch.setattr(mutation, "applied", lambda kernel, series: whole)
    mail = tmp_path / "v2.mbox"
    mail.write_text("From x\n")
    axes = Axes(series=("base", str(mail)), mutants=5, mechanism="eventq", mutant_seed=7)
    made = cell.matrix(axes)
    assert [mutant.parse(it.mutant) for it in made.cells] == list(
        mutation.drawn(whole, seed=7, count=5).mutants
    )
    one = made.cells[0]
    assert (one.series, one.mechanism, made.mails) == ("v2", "eventq", {one.mail: b"From x\n"})
    argv = one.job("p", jobs=1).argv
    assert argv[argv.index("--mutant") + 1] == one.mutant and argv[-1] == "--no-control"
    assert OUT in argv
    assert len({it.key("p") for it in made.cells}) == 5
    assert {it.shared_kernel for it in made.cells} == {f"7.3 plain v2{one.mail[:8]}"}
    with pytest.raises(HarnessError, match="its mechanism is not given"):
        cell.matrix(replace(axes, mechanism=""))
    assert made.left_out == ("base adds no line",)
    with pytest.raises(HarnessError, match="base adds no line") as refused:
        cell.matrix(replace(axes, series=("base",)))
    assert refused.value.code is ExitCode.USAGE
    with pytest.raises(HarnessError, match="without seeds"):
        cell.matrix(replace(axes, seeds=2))


def test_a_sample_is_kept_of_a_carried_series_alone(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="is not carried"):
        cell.sample(Axes(series=(str(tmp_path / "x.mbox"),), mutants=3))


def run(store: Store, code: int, found: RunResult | None) -> merge.Merged:
    it = Cell(series="eventq", mutant=LINE)
    files = {} if found is None else {"result.json": store.put(result.dump(found).encode())}
    store.finish(Record(it.key("p"), it.name, Ending.DONE, code, files=files))
    return merge.merged({it.key("p"): it}, [store], {})


def judged(name: str, outcome: Outcome) -> Judged:
    return Judged(f"t.py::{name}", name, "eventq", outcome, Outcome.PASS, outcome is Outcome.PASS)


GOOD, BAD = judged("REQ-EVT-01", Outcome.PASS), judged("REQ-DEL-02", Outcome.FAIL)
COMPILES_NOT = ErrorInfo("mutant drivers/a.c:7", "does not compile: x", "h")
EQUAL = ErrorInfo("mutant drivers/a.c:7", "compiles to the same code as the series", "h")
SERIES = ErrorInfo("build", "a.c:1: error", "h")


@pytest.mark.parametrize(
    ("code", "tests", "error", "outcome", "ok", "killer"),
    [
        (0, (GOOD,), None, "survived", False, ""),
        (1, (GOOD, BAD), None, "killed", True, "REQ-DEL-02"),
        (5, (GOOD, judged("REQ-LIF-01", Outcome.CRASH)), None, "crashed", True, "REQ-LIF-01"),
        (5, (), None, "crashed", True, ""),
        (6, (judged("REQ-LIF-02", Outcome.HANG),), None, "hung", True, "REQ-LIF-02"),
        (4, (), COMPILES_NOT, "does-not-compile", True, ""),
        (8, (), EQUAL, "equivalent-object", True, ""),
        (4, (), SERIES, "build", False, ""),
        (3, (), SERIES, "apply", False, ""),
        (8, (), None, "not-judged", False, ""),
    ],
)
def test_outcomes_of_a_mutant(
    tmp_path: Path,
    code: int,
    tests: tuple[Judged, ...],
    error: ErrorInfo | None,
    outcome: str,
    ok: bool,
    killer: str,
) -> None:
    found = RunResult(ExitCode(code), "plain", DATE, 1.0, tests=tests, error=error)
    merged = run(Store(str(tmp_path)), code, found)
    [it] = merged.cells
    assert (it.outcome, it.ok, it.killer) == (outcome, ok, killer)
    assert merged.exit_code is (ExitCode.PASS if ok else ExitCode.FAIL)


def test_a_mutant_without_a_result_is_not_killed(tmp_path: Path) -> None:
    [it] = run(Store(str(tmp_path)), 1, None).cells
    assert (it.outcome, it.ok, it.why) == ("fail", False, "has no result of a run")


def test_report_of_mutants(tmp_path: Path) -> None:
    survived = RunResult(ExitCode.PASS, "plain", DATE, 1.0, tests=(GOOD,))
    merged = run(Store(str(tmp_path)), 0, survived)
    killed = replace(merged.cells[0], outcome="killed", ok=True, killer="REQ-DEL-02")
    other = replace(killed, outcome="does-not-compile", killer="")
    merged = replace(merged, cells=(*merged.cells, killed, killed, other))
    told = text.render(merged)
    assert "SURVIVED test 7.3 eventq plain drivers/a.c:7: if (x) ==> if (!x)\n" in told
    assert "2 of the 3 mutants that compile and differ are killed (67 %)\n" in told
    assert "killed by: REQ-DEL-02 2\n" in told
    page = html.render(merged)
    assert "drivers/a.c:7: if (x) ==&gt; if (!x)" in page and "killed (REQ-DEL-02)" in page
    [row, *_] = json.loads(merge.dump(merged))["cells"]
    assert (row["mutant"], row["outcome"], row["killer"]) == (LINE, "survived", "")
    assert re.search(r"mutants that compile", text.render(replace(merged, cells=(other,)))) is None
