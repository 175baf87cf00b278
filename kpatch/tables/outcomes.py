# SPDX-License-Identifier: GPL-2.0-only
"""The outcomes of tests and of checks, and the exit codes of all commands, with their meanings."""

from __future__ import annotations

from enum import Enum, IntEnum


class Outcome(str, Enum):
    """The outcome of one test. A test that began and did not end is never a pass.

    The guest reports PASS, FAIL, SKIP and XFAIL (a failure that is expected because of a documented
    limit). CRASH: the kernel reported a fault. HANG: a time limit ended the VM. LOST: the test did
    not end or did not begin. INFRA: QEMU or the harness failed, not the kernel. The exact rules are
    in the docstring of `kpatch.verdict.judge`.

    NOT_JUDGED applies to a series, not to a test: no requirement of its mechanism was tested.
    """

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"
    XFAIL = "xfail"
    CRASH = "crash"
    HANG = "hang"
    LOST = "lost"
    INFRA = "infra"
    NOT_JUDGED = "not-judged"


class ExitCode(IntEnum):
    """The exit codes of all commands. A test compares the table in the documents with this one."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    APPLY = 3
    BUILD = 4
    CRASH = 5
    HANG = 6
    LOST = 7
    NOT_JUDGED = 8
    INTERRUPTED = 130  # 128 + SIGINT, the convention of shells

    @property
    def word(self) -> str:
        """Return the name in lower case with hyphens, as reports have it: "not-judged"."""
        return self.name.lower().replace("_", "-")


EXIT_MEANING: dict[ExitCode, str] = {
    ExitCode.PASS: "every requirement holds, and the negative control fails where it must",
    ExitCode.FAIL: "a requirement failed, a test was skipped, or the negative control passed",
    ExitCode.USAGE: "usage, bad input, or a missing tool",
    ExitCode.APPLY: "the series does not apply",
    ExitCode.BUILD: "the kernel cannot be configured or does not build",
    ExitCode.CRASH: "the kernel crashed or complained (oops, BUG, WARNING, lockdep, …)",
    ExitCode.HANG: "a test or the boot hung",
    ExitCode.LOST: "the VM was lost, or the infrastructure failed",
    ExitCode.NOT_JUDGED: "nothing of the series' mechanism was judged",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C or SIGTERM",
}

# The exit codes of each command: _ANY, and those of the stages that the command runs.
_ANY = (ExitCode.PASS, ExitCode.USAGE, ExitCode.LOST, ExitCode.INTERRUPTED)
_APPLIED = (*_ANY, ExitCode.APPLY)
_BUILT = (*_APPLIED, ExitCode.BUILD)

COMMAND_CODES: dict[str, tuple[ExitCode, ...]] = {
    "test": tuple(ExitCode),
    "check": (*_APPLIED, ExitCode.FAIL, ExitCode.NOT_JUDGED),
    "source": _ANY,
    "apply": _APPLIED,
    "config": _BUILT,
    "build": _BUILT,
    "boot": _BUILT,
    "shell": _BUILT,
    "bench": _BUILT,
    "compare": (*_BUILT, ExitCode.FAIL),
    "coverage": tuple(ExitCode),
    "matrix": (*_ANY, ExitCode.FAIL),
    "export": _APPLIED,
    "drift": (*_BUILT, ExitCode.FAIL),
    "reference": (*_ANY, ExitCode.FAIL),
    "clean": _ANY,
}

# For commands other than test: the meaning of 0 (DONE), and of 1 for each command that has it.
DONE = "done"
FAIL_MEANING: dict[str, str] = {
    "check": "a check has a finding (see --fail-on)",
    "compare": "a requirement, a measurement or a goal failed, or --against does not agree",
    "coverage": "the suite failed, or too few lines were run (see --fail-under)",
    "matrix": "a cell is not as it should be, or a test is flaky",
    "drift": "the mirror in uapi and a kernel's headers differ",
    "reference": "a document of the uAPI would change (--check)",
}


def meanings(command: str) -> dict[ExitCode, str]:
    """Return the meaning of each exit code of ``command``.

    For an unknown command, "" for example, return all exit codes as ``test`` has them.
    """
    codes = sorted(COMMAND_CODES.get(command, ExitCode))
    own = {} if command not in COMMAND_CODES or command == "test" else {ExitCode.PASS: DONE}
    if command in FAIL_MEANING:
        own[ExitCode.FAIL] = FAIL_MEANING[command]
    return {code: own.get(code, EXIT_MEANING[code]) for code in codes}


# If a run has several bad outcomes, the first of them in this list decides the exit code. Outcomes
# that make other results untrustworthy come first.
EXIT_BY_OUTCOME: tuple[tuple[Outcome, ExitCode], ...] = (
    (Outcome.CRASH, ExitCode.CRASH),
    (Outcome.HANG, ExitCode.HANG),
    (Outcome.LOST, ExitCode.LOST),
    (Outcome.INFRA, ExitCode.LOST),
    (Outcome.FAIL, ExitCode.FAIL),
    (Outcome.SKIP, ExitCode.FAIL),
    (Outcome.NOT_JUDGED, ExitCode.NOT_JUDGED),
)


class CheckOutcome(str, Enum):
    """The outcome of one check of a series.

    A check that ran has the outcome of its worst finding, FAIL or WARN; without findings, PASS. A
    check that could not run, does not apply to the series, or was not selected is never a PASS.
    """

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    COULD_NOT_RUN = "could-not-run"
    NOT_APPLICABLE = "not-applicable"
    NOT_SELECTED = "not-selected"


JUDGED = (CheckOutcome.PASS, CheckOutcome.WARN, CheckOutcome.FAIL)
"""The outcomes of a check that has judged the series, in order; the worst is the last."""
