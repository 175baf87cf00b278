# SPDX-License-Identifier: GPL-2.0-only
"""The checks of behaviour: which failure and which report counts, and which patch gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kpatch import pipeline
from kpatch.build import selftests
from kpatch.checks import behaviour, suite
from kpatch.checks.context import CouldNotRunError, NotApplicableError
from kpatch.errors import HarnessError
from kpatch.model import Finding
from kpatch.report.result import RunResult, SeriesInfo
from kpatch.run import runner
from kpatch.run.console import Place
from kpatch.series import catalog
from kpatch.tables.limits import DEFAULTS
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.verdict import judge
from kpatch.verdict.judge import Incident, Judgement, SeenFault, TestResult
from ktests.contract import DETECTION

GENERAL, OWN, KSELFTEST = "REQ-INT-07", "REQ-EVT-07", "REQ-INT-09"
FILE = "test_x.py::"


def result(
    name: str, outcome: Outcome = Outcome.PASS, of: str = "x", requirement: str = GENERAL
) -> TestResult:
    ok = outcome is Outcome.PASS
    return TestResult(FILE + name, requirement, of, outcome, Outcome.PASS, ok, 0.1, "why")


def fault(title: str, test: str | None = None, **more: Any) -> SeenFault:
    return SeenFault(
        *("warning", title, f"{title}\nstack", test, Place.DURING, 1.0),
        title=title,
        **{"series": "x", "vm": 1, **more},
    )


class State(int):
    """The kernel of a state."""

    applied = None


@dataclass
class Kernels:
    """A series of patches; ``runs`` has the judgement of a part of the suite on each state.

    State 0 is the unpatched tree. A state without a judgement does not build.
    """

    runs: Mapping[int, Judgement]
    notes: list[str] = field(default_factory=list)
    ran: list[tuple[int, str]] = field(default_factory=list)

    base = 0
    jobs = 1
    applied = property(lambda self: max(self.runs))
    stage = SimpleNamespace(advance=lambda *_: None)

    @property
    def patches(self) -> list[Any]:
        """The patches of the series."""
        return [SimpleNamespace(number=n, total=3) for n in (1, 2, 3)]

    def after(self, count: int) -> int:
        """Return the state after ``count`` patches."""
        return count

    def kernel(self, state: int, flavor: str = "plain") -> int:
        """Return the kernel of a state."""
        if state not in self.runs:
            raise HarnessError("build", "a.c: error", hint="see", code=ExitCode.BUILD)
        return State(state)

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)


def judgement(
    *tests: TestResult,
    faults: tuple[SeenFault, ...] = (),
    incidents: tuple[Incident, ...] = (),
) -> Judgement:
    return Judgement(tests, incidents, faults, ExitCode.PASS)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(**runs: Judgement) -> Kernels:
        it = Kernels({int(name[1:]): run for name, run in runs.items()})

        def part(context: Kernels, kernel: int, expression: str, name: str, **_: Any) -> Judgement:
            context.ran.append((kernel, expression))
            run = context.runs[kernel]
            return replace(
                run,
                tests=tuple(replace(test, series=name) for test in run.tests),
                incidents=tuple(replace(incident, series=name) for incident in run.incidents),
            )

        monkeypatch.setattr(suite, "part", part)
        return it

    return made


def brief(findings: Any) -> list[tuple[int, str]]:
    return [(found.patch, found.text.split(": ")[0]) for found in findings]


GOOD = judgement(result("a"))
BAD = judgement(result("a", Outcome.FAIL))


# ---- a boot after each patch ---------------------------------------------------------------------


def test_failure_is_told_once_at_the_first_patch(kernels: Any) -> None:
    it = kernels(s0=GOOD, s1=GOOD, s2=BAD, s3=BAD)
    assert brief(behaviour.smoke(it)) == [(2, GENERAL)]


def test_failure_of_the_base_is_not_the_series(kernels: Any) -> None:
    it = kernels(s0=BAD, s1=BAD, s2=BAD, s3=BAD)
    assert brief(behaviour.smoke(it)) == []


def test_report_is_told_once_and_not_if_the_base_has_it(kernels: Any) -> None:
    old, new = fault("WARNING in old"), fault("WARNING in new", FILE + "a", source="fs/x.c:7")
    both = judgement(result("a"), faults=(old, new))
    it = kernels(s0=judgement(result("a"), faults=(old,)), s1=GOOD, s2=both, s3=both)
    [found] = behaviour.smoke(it)
    assert found.patch == 2
    assert found.text == "the kernel reports WARNING in new at fs/x.c:7 (in test_x.py::a)"
    assert found.details == ("WARNING in new", "stack")


def test_report_of_the_boot_is_blamed_on_the_patch(kernels: Any) -> None:
    it = kernels(s0=GOOD, s1=judgement(result("a"), faults=(fault("BUG in f"),)), s2=GOOD, s3=GOOD)
    assert brief(behaviour.smoke(it)) == [(1, "the kernel reports BUG in f (during the boot)")]


def test_state_that_does_not_build_is_told(kernels: Any) -> None:
    it = kernels(s0=GOOD, s1=GOOD, s3=BAD)
    assert brief(behaviour.smoke(it)) == [(3, GENERAL)]
    assert it.notes == ["not booted, since it does not build: after patch 2"]


def test_series_that_never_builds_is_not_judged(kernels: Any) -> None:
    with pytest.raises(CouldNotRunError, match="no state of the series builds"):
        list(behaviour.smoke(kernels(s0=GOOD)))


def incident(outcome: Outcome, message: str) -> Incident:
    return Incident("x", 1, outcome, message)


@pytest.mark.parametrize(
    ("state", "missed"),
    [
        (judgement(result("a"), incidents=(incident(Outcome.INFRA, "lost a timer"),)), "a timer"),
        (judgement(result("a"), incidents=(incident(Outcome.LOST, "QEMU ended"),)), "QEMU ended"),
        (judgement(), "none of its tests has run"),
    ],
)
@pytest.mark.parametrize("place", ["s0", "s2"])
def test_boot_that_may_have_missed_something_is_no_pass(
    kernels: Any, state: Judgement, missed: str, place: str
) -> None:
    it = kernels(**({"s0": GOOD, "s1": GOOD, "s2": GOOD, "s3": GOOD} | {place: state}))
    with pytest.raises(CouldNotRunError, match=missed):
        behaviour.smoke(it)
    it = kernels(**({"s0": GOOD, "s1": GOOD, "s2": GOOD, "s3": BAD} | {place: state}))
    assert brief(behaviour.smoke(it)) == [(3, GENERAL)], "a finding counts all the same"


# ---- a boot that is not repeated -----------------------------------------------------------------


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Judgement]:
    """Make `suite.part` boot nothing, and judge each run by the next of these judgements."""
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))
    images = SimpleNamespace(runtime="runtime", suite="suite")
    setup = SimpleNamespace(
        firmware="aml",
        images=images,
        selftests=None,
        accel=SimpleNamespace(used="tcg"),
        arguments=(),
    )
    table: dict[str, object] = {}
    steps = SimpleNamespace(machine=lambda *_: setup, folder=None, requirements=table)
    judged: list[Judgement] = []
    monkeypatch.setattr(suite, "Pipeline", lambda *_: steps)
    monkeypatch.setattr(suite, "request", lambda *_: None)
    monkeypatch.setattr(runner, "run", lambda *_, **__: ())
    monkeypatch.setattr(judge, "judge", lambda *_, **__: judged.pop(0))
    return judged


def boot(expression: str = "a", *, kernel: str = "k", reuse: bool = True) -> tuple[Judgement, int]:
    """Run a part of the suite; return the judgement, and how many runs were reused."""
    context = SimpleNamespace(
        parts=0, reused=0, series_argument="x", limits=DEFAULTS, progress=None, stage=None
    )
    series = SimpleNamespace(mechanism="none")
    state = SimpleNamespace(
        kernel_id=kernel,
        config=SimpleNamespace(flavor="plain"),
        applied=SimpleNamespace(series=series),
    )
    done = suite.part(
        context,  # type: ignore[arg-type]
        state,  # type: ignore[arg-type]
        expression,
        name="smoke-1",
        programs=SimpleNamespace(),  # type: ignore[arg-type]
        reuse=reuse,
    )
    assert context.parts == reuse
    return done, context.reused


def test_boot_that_found_nothing_is_not_repeated(boots: list[Judgement]) -> None:
    boots += [GOOD, GOOD, GOOD, GOOD]
    assert boot() == (GOOD, 0)
    assert boot() == (GOOD, 1)
    assert boot(kernel="another") == (GOOD, 0)
    assert boot("other tests") == (GOOD, 0)
    assert boot(reuse=False) == (GOOD, 0)


@pytest.mark.parametrize(
    "found",
    [
        BAD,
        judgement(),
        judgement(result("a"), faults=(fault("BUG in f"),)),
        judgement(result("a"), incidents=(incident(Outcome.LOST, "QEMU ended"),)),
    ],
)
def test_boot_that_found_something_is_repeated(boots: list[Judgement], found: Judgement) -> None:
    boots += [found, GOOD]
    assert boot() == (found, 0)
    assert boot() == (GOOD, 0)
    assert boot() == (GOOD, 1)


def test_damaged_result_of_a_boot_is_replaced(boots: list[Judgement], tmp_path: Path) -> None:
    boots += [GOOD, GOOD]
    boot()
    [file] = (tmp_path / "cache" / suite.KIND).glob("*.json")
    file.write_text(file.read_text()[:-20])
    assert boot() == (GOOD, 0)
    assert boot() == (GOOD, 1)


@pytest.mark.parametrize("check", [behaviour.smoke, behaviour.own_selftests])
def test_boots_that_depend_on_no_other_patch_are_reused(
    kernels: Any, monkeypatch: pytest.MonkeyPatch, check: Any
) -> None:
    """The boots after each patch, and that of the old selftests."""
    it = kernels(s0=GOOD, s1=GOOD, s2=GOOD, s3=GOOD)
    asked: list[bool] = []

    def part(*_: Any, reuse: bool = False, **__: Any) -> Judgement:
        asked.append(reuse)
        return GOOD

    monkeypatch.setattr(suite, "part", part)
    monkeypatch.setattr(selftests, "present", lambda _: True)
    monkeypatch.setattr(selftests, "build", lambda *_, **__: None)
    done = SimpleNamespace(tests=[], failed=[], of_base=frozenset(), result=GOOD, series="x")
    monkeypatch.setattr(suite, "whole", lambda *_: done)
    monkeypatch.setattr(suite, "missed", lambda *_: "")
    check(it)
    assert asked == [True] * (4 if check is behaviour.smoke else 1)


# ---- the patch since which a test fails ----------------------------------------------------------


def first_bad(it: Kernels, *tests: TestResult) -> dict[str | None, int]:
    return suite.first_bad(it, "plain", tests)  # type: ignore[arg-type]


def test_patch_since_which_a_test_fails(kernels: Any) -> None:
    it = kernels(s0=GOOD, s1=GOOD, s2=BAD, s3=BAD)
    assert first_bad(it, result("a", Outcome.FAIL)) == {FILE + "a": 2}
    assert it.ran == [(2, "a"), (1, "a")]


def test_state_without_the_test_ends_the_search(kernels: Any) -> None:
    """As before the patch that brings the mechanism."""
    it = kernels(s0=GOOD, s1=judgement(), s2=judgement(), s3=BAD)
    assert first_bad(it, result("a", Outcome.FAIL)) == {FILE + "a": 3}
    assert it.ran == [(2, "a")]


def test_each_test_has_a_patch_of_its_own(kernels: Any) -> None:
    both = (result("a", Outcome.FAIL), result("b[0]", Outcome.FAIL))
    it = kernels(
        s1=judgement(result("a", Outcome.FAIL), result("b[0]")),
        s2=judgement(*both),
        s3=judgement(*both),
    )
    assert first_bad(it, *both) == {FILE + "a": 1, FILE + "b[0]": 2}
    assert it.ran == [(2, "a or b"), (1, "a or b")]


@pytest.mark.parametrize(
    ("test", "place", "ran"),
    [
        (None, Place.BOOT, suite.SHORT),
        (DETECTION, Place.DURING, suite.SHORT),
        (FILE + "b[0]", Place.DURING, "b"),
        (FILE + "b[0]", Place.AFTER, ""),
    ],
)
def test_patch_since_which_the_kernel_makes_a_report(
    kernels: Any, test: str | None, place: Place, ran: str
) -> None:
    """After a test, any of them can have caused it."""
    made = replace(fault("BUG in f", test), place=place)
    other = fault("BUG in g", test)
    it = kernels(s1=judgement(faults=(other,)), s2=judgement(faults=(made,)))
    assert suite.first_bad(it, "plain", (), (made,)) == {"BUG in f": 2}
    assert it.ran == [(2, ran), (1, ran)]


# ---- the whole suite -----------------------------------------------------------------------------


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes a run of the whole suite the one that checks get."""

    def made(*tests: TestResult, mechanism: str = "netlink", **more: Any) -> None:
        done = RunResult(
            *(ExitCode.PASS, "plain", "", 1.0),
            series=(SeriesInfo("base", "", "none"), SeriesInfo("x", "", mechanism)),
            tests=tests,
            **more,
        )
        monkeypatch.setattr(suite, "whole", lambda *_: suite.Suite("plain", done, "x"))
        monkeypatch.setattr(
            suite,
            "first_bad",
            lambda _, __, tests, reports=(): dict.fromkeys(
                [*(test.id for test in tests), *(report.title for report in reports)], 2
            ),
        )

    return made


def test_review_needs_no_negative_control(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    requests: list[pipeline.RunRequest] = []
    done = RunResult(ExitCode.PASS, "plain", "", 1.0)

    def run(request: pipeline.RunRequest, *_: object) -> RunResult:
        requests.append(request)
        return done

    monkeypatch.setattr(pipeline, "run", run)
    context = SimpleNamespace(
        **dict.fromkeys(("kernel_argument", "accel", "progress"), "7.3"),
        jobs=1,
        mechanism=None,
        limits=DEFAULTS,
        series_argument="netlink",
        output=SimpleNamespace(path=tmp_path),
        once=lambda _, __, make: make(),
        applied=SimpleNamespace(series=catalog.load("netlink", "7.3")),
        stage=SimpleNamespace(command=lambda _: None),
    )
    suite.whole(context, "plain")  # type: ignore[arg-type]
    [request] = requests
    assert (request.series, request.negative) == (("base", "netlink"), False)


def found(check: Any, it: Kernels) -> list[Finding]:
    return list(check(it))


def test_requirements_are_told_by_their_checks(whole: Any) -> None:
    whole(
        result("a", Outcome.FAIL),
        result("b", Outcome.FAIL, requirement=OWN),
        result("c", requirement=OWN),
        result("d", Outcome.FAIL, requirement=KSELFTEST),
    )
    it = Kernels({})
    assert brief(found(behaviour.every_kernel, it)) == [(2, GENERAL)]
    [own] = found(behaviour.mechanism, it)
    assert own.text.startswith(f"{OWN}: 1 of 2 tests fail: ")
    assert own.details == ("test_x.py::b: fail: why",)


def test_crash_is_told_by_its_report(whole: Any) -> None:
    whole(result("a", Outcome.CRASH), faults=(fault("KASAN: x in f", FILE + "a"),))
    [only] = found(behaviour.every_kernel, Kernels({}))
    assert (only.patch, only.text) == (2, "the kernel reports KASAN: x in f (in test_x.py::a)")


@pytest.mark.parametrize("test", [None, DETECTION, FILE + "a"])
def test_report_has_its_patch_and_is_told_once(whole: Any, test: str | None) -> None:
    """A report of boot or detection is an incident, too."""
    seen = fault("deadlock in f", test)
    told = (incident(Outcome.CRASH, f"while the mechanism was detected: {seen.line}"),)
    whole(result("a"), faults=(seen,), incidents=told)
    [only] = found(behaviour.every_kernel, Kernels({}))
    assert only.patch == 2 and only.text.startswith("the kernel reports deadlock in f")
    whole(result("a"), incidents=(incident(Outcome.HANG, "in the boot: the time is over"),))
    [only] = found(behaviour.every_kernel, Kernels({}))
    assert only.text == "VM 1: in the boot: the time is over"


def test_report_that_the_base_has_is_a_note(whole: Any) -> None:
    whole(result("a"), faults=(fault("WARNING in f", of_base=True),))
    it = Kernels({})
    assert found(behaviour.every_kernel, it) == []
    assert it.notes == ["the unpatched kernel reports it too: WARNING in f"]


@pytest.mark.parametrize("mechanism", ["undetected", "unknown"])
def test_series_without_a_mechanism(whole: Any, mechanism: str) -> None:
    whole(result("a"), mechanism=mechanism)
    with pytest.raises(NotApplicableError):
        found(behaviour.mechanism, Kernels({}))


@pytest.fixture
def old_selftests(monkeypatch: pytest.MonkeyPatch, kernels: Any) -> Any:
    """Return a function that makes a judgement the one of the base's selftests on the series."""
    monkeypatch.setattr(selftests, "present", lambda _: True)
    monkeypatch.setattr(selftests, "build", lambda *_, **__: None)
    return lambda run: kernels(s0=run)


OLD = judgement(result("d", requirement=KSELFTEST))


@pytest.mark.parametrize(
    "check", [behaviour.every_kernel, behaviour.mechanism, behaviour.own_selftests]
)
def test_run_that_may_have_missed_something_is_no_pass(
    whole: Any, old_selftests: Any, check: Any
) -> None:
    tests = (result("a"), result("b", requirement=OWN), result("d", requirement=KSELFTEST))
    whole(*tests)
    assert found(check, old_selftests(OLD)) == []
    whole(*tests, incidents=(incident(Outcome.INFRA, "the kernel dropped 3 messages"),))
    with pytest.raises(CouldNotRunError, match="dropped 3 messages"):
        found(check, old_selftests(OLD))
    whole(*(replace(test, series="base") for test in tests))
    with pytest.raises(CouldNotRunError, match="none of its tests has run"):
        found(check, old_selftests(OLD))


def test_selftests_of_the_base_are_judged_too(whole: Any, old_selftests: Any) -> None:
    whole(result("d", requirement=KSELFTEST))
    with pytest.raises(CouldNotRunError, match="none of its tests has run"):
        found(behaviour.own_selftests, old_selftests(judgement()))
    hung = judgement(incidents=(incident(Outcome.HANG, "during the boot: it hung"),))
    assert brief(found(behaviour.own_selftests, old_selftests(hung))) == [(0, "VM 1")]
    bad = judgement(result("d", Outcome.FAIL, requirement=KSELFTEST))
    [only] = found(behaviour.own_selftests, old_selftests(bad))
    assert only.text.startswith("built from the unpatched tree, it fails on the series' kernel")
    # What fails on the unpatched kernel too is not the series' fault.
    whole(
        result("d", Outcome.FAIL, requirement=KSELFTEST),
        replace(result("d", Outcome.FAIL, requirement=KSELFTEST), series="base"),
    )
    assert found(behaviour.own_selftests, old_selftests(bad)) == []


def test_boot_that_fails_is_told(whole: Any, tmp_path: Path) -> None:
    hung = Incident("x", 1, Outcome.HANG, "during the boot: it hung")
    whole(incidents=(hung,))
    assert brief(found(behaviour.every_kernel, Kernels({}))) == [(0, "VM 1")]
    # The unpatched kernel does not boot either.
    whole(incidents=(replace(hung, series="base"), hung))
    with pytest.raises(CouldNotRunError, match="none of its tests has run"):
        found(behaviour.every_kernel, Kernels({}))
