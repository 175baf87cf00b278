# SPDX-License-Identifier: GPL-2.0-only
"""The judge: outcome and exit code for every end of a VM and every expectation."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kpatch.run import console
from kpatch.run.console import Fault, Place
from kpatch.run.protocol import Begin, Collected, Decoder, End, Hello, Transcript
from kpatch.run.vm_run import ENDING_MEANING, Ending, VmRun, begun, cut, repeats
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.verdict.judge import Incident, Judgement, SeriesRun, judge
from kpatch.verdict.requirements import Requirement
from ktests.contract import PROTOCOL

DATA = Path(__file__).parent / "data"

LAYOUT, WIDE, BASIC = "REQ-EVT-01", "REQ-EVT-05", "REQ-KRN-01"
TABLE = {
    LAYOUT: Requirement(LAYOUT, "the layout is stable", ("netlink",)),
    WIDE: Requirement(WIDE, "32 bits arrive", ("netlink", "eventfd"), {"netlink": "type is u8"}),
    BASIC: Requirement(BASIC, "vfio-pci binds the device", ("any",)),
}
SUITE = (
    Collected.Test("layout", LAYOUT),
    Collected.Test("wide", WIDE),
    Collected.Test("basic", BASIC),
)
GOOD = {"layout": Outcome.PASS, "wide": Outcome.XFAIL, "basic": Outcome.PASS}
CONTROL = {"layout": Outcome.FAIL, "wide": Outcome.FAIL, "basic": Outcome.PASS}


def transcript(
    outcomes: Mapping[str, Outcome],
    *,
    running: str | None = None,
    collected: tuple[Collected.Test, ...] | None = SUITE,
    done: bool = True,
) -> Transcript:
    return Transcript(
        hello=Hello(1, "7.3.4", "3.11.2"),
        collected=collected,
        ended={name: End(name, outcome, 0.5, "why") for name, outcome in outcomes.items()},
        running=Begin(running, 60.0) if running else None,
        done=done and running is None,
    )


def vm(
    outcomes: Mapping[str, Outcome] = GOOD,
    *,
    running: str | None = None,
    ending: Ending = Ending.DONE,
    faults: tuple[Fault, ...] = (),
    detail: str = "",
) -> VmRun:
    done = ending is Ending.DONE
    return VmRun(transcript(outcomes, running=running, done=done), faults, ending, detail)


def judged(*vms: VmRun, mechanism: str = "netlink", complete: bool = True) -> Judgement:
    return judge(TABLE, [SeriesRun("the-series", mechanism, vms)], complete=complete)


def fault(
    test: str | None = "layout",
    *,
    kind: str = "warning",
    line: str = "WARNING: x",
    place: Place = Place.DURING,
    stall: bool = False,
    known: str = "",
) -> Fault:
    return Fault(kind, line, f"{line}\n", test, place, 1.0, stall, known, title=line)


PANIC = fault(kind="panic", line="Kernel panic - not syncing: x")


def outcome(judgement: Judgement, name: str = "layout") -> tuple[Outcome, bool]:
    (result,) = [test for test in judgement.tests if test.id == name]
    return result.outcome, result.ok


def message(judgement: Judgement, name: str = "layout") -> str:
    (result,) = [test for test in judgement.tests if test.id == name]
    return result.message


def test_a_good_run() -> None:
    judgement = judged(vm())
    assert [test.ok for test in judgement.tests] == [True, True, True]
    assert [test.requirement for test in judgement.tests] == [LAYOUT, WIDE, BASIC]
    assert judgement.incidents == ()
    assert judgement.exit_code is ExitCode.PASS
    assert judgement.verdict == "pass"


@pytest.mark.parametrize("test", ["layout", None, "never-collected"])
def test_a_known_complaint_is_recorded_and_does_not_count(test: str | None) -> None:
    known = fault(test, known="the harness did it")
    judgement = judged(vm(faults=(known,)))
    assert all(test.ok for test in judgement.tests)
    assert judgement.incidents == ()
    assert judgement.exit_code is ExitCode.PASS
    assert [(seen.line, seen.known) for seen in judgement.faults] == [(known.line, known.known)]


def test_a_good_negative_control() -> None:
    judgement = judged(vm(CONTROL), mechanism="none")
    assert judgement.exit_code is ExitCode.PASS
    assert [test.expected for test in judgement.tests] == ["fail", "fail", "pass"]


def test_a_fixture_that_breaks_is_no_honest_failure_of_the_control() -> None:
    judgement = judged(vm({**CONTROL, "layout": Outcome.INFRA}), mechanism="none")
    assert outcome(judgement) == (Outcome.INFRA, False)
    assert judgement.exit_code is ExitCode.LOST


def test_only_the_control_fails_as_expected() -> None:
    """A test that runs for a series has to pass, even if another mechanism promises it."""
    outcomes = {"layout": Outcome.FAIL, "wide": Outcome.PASS, "basic": Outcome.PASS}
    judgement = judged(vm(outcomes), mechanism="eventfd")
    assert outcome(judgement) == (Outcome.FAIL, False)
    assert judgement.exit_code is ExitCode.FAIL


def test_records_that_are_cut_anywhere_are_no_pass() -> None:
    """QEMU was killed, the guest powered off, or hung, after each byte of a run that passes."""
    tests = [{"id": test.id, "requirement": test.requirement} for test in SUITE]
    records: list[dict[str, object]] = [
        {"type": "hello", "protocol": PROTOCOL, "release": "7.3.4", "python": "3.11.2"},
        {"type": "collected", "tests": tests},
    ]
    for name, word in GOOD.items():
        records.append({"type": "begin", "id": name, "limit": 60})
        records.append({"type": "end", "id": name, "outcome": word, "seconds": 1, "message": "why"})
    records.append({"type": "done"})
    data = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    for cut_at in range(len(data) + 1):
        state = Transcript()
        for record in Decoder().feed(data[:cut_at]):
            state = state.add(record)
        assert state.broken == ()
        for ending in (Ending.KILLED, Ending.EXIT, Ending.TEST_LIMIT, Ending.RUN_LIMIT):
            judgement = judged(VmRun(state, (), Ending.DONE if state.done else ending))
            whole = cut_at == len(data)
            assert (judgement.exit_code is ExitCode.PASS) == whole, data[:cut_at]
            passed = {test.id for test in judgement.tests if test.ok}
            assert passed == state.ended.keys()


# ---- series without a known mechanism ------------------------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "why"),
    [
        ("undetected", "no mechanism was detected"),
        ("unknown", "the kernel has an unknown uAPI"),
    ],
)
def test_a_series_without_a_known_mechanism_is_not_judged(mechanism: str, why: str) -> None:
    only = Transcript(
        hello=Hello(1, "7.3.4", "3.11.2"),
        collected=SUITE[2:],
        ended={"basic": End("basic", Outcome.PASS, 0.5)},
        done=True,
    )
    run = SeriesRun("x", mechanism, (VmRun(only, (), Ending.DONE),), "index 5 is not there")
    control = SeriesRun("base", "none", (vm(CONTROL),))
    judgement = judge(TABLE, [control, run])
    assert judgement.exit_code is ExitCode.NOT_JUDGED
    assert judgement.verdict == "not-judged"
    [incident] = judgement.incidents
    assert (incident.series, incident.vm, incident.outcome) == ("x", 0, Outcome.NOT_JUDGED)
    omitted = "2 requirements of mechanisms are left out"
    assert incident.message == f"{why}: {omitted} (index 5 is not there)"


@pytest.mark.parametrize(
    ("base", "flavor", "count"),
    [
        ("6.12", None, 3),
        ("7.3", None, 4),
        (None, None, 4),
        (None, "debug", 4),
        (None, "plain", 3),
        ("6.12", "plain", 2),
    ],
)
def test_requirements_are_left_out_only_if_the_kernel_can_be_tested(
    base: str | None, flavor: str | None, count: int
) -> None:
    newer = Requirement("REQ-EVT-98", "Later.", ("netlink",), first="7.3")
    slow = Requirement("REQ-EVT-99", "Slowly.", ("netlink",), flavors=("debug",))
    run = SeriesRun("x", "undetected", (vm({"basic": Outcome.PASS}),))
    table = {**TABLE, newer.id: newer, slow.id: slow}
    judgement = judge(table, [run], complete=False, base=base, flavor=flavor)
    [told] = [it.message for it in judgement.incidents if it.outcome is Outcome.NOT_JUDGED]
    assert told == f"no mechanism was detected: {count} requirements of mechanisms are left out"


def test_a_selection_of_nothing_that_can_be_judged_is_not_judged() -> None:
    """TESTS may select only requirements of mechanisms."""
    nothing = Transcript(hello=Hello(1, "7.3.4", "3.11.2"), collected=(), done=True)
    run = SeriesRun("x", "undetected", (VmRun(nothing, (), Ending.DONE),))
    assert judge(TABLE, [run], complete=False).exit_code is ExitCode.NOT_JUDGED
    known = SeriesRun("x", "netlink", (VmRun(nothing, (), Ending.DONE),))
    assert judge(TABLE, [known], complete=False).exit_code is ExitCode.LOST


def test_a_failure_comes_before_what_was_not_judged() -> None:
    outcomes = {"basic": Outcome.FAIL}
    told = replace(transcript(outcomes), collected=SUITE[2:])
    run = SeriesRun("x", "undetected", (VmRun(told, (), Ending.DONE),))
    assert judge(TABLE, [run]).exit_code is ExitCode.FAIL


def test_a_crash_of_the_detection_is_told_as_such() -> None:
    first = VmRun(
        Transcript(hello=Hello(1, "7.3.4", "3.11.2")),
        (replace(PANIC, test="detection"),),
        Ending.EXIT,
    )
    second = vm({"basic": Outcome.PASS})
    second = replace(second, transcript=replace(second.transcript, collected=SUITE[2:]))
    judgement = judge(TABLE, [SeriesRun("x", "unknown", (first, second))])
    crash = next(it for it in judgement.incidents if it.outcome is Outcome.CRASH)
    assert crash.message == f"while the mechanism was detected: {PANIC.line}"
    assert judgement.exit_code is ExitCode.CRASH


def test_what_hides_faults_is_infra_and_no_crash() -> None:
    off = replace(fault(), infra=True, line="DEBUG_LOCKS off", title="DEBUG_LOCKS off")
    judgement = judged(vm(faults=(off,)))
    assert outcome(judgement) == (Outcome.INFRA, False)
    assert judgement.exit_code is ExitCode.LOST
    failed = judged(vm({**GOOD, "layout": Outcome.FAIL}, faults=(off,)))
    assert outcome(failed) == (Outcome.INFRA, False), "what failed may have failed by that"
    for ending, expected in (
        (Ending.EXIT, Outcome.LOST),
        (Ending.TEST_LIMIT, Outcome.HANG),
    ):
        died = vm({}, running="layout", ending=ending, faults=(off,))
        assert outcome(judged(died)) == (expected, False), "worse than infra stays so"
    early = judged(vm(faults=(replace(off, test=None),)))
    assert [it.outcome for it in early.incidents] == [Outcome.INFRA]
    both_kinds = judged(vm(faults=(off, fault())))
    assert outcome(both_kinds) == (Outcome.CRASH, False), "a fault that was seen counts more"


# ---- complaints of the unpatched kernel ---------------------------------------------------------


def both(base: tuple[Fault, ...], series: tuple[Fault, ...]) -> Judgement:
    return judge(
        TABLE,
        [
            SeriesRun("base", "none", (vm(CONTROL, faults=base),)),
            SeriesRun("the-series", "netlink", (vm(GOOD, faults=series),)),
        ],
    )


def test_a_complaint_of_the_base_too_is_not_blamed_on_the_series() -> None:
    judgement = both((fault("basic"),), (fault("layout"),))
    assert judgement.exit_code is ExitCode.PASS
    assert [seen.of_base for seen in judgement.faults] == [True, True]


def test_a_complaint_of_another_title_is_blamed_on_the_series() -> None:
    judgement = both((fault("basic"),), (fault("layout", line="WARNING: y"),))
    assert judgement.exit_code is ExitCode.CRASH
    assert [seen.of_base for seen in judgement.faults] == [True, False]


def test_a_complaint_before_the_first_test_is_excused_as_well() -> None:
    assert both((fault(None),), (fault(None),)).exit_code is ExitCode.PASS
    assert both((), (fault(None),)).exit_code is ExitCode.CRASH


def test_the_base_alone_is_judged_by_its_complaints() -> None:
    judgement = judged(vm(CONTROL, faults=(fault("basic"),)), mechanism="none")
    assert judgement.exit_code is ExitCode.CRASH
    assert [seen.of_base for seen in judgement.faults] == [False]


# For every expectation and every outcome that a guest can report: whether the outcome is right.
# An entry in limits gives the expectation xfail, one in skips gives skip, "none" gives fail.
@pytest.mark.parametrize(
    ("expected", "reported"),
    list(
        itertools.product(
            (Outcome.PASS, Outcome.FAIL, Outcome.XFAIL, Outcome.SKIP),
            (Outcome.PASS, Outcome.FAIL, Outcome.XFAIL, Outcome.SKIP),
        )
    ),
)
def test_expectations(expected: Outcome, reported: Outcome) -> None:
    requirement = Requirement(
        LAYOUT,
        "x",
        ("netlink",),
        {"netlink": "u8"} if expected is Outcome.XFAIL else {},
        {"netlink": "no port"} if expected is Outcome.SKIP else {},
    )
    told = transcript({"layout": reported}, collected=SUITE[:1])
    mechanism = "none" if expected is Outcome.FAIL else "netlink"
    judgement = judge(
        {LAYOUT: requirement},
        [SeriesRun("s", mechanism, (VmRun(told, (), Ending.DONE),))],
    )
    (result,) = judgement.tests
    fine = {
        (Outcome.PASS, Outcome.PASS),
        (Outcome.FAIL, Outcome.FAIL),
        (Outcome.FAIL, Outcome.XFAIL),
        (Outcome.XFAIL, Outcome.XFAIL),
        (Outcome.SKIP, Outcome.SKIP),
    }
    assert result.expected is expected
    assert result.outcome is reported
    assert result.ok is ((expected, reported) in fine)
    assert judgement.exit_code is (ExitCode.PASS if result.ok else ExitCode.FAIL)


def test_a_pass_without_the_series_says_so() -> None:
    judgement = judged(vm({**CONTROL, "layout": Outcome.PASS}), mechanism="none")
    assert message(judgement).splitlines()[0] == "passes without the series"
    assert judgement.exit_code is ExitCode.FAIL


def test_a_limit_that_is_none_says_so() -> None:
    judgement = judged(vm({**GOOD, "wide": Outcome.PASS}))
    assert "passes although “type is u8” is documented as a limit" in message(judgement, "wide")


def test_a_test_that_runs_although_it_should_not_says_so() -> None:
    skipped = replace(TABLE[LAYOUT], skips={"netlink": "no port"})
    run = SeriesRun("the-series", "netlink", (vm(),))
    judgement = judge({**TABLE, LAYOUT: skipped}, [run])
    assert message(judgement) == "runs although it is documented that it cannot\nwhy"


def test_a_limit_that_is_not_documented_says_so() -> None:
    judgement = judged(vm({**GOOD, "layout": Outcome.XFAIL}))
    assert message(judgement) == (
        "is expected to fail by the test, but no limit is documented\nwhy"
    )


@pytest.mark.parametrize("reported", [Outcome.PASS, Outcome.FAIL, Outcome.SKIP, Outcome.XFAIL])
def test_a_fault_beats_what_the_test_says(reported: Outcome) -> None:
    judgement = judged(vm({**GOOD, "layout": reported}, faults=(fault(),)))
    assert outcome(judgement) == (Outcome.CRASH, False)
    assert message(judgement).splitlines()[0] == "WARNING: x"
    assert judgement.exit_code is ExitCode.CRASH


def test_the_place_of_a_fault_in_the_series_is_told() -> None:
    placed = replace(fault(), source="fs/eventfd.c:81")
    assert message(judged(vm(faults=(placed,)))).startswith("WARNING: x (fs/eventfd.c:81)")


def test_a_fault_on_the_negative_control_is_no_honest_failure() -> None:
    judgement = judged(vm(CONTROL, faults=(fault(),)), mechanism="none")
    assert outcome(judgement) == (Outcome.CRASH, False)


def test_a_fault_after_a_test_is_its_own() -> None:
    judgement = judged(vm(faults=(fault(place=Place.AFTER),)))
    assert outcome(judgement) == (Outcome.CRASH, False)
    assert message(judgement).startswith("after the test: WARNING: x")


def test_a_stall_in_a_test_that_ends_is_a_complaint() -> None:
    assert outcome(judged(vm(faults=(fault(stall=True),)))) == (Outcome.CRASH, False)


PARTIAL = {"wide": Outcome.XFAIL}
REST = vm({"basic": Outcome.PASS})


@pytest.mark.parametrize(
    ("ending", "faults", "expected", "code"),
    [
        (Ending.EXIT, (PANIC,), Outcome.CRASH, ExitCode.CRASH),
        (Ending.EXIT, (fault(None, kind="panic"),), Outcome.CRASH, ExitCode.CRASH),
        (Ending.EXIT, (fault(),), Outcome.CRASH, ExitCode.CRASH),
        (Ending.EXIT, (), Outcome.LOST, ExitCode.LOST),
        (Ending.KILLED, (), Outcome.LOST, ExitCode.LOST),
        (Ending.DONE, (), Outcome.LOST, ExitCode.LOST),
        (Ending.TEST_LIMIT, (), Outcome.HANG, ExitCode.HANG),
        (Ending.RUN_LIMIT, (), Outcome.HANG, ExitCode.HANG),
        (Ending.TEST_LIMIT, (fault(stall=True),), Outcome.HANG, ExitCode.HANG),
        (Ending.TEST_LIMIT, (fault(),), Outcome.CRASH, ExitCode.CRASH),
        (Ending.TEST_LIMIT, (fault(stall=True), fault()), Outcome.CRASH, ExitCode.CRASH),
    ],
)
def test_a_test_that_was_begun_and_did_not_end(
    ending: Ending, faults: tuple[Fault, ...], expected: Outcome, code: ExitCode
) -> None:
    judgement = judged(vm(PARTIAL, running="layout", ending=ending, faults=faults), REST)
    assert outcome(judgement) == (expected, False)
    assert outcome(judgement, "wide") == (Outcome.XFAIL, True)
    assert outcome(judgement, "basic") == (Outcome.PASS, True)
    assert judgement.exit_code is code
    assert all(incident.message.startswith("before the first") for incident in judgement.incidents)


def test_a_hang_tells_its_limit() -> None:
    judgement = judged(vm(PARTIAL, running="layout", ending=Ending.TEST_LIMIT), REST)
    assert message(judgement) == "did not end within 60 s"
    assert judgement.tests[0].seconds == 60.0


@pytest.mark.parametrize(
    ("ending", "faults", "told"),
    [
        (Ending.EXIT, (replace(PANIC, test=None),), PANIC.line),
        (Ending.RUN_LIMIT, (), "was running when {} (qemu: why)"),
        (Ending.KILLED, (), "was running when {} (qemu: why)"),
    ],
)
def test_a_test_that_did_not_end_tells_why(
    ending: Ending, faults: tuple[Fault, ...], told: str
) -> None:
    died = vm(PARTIAL, running="layout", ending=ending, faults=faults, detail="qemu: why")
    judgement = judged(died, REST)
    assert message(judgement) == told.format(ENDING_MEANING[ending])
    assert judgement.tests[0].seconds is None


def test_a_fault_leaves_what_the_test_says() -> None:
    values = {"bytes": 68}
    for said, told in (("why", f"{PANIC.line}\nwhy"), ("", PANIC.line)):
        end = End("layout", Outcome.FAIL, 0.5, said, values)
        good = vm(faults=(PANIC,))
        ended = {**good.transcript.ended, "layout": end}
        judgement = judged(replace(good, transcript=replace(good.transcript, ended=ended)))
        [layout] = [test for test in judgement.tests if test.id == "layout"]
        assert (layout.message, layout.seconds, layout.values) == (told, 0.5, values)


def test_a_test_whose_begin_only_the_console_shows() -> None:
    judgement = judged(vm(PARTIAL, ending=Ending.EXIT, faults=(PANIC,)), REST)
    assert outcome(judgement) == (Outcome.CRASH, False)
    assert judgement.incidents == ()
    off = replace(fault(), infra=True)
    judgement = judged(vm(PARTIAL, ending=Ending.TAINTED, faults=(off,)), REST)
    assert outcome(judgement) == (Outcome.LOST, False), "worse than infra"


def test_a_crash_is_not_made_good_by_a_later_vm() -> None:
    crashed = vm(PARTIAL, running="layout", ending=Ending.EXIT, faults=(PANIC,))
    judgement = judged(crashed, vm({"layout": Outcome.PASS, "basic": Outcome.PASS}))
    assert outcome(judgement) == (Outcome.CRASH, False)
    assert message(judgement) == PANIC.line, "not run once more, and the panic named once"


def test_what_was_never_begun_is_lost() -> None:
    judgement = judged(vm(PARTIAL, running="layout", ending=Ending.EXIT, faults=(PANIC,)))
    assert outcome(judgement, "basic") == (Outcome.LOST, False)
    assert message(judgement, "basic") == "was never begun"


def test_a_suite_that_says_done_and_left_tests_out() -> None:
    judgement = judged(vm({"layout": Outcome.PASS, "wide": Outcome.XFAIL}))
    assert outcome(judgement, "basic") == (Outcome.LOST, False)
    assert judgement.exit_code is ExitCode.LOST


NOTHING = Transcript()
GREETED = Transcript(hello=Hello(1, "7.3.4", "3.11.2"))


@pytest.mark.parametrize(
    ("told", "ending", "faults", "expected"),
    [
        (NOTHING, Ending.EXIT, (fault(None, kind="panic", place=Place.BOOT),), Outcome.CRASH),
        (NOTHING, Ending.BOOT_LIMIT, (), Outcome.HANG),
        (NOTHING, Ending.TAINTED, (fault(None, stall=True, place=Place.BOOT),), Outcome.HANG),
        (GREETED, Ending.TAINTED, (fault(None, stall=True, place=Place.BOOT),), Outcome.CRASH),
        (NOTHING, Ending.RUN_LIMIT, (), Outcome.HANG),
        (NOTHING, Ending.EXIT, (), Outcome.LOST),
        (NOTHING, Ending.KILLED, (), Outcome.LOST),
        (NOTHING, Ending.DONE, (), Outcome.LOST),
        (GREETED, Ending.BOOT_LIMIT, (), Outcome.HANG),
        (GREETED, Ending.EXIT, (), Outcome.LOST),
        (Transcript(hello=GREETED.hello, done=True), Ending.DONE, (), Outcome.INFRA),
        (transcript({}, collected=()), Ending.DONE, (), Outcome.INFRA),
    ],
)
def test_a_vm_that_never_came_to_a_test(
    told: Transcript, ending: Ending, faults: tuple[Fault, ...], expected: Outcome
) -> None:
    judgement = judged(VmRun(told, faults, ending, "detail"))
    assert judgement.tests == ()
    assert [incident.outcome for incident in judgement.incidents] == [expected]
    assert judgement.exit_code is not ExitCode.PASS


def test_a_complaint_during_the_boot_is_a_crash_though_every_test_passes() -> None:
    judgement = judged(vm(faults=(fault(None, place=Place.BOOT),)))
    assert all(test.ok for test in judgement.tests)
    (incident,) = judgement.incidents
    assert (incident.outcome, incident.vm) == (Outcome.CRASH, 1)
    assert judgement.exit_code is ExitCode.CRASH


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (Ending.EXIT, Outcome.LOST),
        (Ending.KILLED, Outcome.LOST),
        (Ending.RUN_LIMIT, Outcome.HANG),
    ],
)
def test_a_vm_gone_between_tests_is_an_incident(ending: Ending, expected: Outcome) -> None:
    judgement = judged(vm({"layout": Outcome.PASS}, ending=ending), vm({**GOOD}))
    (incident,) = judgement.incidents
    assert incident.outcome is expected
    assert incident.message == f"between two tests: {ENDING_MEANING[ending]}"


@pytest.mark.parametrize(
    ("told", "stage"),
    [
        (Transcript(), "during the boot"),
        (Transcript(hello=Hello(1, "7.3.4", "3.11.2")), "before the suite was collected"),
        (transcript({"layout": Outcome.PASS}, done=False), "between two tests"),
        (transcript(GOOD), "after the suite"),
    ],
)
def test_an_ending_tells_how_far_the_guest_had_come(told: Transcript, stage: str) -> None:
    [incident] = [
        it for it in judged(VmRun(told, (), Ending.RUN_LIMIT, "qemu: why")).incidents if it.vm
    ]
    assert incident.message == f"{stage}: {ENDING_MEANING[Ending.RUN_LIMIT]} (qemu: why)"


def test_a_vm_ended_for_a_complaint_is_no_incident() -> None:
    tainted = vm({"layout": Outcome.PASS}, ending=Ending.TAINTED, faults=(fault(),))
    judgement = judged(tainted, vm({"wide": Outcome.XFAIL, "basic": Outcome.PASS}))
    assert judgement.incidents == ()
    assert [test.outcome for test in judgement.tests] == ["crash", "xfail", "pass"]


def test_a_vm_ended_for_a_complaint_that_nobody_has_is_lost() -> None:
    tainted = vm({"layout": Outcome.PASS}, ending=Ending.TAINTED)
    judgement = judged(tainted, vm({"wide": Outcome.XFAIL, "basic": Outcome.PASS}))
    assert [incident.outcome for incident in judgement.incidents] == [Outcome.LOST]


def test_a_run_that_was_stopped_at_a_failure_is_a_failure() -> None:
    """The tests that did not run are no longer in the transcript (`kpatch.run.vm_run.cut`)."""
    stopped = vm({"layout": Outcome.FAIL}, ending=Ending.STOPPED)
    judgement = judged(*cut([stopped]), complete=False)
    assert [test.id for test in judgement.tests] == ["layout"]
    assert judgement.incidents == () and judgement.exit_code is ExitCode.FAIL


def test_a_machine_that_does_not_power_off_is_a_hang() -> None:
    judgement = judged(VmRun(transcript(GOOD), (), Ending.RUN_LIMIT))
    assert judgement.exit_code is ExitCode.HANG


def test_a_fault_in_a_test_that_nobody_knows() -> None:
    judgement = judged(vm(faults=(fault("forged"),)))
    assert judgement.exit_code is ExitCode.CRASH
    assert "never collected" in judgement.incidents[0].message


def test_nonsense_of_the_guest_is_infra() -> None:
    told = transcript(GOOD)
    broken = Transcript(**{**vars(told), "broken": ("no JSON",)})
    judgement = judged(VmRun(broken, (), Ending.DONE))
    nonsense = "the guest's records make no sense: no JSON"
    assert judgement.incidents == (Incident("the-series", 1, Outcome.INFRA, nonsense),)
    assert judgement.exit_code is ExitCode.LOST


def test_different_collections_are_infra() -> None:
    second = VmRun(
        transcript({}, collected=(*SUITE[:2], Collected.Test("basic", LAYOUT))), (), Ending.DONE
    )
    judgement = judged(vm(), second)
    assert "collected other tests" in judgement.incidents[0].message
    assert judgement.exit_code is ExitCode.LOST


def test_an_unknown_requirement_is_infra() -> None:
    suite = (*SUITE, Collected.Test("new", "REQ-NEW-01"))
    told = transcript({**GOOD, "new": Outcome.PASS}, collected=suite)
    judgement = judged(VmRun(told, (), Ending.DONE))
    assert outcome(judgement, "new") == (Outcome.INFRA, False)
    assert "REQ-NEW-01" in message(judgement, "new")
    assert judgement.tests[-1].expected is Outcome.PASS


def test_a_requirement_without_test() -> None:
    part = VmRun(transcript({"layout": Outcome.PASS}, collected=SUITE[:1]), (), Ending.DONE)
    judgement = judged(part)
    assert [incident.message for incident in judgement.incidents] == [
        f"{WIDE} has no test",
        f"{BASIC} has no test",
    ]
    assert judgement.exit_code is ExitCode.LOST
    assert judged(part, complete=False).exit_code is ExitCode.PASS


def test_a_control_that_is_only_compared_with() -> None:
    part = VmRun(transcript({"basic": Outcome.PASS}, collected=SUITE[2:]), (), Ending.DONE)
    compared = SeriesRun("base", "none", (part,), negative=())
    assert judge(TABLE, [compared]).exit_code is ExitCode.PASS
    missing = judge(TABLE, [replace(compared, negative=None)])
    assert [incident.message for incident in missing.incidents] == [
        f"{LAYOUT} has no test",
        f"{WIDE} has no test",
    ]


def test_a_requirement_that_the_base_is_too_old_for() -> None:
    table = {**TABLE, WIDE: replace(TABLE[WIDE], first="6.12")}
    suite = (SUITE[0], SUITE[2])
    told = transcript({"layout": Outcome.PASS, "basic": Outcome.PASS}, collected=suite)
    part = VmRun(told, (), Ending.DONE)
    runs = [SeriesRun("s", "netlink", (part,))]
    assert judge(table, runs, base="6.1").exit_code is ExitCode.PASS
    newer = judge(table, runs, base="6.12")
    assert newer.incidents == (Incident("s", 0, Outcome.INFRA, f"{WIDE} has no test"),)


def test_no_tests_are_no_pass() -> None:
    assert judge(TABLE, []).exit_code is ExitCode.LOST
    none = judged(complete=False)
    assert none.exit_code is ExitCode.LOST
    assert none.incidents == (Incident("the-series", 0, Outcome.INFRA, "no VM was started"),)
    nothing = VmRun(transcript({}, collected=()), (), Ending.DONE)
    assert judged(nothing, complete=False).exit_code is ExitCode.LOST


def test_the_worst_of_several_names_the_verdict() -> None:
    judgement = judge(
        TABLE,
        [
            SeriesRun("a", "netlink", (vm({**GOOD, "layout": Outcome.FAIL}),)),
            SeriesRun("b", "netlink", (vm(faults=(fault(),)),)),
            SeriesRun("c", "none", (vm(CONTROL),)),
        ],
    )
    assert judgement.exit_code is ExitCode.CRASH
    assert {test.series for test in judgement.tests} == {"a", "b", "c"}
    assert [(seen.series, seen.vm) for seen in judgement.faults] == [("b", 1)]


def test_what_a_fresh_vm_gets_as_done() -> None:
    crashed = vm(PARTIAL, running="layout", ending=Ending.EXIT, faults=(fault("basic"),))
    assert begun([crashed]) == {"wide", "layout", "basic"}
    assert begun([]) == frozenset()
    assert begun([vm()]) == GOOD.keys(), "no test is running"


def test_golden_run() -> None:
    """The records and the console of one VM that dies in its third test."""
    told = Transcript()
    for record in Decoder().feed((DATA / "records" / "run.jsonl").read_bytes()):
        told = told.add(record)
    faults = console.read((DATA / "console" / "7.3-null.log").read_bytes())
    table = {
        name: Requirement(name, "x", ("netlink",), {"netlink": "u8"} if name == WIDE else {})
        for name in (LAYOUT, WIDE, "REQ-EVT-07")
    }
    judgement = judge(table, [SeriesRun("s", "netlink", (VmRun(told, faults, Ending.EXIT),))])
    assert [(test.id.split("::")[1], test.outcome) for test in judgement.tests] == [
        ("test_layout[0x81]", Outcome.PASS),
        ("test_wide", Outcome.XFAIL),
        ("test_unbind", Outcome.CRASH),
    ]
    assert judgement.tests[0].values == {"bytes": 68}
    assert judgement.tests[2].message.splitlines()[0].startswith("BUG: kernel NULL pointer")
    assert judgement.incidents == ()
    assert judgement.exit_code is ExitCode.CRASH


def test_every_ending_is_explained() -> None:
    assert set(ENDING_MEANING) == set(Ending)


# ---- faults of the emulator ---------------------------------------------------------------------

LOST_TIMER = "the emulator lost a timer interrupt: CPU 1 is halted"


def lost_timer(running: str | None = "layout", **fields: Any) -> VmRun:
    ending = Ending.TEST_LIMIT if running else Ending.BOOT_LIMIT
    return replace(vm({}, running=running, ending=ending, **fields), emulator=LOST_TIMER)


def test_a_test_that_was_run_once_more_counts_by_that() -> None:
    judgement = judged(lost_timer(), vm())
    assert judgement.exit_code is ExitCode.PASS
    assert judgement.incidents == ()
    [layout] = [test for test in judgement.tests if test.id == "layout"]
    assert (layout.outcome, layout.ok) == (Outcome.PASS, True)
    assert layout.message.endswith(f"run once more, since {LOST_TIMER}")


def test_a_test_that_fails_the_second_time_fails() -> None:
    judgement = judged(lost_timer(), vm(GOOD | {"layout": Outcome.FAIL}))
    assert judgement.exit_code is ExitCode.FAIL


@pytest.mark.parametrize("times", [1, 2])
def test_a_test_that_never_came_through_is_infra(times: int) -> None:
    rest = {name: outcome for name, outcome in GOOD.items() if name != "layout"}
    judgement = judged(*[lost_timer()] * times, vm(rest))
    [layout] = [test for test in judgement.tests if test.id == "layout"]
    assert (layout.outcome, layout.ok) == (Outcome.INFRA, False)
    assert LOST_TIMER in layout.message
    assert layout.seconds == 60.0, "it had its whole time"
    assert judgement.exit_code is ExitCode.LOST


def test_a_crash_before_the_timer_was_lost_counts() -> None:
    judgement = judged(lost_timer(faults=(fault("layout"),)), vm())
    assert judgement.exit_code is ExitCode.CRASH


def test_a_stall_that_comes_of_the_lost_timer_does_not() -> None:
    judgement = judged(lost_timer(faults=(replace(fault("layout"), stall=True),)), vm())
    assert judgement.exit_code is ExitCode.PASS


def test_a_boot_that_was_tried_once_more() -> None:
    boot = lost_timer(None)
    boot = replace(boot, transcript=Transcript())
    assert judged(boot, vm()).exit_code is ExitCode.PASS
    judgement = judged(boot, boot)
    assert [(it.vm, it.outcome) for it in judgement.incidents if it.vm] == [(2, Outcome.INFRA)]
    assert judgement.exit_code is ExitCode.LOST


def test_what_is_run_once_more() -> None:
    assert repeats([lost_timer()])
    assert begun([lost_timer()]) == frozenset()
    assert not repeats([lost_timer(), lost_timer()])
    assert begun([lost_timer(), lost_timer()]) == {"layout"}
    assert repeats([lost_timer(), lost_timer("wide")])
    assert repeats([lost_timer(), vm(), lost_timer("wide")])
    assert not repeats([lost_timer(), lost_timer("wide"), lost_timer()])
    assert not repeats([lost_timer(), vm()])
    assert not repeats([vm(running="layout", ending=Ending.TEST_LIMIT)])
    assert not repeats([])
