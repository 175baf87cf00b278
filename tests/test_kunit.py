# SPDX-License-Identifier: GPL-2.0-only
"""The results of KUnit in a console log, and what the check makes of them."""

from __future__ import annotations

import pytest

from kpatch.checks import kunit
from kpatch.checks.context import CouldNotRunError
from kpatch.checks.kunit import Boot, Results

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


def test_kernel_without_kunit_is_not_judged() -> None:
    with pytest.raises(CouldNotRunError):
        kunit.parse("[    0.800000] vfio: ok\n")


def test_suites_that_do_not_build_are_one_problem() -> None:
    boot = Boot(("good",), failure="a.c:1: unknown type")
    assert boot.problem("") == "does not build with its KUnit suites: a.c:1: unknown type"
    assert not boot.problem("good")


FAILS, PASSES, ABSENT = (
    Boot(("bad",), Results({"bad": False}, {"bad": ()})),
    Boot(("bad",), Results({"bad": True}, {"bad": ()})),
    Boot(),
)


@pytest.mark.parametrize(
    ("boots", "first"),
    [
        ([PASSES, FAILS, FAILS], 1),
        ([PASSES, PASSES, FAILS], 2),
        ([ABSENT, FAILS, FAILS], 1),
        ([FAILS, ABSENT, FAILS], 2),
        ([FAILS, FAILS, FAILS], 0),
    ],
)
def test_first_patch_with_the_problem_is_blamed(boots: list[Boot], first: int) -> None:
    assert kunit.first_bad("bad", len(boots) - 1, boots.__getitem__) == first
