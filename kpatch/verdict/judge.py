# SPDX-License-Identifier: GPL-2.0-only
"""Compute the verdict from the VMs' transcripts. Pure functions, no I/O.

A test's outcome is "lost" until there is evidence for another one, so that silence is never
success. The first rule that applies decides:

1. the kernel made a report during the test, or after it and before the next one: crash, whatever
   the guest reports (`_complained` has the exceptions for stalls and for lost detectors). Known
   issues, and reports that the unpatched kernel makes too, do not count
2. the test began and did not end: infra if the emulator is the cause, hang if a time limit ended
   the VM, crash if the kernel panicked, else lost
3. the test never began: lost
4. otherwise the outcome that the guest reports

A test whose requirement does not exist is infra. A failure outside of tests (a failed boot, records
that make no sense) is an incident. A test that the emulator has made hang runs once more in a fresh
VM, and that result counts.

The outcome is then compared with the one that the requirement expects (`Requirement.expected`).
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
    """The VMs that ran one series' suite, in order.

    A later VM ran the tests that no earlier one began, and a test that the emulator had made hang.
    ``detected`` is the sign by which the mechanism was detected, "" without detection.
    ``negative`` are the mechanisms for which an unpatched kernel was the negative control, None for
    all (`ktests.contract.applies`).
    """

    series: str
    mechanism: str
    vms: tuple[VmRun, ...]
    detected: str = ""
    negative: tuple[str, ...] | None = None


@dataclass(frozen=True)
class TestResult:
    """The result of one test on one series.

    ``expected`` is the outcome that the requirement expects. ``ok``: ``outcome`` is the expected
    one, or an xfail where a failure is expected. ``seconds`` is None if unknown, for instance if
    the VM died during the test. ``values`` are the test's measurements by name.
    """

    __test__ = False  # pytest would otherwise collect this class as tests

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
    """A failure outside of any test; ``vm`` counts from 1, 0 means the whole series."""

    series: str
    vm: int
    outcome: Outcome
    message: str


@dataclass(frozen=True, kw_only=True)
class SeenFault(Fault):
    """A kernel report, with the name of the series and the number of the VM (from 1) that made it.

    ``of_base``: the negative control makes a report of the same title, so that this one does not
    count against a series (`excused_titles`).
    """

    series: str
    vm: int
    of_base: bool = False


@dataclass(frozen=True)
class Judgement:
    """The complete verdict of a run: tests, incidents, kernel reports, and exit code.

    ``faults`` are all kernel reports, also those that do not count.
    """

    tests: tuple[TestResult, ...]
    incidents: tuple[Incident, ...]
    faults: tuple[SeenFault, ...]
    exit_code: ExitCode

    @property
    def verdict(self) -> str:
        """Return the exit code as a word: "pass", "not-judged", …."""
        return self.exit_code.word


@dataclass(frozen=True)
class _Word:
    """The outcome of a test in one VM, with duration in seconds, message and measurements."""

    outcome: Outcome
    seconds: float | None = None
    message: str = ""
    values: Mapping[str, Scalar] = field(default_factory=dict)


_NEVER = _Word(Outcome.LOST, message="was never begun")

# If a test has several outcomes, the worst is kept: the one that comes first in this list.
_WORST_FIRST = (*(outcome for outcome, _ in EXIT_BY_OUTCOME), Outcome.XFAIL, Outcome.PASS)


def judge(
    requirements: Mapping[str, Requirement],
    runs: Sequence[SeriesRun],
    *,
    complete: bool = True,
    base: str | None = None,
    flavor: str | None = None,
) -> Judgement:
    """Return the verdict of ``runs`` by the table ``requirements``, which maps ids to requirements.

    ``complete``: the whole suite was to run, not a selection, so a requirement that applies to the
    kernel but has no test is an incident. ``base`` is the release line of the kernels ("7.3"),
    ``flavor`` their flavor; requirements that cannot be tested on these need no test. If it is
    None, none is exempt.
    """
    excused = excused_titles(runs)
    tests = tuple(result for run in runs for result in _tests(requirements, run, excused))
    incidents = tuple(
        incident
        for run in runs
        for incident in (
            *_incidents(run, excused),
            *(_coverage(_due(requirements, run, base, flavor), run) if complete else ()),
            *_not_judged(requirements, run, base, flavor),
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
    """Return the titles of kernel reports that do not count: those of the negative control.

    Their cause is in the base. If ``runs`` has only the control, all reports count, and the result
    is empty: then the base itself is judged.
    """
    return frozenset() if all(run.mechanism == NONE for run in runs) else control_titles(runs)


def control_titles(runs: Iterable[SeriesRun]) -> frozenset[str]:
    """Return the titles of all kernel reports in the negative control's VMs."""
    control = [vm for run in runs if run.mechanism == NONE for vm in run.vms]
    return frozenset(fault.title for vm in control for fault in vm.faults)


def exit_code(tests: Iterable[TestResult], incidents: Iterable[Incident]) -> ExitCode:
    """Return the exit code for the worst outcome of all incidents and of the tests that are not ok.

    The order is that of EXIT_BY_OUTCOME; an unexpected pass or xfail alone gives FAIL. Without such
    an outcome the code is PASS, or LOST if there is no test.
    """
    tests = tuple(tests)
    bad = {test.outcome for test in tests if not test.ok}
    bad |= {incident.outcome for incident in incidents}
    for outcome, code in EXIT_BY_OUTCOME:
        if outcome in bad:
            return code
    if bad:  # an unexpected pass or xfail
        return ExitCode.FAIL
    return ExitCode.PASS if tests else ExitCode.LOST


def _tests(
    requirements: Mapping[str, Requirement], run: SeriesRun, excused: AbstractSet[str]
) -> Iterator[TestResult]:
    for test in _collected(run):
        word = _worst(run.vms, test.id, excused)
        yield _held_against(requirements.get(test.requirement), run, test, word)


def _worst(vms: Sequence[VmRun], name: str, excused: AbstractSet[str]) -> _Word:
    """Return the worst outcome of the test ``name`` in ``vms``; lost if no VM began it.

    If it was run again because of a fault of the emulator, the outcome of the second run counts.
    ``excused`` are titles of kernel reports that do not count.
    """
    every = [word for vm in vms for word in _words(vm, name, excused)]
    lost = [vm.emulator for vm in vms if vm.emulator and vm.place == name]
    words = [word for word in every if not lost or word.outcome is not Outcome.INFRA] or every
    word = min(words, key=lambda word: _WORST_FIRST.index(word.outcome), default=_NEVER)
    if len(every) < 2 or not lost:
        return word
    message = "\n".join(part for part in (word.message, f"run once more, since {lost[0]}") if part)
    return replace(word, message=message)


def _collected(run: SeriesRun) -> dict[Collected.Test, None]:
    """Return the tests that any VM collected, in order, as the keys of a dict.

    If two VMs report different requirements for a test, the dict has it twice.
    """
    return {test: None for vm in run.vms for test in vm.transcript.collected or ()}


def _words(vm: VmRun, name: str, excused: AbstractSet[str]) -> Iterator[_Word]:
    """Yield the outcome of the test ``name`` in ``vm``; nothing if the VM did not begin it.

    ``excused`` are titles of kernel reports that do not count.
    """
    faults = [fault for fault in vm.complaints(excused) if fault.test == name]
    end = vm.transcript.ended.get(name)
    running = vm.transcript.running
    if end is not None:
        word = _Word(end.outcome, end.seconds, end.message, end.values)
    elif running is not None and running.id == name:
        word = _broken_off(vm, running.limit)
    elif faults:  # the begin marker came on the console, the begin record did not arrive
        word = _Word(Outcome.LOST)
    else:
        return
    if faults:
        word = _complained(word, faults)
    yield word


def _broken_off(vm: VmRun, limit: float) -> _Word:
    """Return the outcome of the test that was running when ``vm`` ended (rule 2 of the module).

    ``limit`` is the test's time limit in seconds.
    """
    if vm.emulator:
        return _Word(Outcome.INFRA, limit, vm.emulator)
    if vm.ending is Ending.TEST_LIMIT:
        return _Word(Outcome.HANG, limit, f"did not end within {limit:g} s")
    if vm.ending in LIMITS:
        return _Word(Outcome.HANG, None, f"was running when {_ended(vm)}")
    dying = [fault for fault in vm.faults if fault.fatal]
    if dying:
        return _Word(Outcome.CRASH, None, dying[-1].headline)
    return _Word(Outcome.LOST, None, f"was running when {_ended(vm)}")


def _complained(word: _Word, faults: Sequence[Fault]) -> _Word:
    """Return the outcome of a test during or after which the kernel made the reports ``faults``.

    ``word`` is the outcome without regard to the reports. The result is crash, except that a hang
    stays a hang if every report is about a stall. If every report only means that faults may have
    been missed (`Fault.infra`), it is infra, or the outcome in ``word`` if that is worse. The
    headlines of the reports are put before the message of ``word``.
    """
    lines = [
        f"after the test: {fault.headline}" if fault.place is Place.AFTER else fault.headline
        for fault in faults
    ]
    stalled = word.outcome is Outcome.HANG and all(fault.stall for fault in faults)
    outcome = Outcome.HANG if stalled else Outcome.CRASH
    if all(fault.infra for fault in faults):
        # These are no faults of the kernel, but faults may have been missed.
        outcome = min(word.outcome, Outcome.INFRA, key=_WORST_FIRST.index)
    return _Word(
        outcome=outcome,
        seconds=word.seconds,
        # Without duplicates: the message of a test that a panic ended is one of the headlines.
        message="\n".join(dict.fromkeys([*lines, *([word.message] if word.message else [])])),
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
        # If the mechanism does not promise it, an xfail is as good as a failure.
        ok=word.outcome is expected or (expected, word.outcome) == (Outcome.FAIL, Outcome.XFAIL),
        seconds=word.seconds,
        message="\n".join(part for part in (objection, word.message) if part),
        values=word.values,
    )


def _objection(
    requirement: Requirement | None, mechanism: str, expected: Outcome, outcome: Outcome
) -> str:
    """Return what is wrong with an unexpected pass, or with an xfail where a pass is expected.

    Returns "" for all other pairs of outcomes. ``requirement`` is None if it does not exist.
    """
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
    """Yield the incidents of a series: failures outside of its tests."""
    if not run.vms:
        yield Incident(run.series, 0, Outcome.INFRA, "no VM was started")
    first = next((vm.transcript.collected for vm in run.vms if vm.transcript.collected), ())
    known = {test.id for test in _collected(run)}
    judged = run.mechanism not in UNJUDGED
    for number, vm in enumerate(run.vms, 1):
        outcomes = [
            *_strange(vm, first or ()),
            *_faults_of_nobody(vm, known, excused),
            *(() if _again(run, number) else _end(vm, excused, judged=judged)),
        ]
        yield from (Incident(run.series, number, outcome, message) for outcome, message in outcomes)


def _again(run: SeriesRun, number: int) -> bool:
    """Return whether VM ``number`` (from 1) hung because of the emulator and a VM followed it."""
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
            # A kernel that hangs in its boot may report the stall before the host's time limit.
            hung = fault.stall and vm.transcript.hello is None
            outcome = Outcome.HANG if hung else _blamed(fault)
            yield outcome, f"before the first test: {fault.headline}"
        elif fault.test == DETECTION:
            yield _blamed(fault), f"while the mechanism was detected: {fault.headline}"
        elif fault.test not in known:
            yield _blamed(fault), f"in a test that was never collected: {fault.headline}"


def _blamed(fault: Fault) -> Outcome:
    return Outcome.INFRA if fault.infra else Outcome.CRASH


def _end(vm: VmRun, excused: AbstractSet[str], *, judged: bool) -> Iterator[tuple[Outcome, str]]:
    """Yield an incident's outcome and message if the VM's end is wrong and nothing else tells it.

    ``judged`` is False if the mechanism is undetected or unknown. Then a suite that has collected
    no test is no incident: the selection may contain only tests of mechanisms.
    """
    transcript = vm.transcript
    whole = vm.ending is Ending.DONE and transcript.done and transcript.collected
    if transcript.running is not None or whole or vm.ending is Ending.STOPPED:
        return
    if any(fault.fatal or vm.ending is Ending.TAINTED for fault in vm.complaints(excused)):
        return  # the fault is reported already, with its test or as an incident
    if vm.emulator:
        yield Outcome.INFRA, f"{progress(transcript)}: {vm.emulator}"
    elif vm.ending in LIMITS:
        yield Outcome.HANG, f"{progress(transcript)}: {_ended(vm)}"
    elif transcript.hello is not None and not transcript.collected and transcript.done:
        if judged or transcript.collected is None:
            yield Outcome.INFRA, "the suite ended without collecting a test"
    else:
        yield Outcome.LOST, f"{progress(transcript)}: {_ended(vm)}"


def _ended(vm: VmRun) -> str:
    meaning = ENDING_MEANING[vm.ending]
    return f"{meaning} ({vm.detail})" if vm.detail else meaning


def _not_judged(
    requirements: Mapping[str, Requirement], run: SeriesRun, base: str | None, flavor: str | None
) -> Iterator[Incident]:
    """Yield an incident if the series has no known mechanism.

    Its message has the number of requirements that were not tested for this reason.
    """
    if run.mechanism not in UNJUDGED:
        return
    omitted = asked(requirements, NONE, base, flavor=flavor) - asked(
        requirements, run.mechanism, base, flavor=flavor
    )
    why = {
        UNDETECTED: "no mechanism was detected",
        UNKNOWN: "the kernel has an unknown uAPI",
    }[run.mechanism]
    sign = f" ({run.detected})" if run.detected else ""
    yield Incident(
        run.series,
        0,
        Outcome.NOT_JUDGED,
        f"{why}: {len(omitted)} requirements of mechanisms are left out{sign}",
    )


def _due(
    requirements: Mapping[str, Requirement], run: SeriesRun, base: str | None, flavor: str | None
) -> frozenset[str]:
    return asked(requirements, run.mechanism, base, run.negative, flavor=flavor)


def _coverage(due: Iterable[str], run: SeriesRun) -> Iterator[Incident]:
    """Yield an incident for each id in ``due`` (requirements) that no collected test names.

    Yields none if no test was collected: `_end` reports that.
    """
    tests = _collected(run)
    tested = {test.requirement for test in tests}
    for name in sorted(due) if tests else ():
        if name not in tested:
            yield Incident(run.series, 0, Outcome.INFRA, f"{name} has no test")
