# SPDX-License-Identifier: GPL-2.0-only
"""From what the VMs told to a verdict: pure, no I/O.

A test's outcome is "lost" until something says otherwise, so that silence is never success. In
order: a report of the kernel during a test or right after it is a crash, whatever the test
says of itself; a test that was begun and did not end is a hang if its limit ended the VM, and
lost otherwise; one that was never begun is lost; else it is what the guest reports. What does
not belong to a test (a boot that fails, a guest that talks nonsense) is an incident. A hang that
the emulator is to blame for is infra; the test runs once more in a fresh VM, and that counts.

Then the outcome is held against the requirement: see `Requirement.expected`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from kpatch.run.console import Fault, Place
from kpatch.run.protocol import Collected, Scalar
from kpatch.run.vm_run import ENDING_MEANING, LIMITS, Ending, VmRun, progress
from kpatch.tables.outcomes import EXIT_BY_OUTCOME, ExitCode, Outcome
from kpatch.verdict.requirements import Requirement, asked
from ktests.contract import DETECTION, NONE, UNDETECTED, UNJUDGED, UNKNOWN


@dataclass(frozen=True)
class SeriesRun:
    """The VMs that ran one series' suite, in order; a later one ran what an earlier one left.

    ``detected`` is how the mechanism was detected, "" if nobody looked.
    """

    series: str
    mechanism: str
    vms: tuple[VmRun, ...]
    detected: str = ""


@dataclass(frozen=True)
class TestResult:
    """One test on one series; ``ok`` if ``outcome`` is what the requirement expects.

    ``seconds`` is None where nobody knows: the VM died in it, or it never ran.
    """

    __test__ = False  # for pytest, which would take this for a class of tests

    id: str
    requirement: str
    series: str
    outcome: Outcome
    expected: Outcome
    ok: bool
    seconds: float | None = None
    message: str = ""
    values: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Incident:
    """Something that went wrong outside of any test; ``vm`` counts from 1, 0 is the series."""

    series: str
    vm: int
    outcome: Outcome
    message: str


@dataclass(frozen=True, kw_only=True)
class SeenFault(Fault):
    """A fault with the series and the VM (from 1) that it was seen on.

    ``of_base``: the unpatched kernel makes the same complaint, so that it says nothing of a series.
    """

    series: str
    vm: int
    of_base: bool = False


@dataclass(frozen=True)
class Judgement:
    """All that a run says."""

    tests: tuple[TestResult, ...]
    incidents: tuple[Incident, ...]
    faults: tuple[SeenFault, ...]
    exit_code: ExitCode

    @property
    def verdict(self) -> str:
        """The exit code as a word."""
        return self.exit_code.word


@dataclass(frozen=True)
class _Word:
    """What is known of a test from one VM."""

    outcome: Outcome
    seconds: float | None = None
    message: str = ""
    values: Mapping[str, Scalar] = field(default_factory=dict)


_NEVER = _Word(Outcome.LOST, message="was never begun")

# Of several words on one test the worst counts.
_WORST_FIRST = (*(outcome for outcome, _ in EXIT_BY_OUTCOME), Outcome.XFAIL, Outcome.PASS)


def judge(
    requirements: Mapping[str, Requirement],
    runs: Sequence[SeriesRun],
    *,
    complete: bool = True,
    base: str | None = None,
) -> Judgement:
    """The verdict on ``runs``. ``complete``: the whole suite was to run, not a selection.

    ``base`` is the release line of the kernels; not given, every requirement has to have a test.
    """
    excused = excused_titles(runs)
    tests = tuple(result for run in runs for result in _tests(requirements, run, excused))
    incidents = tuple(
        incident
        for run in runs
        for incident in (
            *_incidents(run, excused),
            *(_coverage(asked(requirements, run.mechanism, base), run) if complete else ()),
            *_not_judged(requirements, run, base),
        )
    )
    return Judgement(
        tests=tests,
        incidents=incidents,
        faults=tuple(
            SeenFault(**vars(fault), series=run.series, vm=number, of_base=fault.title in excused)
            for run in runs
            for number, vm in enumerate(run.vms, 1)
            for fault in vm.faults
        ),
        exit_code=exit_code(tests, incidents),
    )


def excused_titles(runs: Sequence[SeriesRun]) -> frozenset[str]:
    """Return the titles of complaints that nobody is blamed for: those of the negative control.

    They come of the base. There are none when the control runs alone: then the base is judged.
    """
    return frozenset() if all(run.mechanism == NONE for run in runs) else control_titles(runs)


def control_titles(runs: Iterable[SeriesRun]) -> frozenset[str]:
    """Return the titles of all complaints of the negative control."""
    control = [vm for run in runs if run.mechanism == NONE for vm in run.vms]
    return frozenset(fault.title for vm in control for fault in vm.faults)


def exit_code(tests: Iterable[TestResult], incidents: Iterable[Incident]) -> ExitCode:
    """The one exit code of many outcomes; without a single test it is never PASS."""
    tests = tuple(tests)
    bad = {test.outcome for test in tests if not test.ok}
    bad |= {incident.outcome for incident in incidents}
    for outcome, code in EXIT_BY_OUTCOME:
        if outcome in bad:
            return code
    if bad:  # a pass or an expected failure where there must be none
        return ExitCode.FAIL
    return ExitCode.PASS if tests else ExitCode.LOST


def _tests(
    requirements: Mapping[str, Requirement], run: SeriesRun, excused: AbstractSet[str]
) -> Iterator[TestResult]:
    for test in _collected(run):
        word = _worst(run.vms, test.id, excused)
        yield _held_against(requirements.get(test.requirement), run, test, word)


def _worst(vms: Sequence[VmRun], name: str, excused: AbstractSet[str]) -> _Word:
    """Return the worst word on a test; of one that was run once more, only the repetition's."""
    told = [word for vm in vms for word in _words(vm, name, excused)]
    lost = [vm.emulator for vm in vms if vm.emulator and vm.place == name]
    words = [word for word in told if not lost or word.outcome is not Outcome.INFRA] or told
    word = min(words, key=lambda word: _WORST_FIRST.index(word.outcome), default=_NEVER)
    if len(told) < 2 or not lost:
        return word
    message = "\n".join(part for part in (word.message, f"run once more, since {lost[0]}") if part)
    return replace(word, message=message)


def _collected(run: SeriesRun) -> dict[Collected.Test, None]:
    """Every test that any VM collected, in order; a test in two versions is in it twice."""
    return {test: None for vm in run.vms for test in vm.transcript.collected or ()}


def _words(vm: VmRun, name: str, excused: AbstractSet[str]) -> Iterator[_Word]:
    """What ``vm`` says of the test: nothing if it did not begin it."""
    faults = [fault for fault in vm.complaints(excused) if fault.test == name]
    end = vm.transcript.ended.get(name)
    running = vm.transcript.running
    if end is not None:
        word = _Word(end.outcome, end.seconds, end.message, end.values)
    elif running is not None and running.id == name:
        word = _broken_off(vm, running.limit)
    elif faults:  # its marker came through, its record did not
        word = _Word(Outcome.LOST)
    else:
        return
    if faults:
        word = _complained(word, faults)
    yield word


def _broken_off(vm: VmRun, limit: float) -> _Word:
    """A test that was running when the VM ended."""
    if vm.emulator:
        return _Word(Outcome.INFRA, limit, vm.emulator)
    if vm.ending is Ending.TEST_LIMIT:
        return _Word(Outcome.HANG, limit, f"did not end within {limit:g} s")
    if vm.ending in LIMITS:
        return _Word(Outcome.HANG, None, f"was running when {_ended(vm)}")
    dying = [fault for fault in vm.faults if fault.fatal]
    if dying:
        return _Word(Outcome.CRASH, None, dying[-1].line)
    return _Word(Outcome.LOST, None, f"was running when {_ended(vm)}")


def _complained(word: _Word, faults: Sequence[Fault]) -> _Word:
    """``word`` with what the kernel complained of meanwhile."""
    lines = [
        f"after the test: {fault.line}" if fault.place is Place.AFTER else fault.line
        for fault in faults
    ]
    stalled = word.outcome is Outcome.HANG and all(fault.stall for fault in faults)
    outcome = Outcome.HANG if stalled else Outcome.CRASH
    if all(fault.infra for fault in faults):
        # Nothing that the kernel did wrong; but what it did may not have been seen.
        outcome = min(word.outcome, Outcome.INFRA, key=_WORST_FIRST.index)
    return _Word(
        outcome=outcome,
        seconds=word.seconds,
        message="\n".join([*dict.fromkeys(lines), *([word.message] if word.message else [])]),
        values=word.values,
    )


def _held_against(
    requirement: Requirement | None, run: SeriesRun, test: Collected.Test, word: _Word
) -> TestResult:
    if requirement is None:
        expected = Outcome.PASS
        word = _Word(Outcome.INFRA, message=f"its requirement {test.requirement} does not exist")
    else:
        expected = requirement.expected(run.mechanism)
    objection = _objection(requirement, run.mechanism, expected, word.outcome)
    return TestResult(
        id=test.id,
        requirement=test.requirement,
        series=run.series,
        outcome=word.outcome,
        expected=expected,
        # Where nobody promises it, any honest failure will do.
        ok=word.outcome is expected or (expected, word.outcome) == (Outcome.FAIL, Outcome.XFAIL),
        seconds=word.seconds,
        message="\n".join(part for part in (objection, word.message) if part),
        values=word.values,
    )


def _objection(
    requirement: Requirement | None, mechanism: str, expected: Outcome, outcome: Outcome
) -> str:
    """Why an outcome that looks harmless is not."""
    match expected, outcome:
        case Outcome.FAIL, Outcome.PASS:
            return "passes without the series"
        case Outcome.XFAIL, Outcome.PASS if requirement is not None:
            return f"passes although “{requirement.limits[mechanism]}” is documented as a limit"
        case Outcome.PASS, Outcome.XFAIL:
            return "is expected to fail by the test, but no limit is documented"
        case Outcome.SKIP, Outcome.PASS:
            return "runs although it is documented that it cannot"
    return ""


def _incidents(run: SeriesRun, excused: AbstractSet[str]) -> Iterator[Incident]:
    """What went wrong outside of the tests of a series."""
    if not run.vms:
        yield Incident(run.series, 0, Outcome.INFRA, "no VM was started")
    first = next((vm.transcript.collected for vm in run.vms if vm.transcript.collected), ())
    known = {test.id for test in _collected(run)}
    judged = run.mechanism not in UNJUDGED
    for number, vm in enumerate(run.vms, 1):
        found = [
            *_strange(vm, first or ()),
            *_faults_of_nobody(vm, known, excused),
            *(() if _again(run, number) else _end(vm, excused, judged=judged)),
        ]
        yield from (Incident(run.series, number, outcome, message) for outcome, message in found)


def _again(run: SeriesRun, number: int) -> bool:
    """Whether VM ``number`` hung by the emulator's fault, and another one went on from there."""
    return bool(run.vms[number - 1].emulator) and number < len(run.vms)


def _strange(vm: VmRun, first: Sequence[Collected.Test]) -> Iterator[tuple[Outcome, str]]:
    if vm.transcript.broken:
        lines = "\n".join(vm.transcript.broken)
        yield Outcome.INFRA, f"the guest's records make no sense: {lines}"
    collected = vm.transcript.collected
    if collected is not None and set(collected) != set(first):
        yield Outcome.INFRA, "collected other tests than an earlier VM of the same run"


def _faults_of_nobody(
    vm: VmRun, known: AbstractSet[str], excused: AbstractSet[str]
) -> Iterator[tuple[Outcome, str]]:
    for fault in vm.complaints(excused):
        if fault.test is None:
            # What does not get any further than its boot hangs, and the kernel may notice first.
            hung = fault.stall and vm.transcript.hello is None
            outcome = Outcome.HANG if hung else _blamed(fault)
            yield outcome, f"before the first test: {fault.line}"
        elif fault.test == DETECTION:
            yield _blamed(fault), f"while the mechanism was detected: {fault.line}"
        elif fault.test not in known:
            yield _blamed(fault), f"in a test that was never collected: {fault.line}"


def _blamed(fault: Fault) -> Outcome:
    return Outcome.INFRA if fault.infra else Outcome.CRASH


def _end(vm: VmRun, excused: AbstractSet[str], *, judged: bool) -> Iterator[tuple[Outcome, str]]:
    """Return an ending that no test accounts for.

    A selection may leave no test of a kernel whose mechanism is not ``judged``.
    """
    told = vm.transcript
    if told.running is not None or (vm.ending is Ending.DONE and told.done and told.collected):
        return
    if any(fault.fatal or vm.ending is Ending.TAINTED for fault in vm.complaints(excused)):
        return  # that fault is reported, with its test or as an incident
    if vm.emulator:
        yield Outcome.INFRA, f"{progress(told)}: {vm.emulator}"
    elif vm.ending in LIMITS:
        yield Outcome.HANG, f"{progress(told)}: {_ended(vm)}"
    elif told.hello is not None and not told.collected and told.done:
        if judged or told.collected is None:
            yield Outcome.INFRA, "the suite ended without collecting a test"
    else:
        yield Outcome.LOST, f"{progress(told)}: {_ended(vm)}"


def _ended(vm: VmRun) -> str:
    meaning = ENDING_MEANING[vm.ending]
    return f"{meaning} ({vm.detail})" if vm.detail else meaning


def _not_judged(
    requirements: Mapping[str, Requirement], run: SeriesRun, base: str | None
) -> Iterator[Incident]:
    """Say of a series without a known mechanism how much was not judged."""
    if run.mechanism not in UNJUDGED:
        return
    left = asked(requirements, NONE, base) - asked(requirements, run.mechanism, base)
    why = {
        UNDETECTED: "no mechanism was detected",
        UNKNOWN: "the kernel has an unknown uAPI",
    }[run.mechanism]
    told = f" ({run.detected})" if run.detected else ""
    yield Incident(
        run.series,
        0,
        Outcome.NOT_JUDGED,
        f"{why}{told}: {len(left)} requirements of mechanisms are left out",
    )


def _coverage(due: Iterable[str], run: SeriesRun) -> Iterator[Incident]:
    """Requirements that no test of a whole suite names."""
    tests = _collected(run)
    tested = {test.requirement for test in tests}
    for name in sorted(due) if tests else ():
        if name not in tested:
            yield Incident(run.series, 0, Outcome.INFRA, f"{name} has no test")
