# SPDX-License-Identifier: GPL-2.0-only
"""The results of KUnit in a console log, and what the check makes of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from kpatch.build import touched
from kpatch.checks import kunit, suite
from kpatch.checks.context import CouldNotRunError
from kpatch.checks.kunit import Boot, Results
from kpatch.report import write
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.verdict.judge import Incident, Judgement

# As lib/kunit of Linux 7.3 prints it, with and without CONFIG_PRINTK_CALLER.
LOG = """\
[    0.800000][    T1] KTAP version 1
[    0.800001][    T1] 1..2
[    0.800002][    T1]     KTAP version 1
[    0.800003][    T1]     # Subtest: good
[    0.800004][    T1]     # module: a_test
[    0.800005][    T1]     1..2
[    0.800006][    T1]     ok 1 good_one
[    0.800007][    T1]     ok 2 good_two # SKIP no device
[    0.800008][    T1] # good: pass:1 fail:0 skip:1 total:2
[    0.800009][    T1] ok 1 good
[    0.800010]     KTAP version 1
[    0.800011]     # Subtest: bad
[    0.800012]     1..3
[    0.800013]         KTAP version 1
[    0.800014]         # Subtest: parameters
[    0.800015]         not ok 1 seven
[    0.800016]     # parameters: pass:0 fail:1 skip:0 total:1
[    0.800017]     not ok 1 parameters
[    0.800018]     ok 2 fine
[    0.800019]     not ok 3 last
[    0.800020] # bad: pass:1 fail:2 skip:0 total:3
[    0.800021] not ok 2 bad
"""


def test_results_of_a_log() -> None:
    results = kunit.parse(LOG)
    assert results.suites == {"good": True, "bad": False}
    assert results.failed == {"good": (), "bad": ("parameters", "last")}


def test_suite_that_fails_and_one_that_does_not_run() -> None:
    boot = Boot(("good", "bad", "absent"), kunit.parse(LOG))
    assert [boot.problem(name) for name in ("", "good", "bad", "absent", "another")] == [
        "",
        "",
        "KUnit suite bad fails: parameters, last",
        "KUnit suite absent did not run: is its symbol in Kconfig and Makefile?",
        "",
    ]


def booted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: str, *incidents: Incident) -> Boot:
    """Return the boot of a kernel that prints ``log``; the series changes the suite "later"."""
    source = 'static struct kunit_suite a = {\n\t.name = "later",\n};\nkunit_test_suite(a);\n'
    done = Judgement((), incidents, (), ExitCode.PASS)
    context = SimpleNamespace(
        after=lambda number: number,
        applied=SimpleNamespace(steps=[[SimpleNamespace(path="a_test.c")]]),
        content=lambda *_: source.encode(),
        output=SimpleNamespace(path=tmp_path),
    )
    (tmp_path / write.console_name("k", 1)).write_text(log)
    monkeypatch.setattr(touched, "guards", lambda *_: set())
    monkeypatch.setattr(kunit, "_kernel", lambda *_: None)
    monkeypatch.setattr(suite, "part", lambda *_, **__: done)
    return kunit._booted(context, "k", 1)  # type: ignore[arg-type]


def test_boot_without_a_result_is_not_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CouldNotRunError, match="no result of KUnit"):
        booted(monkeypatch, tmp_path, "[    0.800000] vfio: ok\n")


def test_series_without_a_mechanism_has_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unjudged = Incident("k", 1, Outcome.NOT_JUDGED, "no mechanism was detected")
    assert booted(monkeypatch, tmp_path, LOG, unjudged).problem("later") == (
        "KUnit suite later did not run: is its symbol in Kconfig and Makefile?"
    )
    with pytest.raises(CouldNotRunError, match="no result of KUnit"):
        booted(monkeypatch, tmp_path, "", unjudged)


def test_crash_of_a_suite_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crash = Incident("k", 1, Outcome.CRASH, "during the boot: BUG in f")
    assert booted(monkeypatch, tmp_path, LOG, crash).problem("later") == (
        "KUnit suite later has no result: during the boot: BUG in f"
    )
    assert booted(monkeypatch, tmp_path, "", crash).problem("later")


def test_boot_that_was_lost_is_not_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lost = Incident("k", 1, Outcome.LOST, "QEMU ended")
    with pytest.raises(CouldNotRunError, match="QEMU ended; run it again"):
        booted(monkeypatch, tmp_path, LOG, lost)
    assert not booted(monkeypatch, tmp_path, LOG.replace("1 good", "1 later"), lost).problem(
        "later"
    )


def test_suites_that_do_not_build_are_one_problem() -> None:
    boot = Boot(("good",), failure="a.c:1: unknown type")
    assert boot.problem("") == "does not build with its KUnit suites: a.c:1: unknown type"
    assert not boot.problem("good")


FAILS, PASSES, ABSENT, UNBUILT = (
    Boot(("bad",), Results({"bad": False}, {"bad": ()})),
    Boot(("bad",), Results({"bad": True}, {"bad": ()})),
    Boot(),
    Boot(("bad",), failure="a.c:1: unknown type"),
)


@pytest.mark.parametrize(
    ("boots", "first"),
    [
        ([PASSES, FAILS, FAILS], 1),
        ([PASSES, PASSES, FAILS], 2),
        ([ABSENT, FAILS, FAILS], 1),
        ([FAILS, ABSENT, FAILS], 2),
        ([FAILS, FAILS, FAILS], 0),
        ([FAILS, UNBUILT, FAILS], 0),
        ([PASSES, UNBUILT, FAILS], 2),
    ],
)
def test_first_patch_with_the_problem_is_blamed(boots: list[Boot], first: int) -> None:
    assert kunit.first_bad("bad", len(boots) - 1, boots.__getitem__) == first
