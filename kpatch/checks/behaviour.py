# SPDX-License-Identifier: GPL-2.0-only
"""The checks that boot the series' kernel, and the unpatched kernel to compare with.

A failed test or a kernel report (oops, WARNING, lockdep, …) is no finding if the unpatched kernel
has it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kpatch.build import selftests
from kpatch.checks import suite
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.errors import HarnessError
from kpatch.model import Finding
from kpatch.report.result import RunResult
from kpatch.run.console import Fault
from kpatch.tables.flavors import DEFAULT_FLAVOR
from kpatch.tables.outcomes import CheckOutcome, Outcome
from kpatch.verdict.judge import Judgement, SeenFault, TestResult
from ktests.contract import ANY, UNJUDGED

SELFTESTS = "REQ-INT-09"
"""The requirement whose tests run the kernel's own VFIO selftests."""

OLD_SELFTESTS = "old-selftests"
"""The name, in file names and incidents, of the run of selftests built from the unpatched tree."""

SMOKE = "REQ-INT-02 or REQ-INT-06 or REQ-INT-07 or REQ-ERR-01"
"""The tests that `smoke` runs after each patch, as pytest's -k.

They open devices, ask for information, and arm an interrupt.
"""


def smoke(context: Context) -> list[Finding]:
    """Boot the kernel after each patch and run the tests SMOKE.

    Returns a finding for each requirement with new failed tests and each new kernel report, with
    the first patch that has them; what the base has is not new. Each failed boot of a state gives
    a finding. A state that does not build is named in a note and not booted. CouldNotRunError if
    the tree builds after no patch; also if nothing was found and a run was incomplete.
    HarnessError (exit 4) if the base does not build.
    """
    base = suite.part(context, context.kernel(context.base), SMOKE, name="smoke-0", reuse=True)
    excused = frozenset(fault.title for fault in base.faults)
    before = {test.id for test in base.tests if not test.ok}
    seen: set[str] = set(excused)
    accidents = {incident.message for incident in base.incidents}
    unbuilt = []
    found: list[Finding] = []
    missed = suite.missed(base, "smoke-0", _any)
    for patch in context.patches:
        context.stage.advance(patch.number - 1, patch.total)
        name = f"smoke-{patch.number}"
        try:
            kernel = context.kernel(context.after(patch.number))
        except HarnessError:
            unbuilt.append(patch.number)
            continue
        done = suite.part(context, kernel, SMOKE, name=name, excused=excused, reuse=True)
        failed = [test for test in done.tests if not test.ok and test.id not in before]
        blamed = _everywhere(done, patch.number)
        found += suite.findings(failed, done.tests, blamed)
        found += _reports(done.faults, seen, blamed)
        found += _incidents(done, name, patch.number, accidents)
        missed = missed or suite.missed(done, name, _any)
        before |= {test.id for test in failed}
    if unbuilt:
        told = ", ".join(map(str, unbuilt))
        context.note(f"not booted, since it does not build: after patch {told}")
    if len(unbuilt) == len(context.patches):
        raise CouldNotRunError("no state of the series builds; see the check bisect")
    return _unless_missed(missed, found)


def every_kernel(context: Context, *, flavor: str = DEFAULT_FLAVOR) -> list[Finding]:
    """Run the suite; return a finding for each requirement of every kernel that the series breaks.

    These are the requirements that hold without any mechanism, too (needs "any"), except for
    SELFTESTS. Also returns a finding for each kernel report and each failed boot. Reports that the
    unpatched kernel makes too are notes. CouldNotRunError if nothing was found and the run was
    incomplete; raises the errors of `kpatch.checks.suite.whole`.
    """
    done = suite.whole(context, flavor)
    # For a crash the kernel's report is the finding, and not the requirement of the test.
    crashed = [test for test in done.failed if test.outcome is Outcome.CRASH]
    failed = [test for test in done.failed if _general(test) and test not in crashed]
    reports = [it for it in done.faults if _new(it) and it.test not in {one.id for one in crashed}]
    blamed = suite.first_bad(context, flavor, [*crashed, *failed], reports)
    found = suite.findings(failed, done.tests, blamed)
    titles = {fault.title for fault in done.faults if fault.of_base}
    for title in sorted(titles):
        context.note(f"the unpatched kernel reports it too: {title}")
    found += _reports(done.faults, titles, blamed)
    of_base = {one.message for one in done.result.incidents if one.series != done.series}
    found += _incidents(done.result, done.series, 0, of_base)
    return _unless_missed(suite.missed(done.result, done.series, _general), found)


def mechanism(context: Context, *, flavor: str = DEFAULT_FLAVOR) -> list[Finding]:
    """Run the suite; return a finding for each requirement of the mechanism that the series fails.

    The mechanism is the declared one, or the one that the guest detects in the series' kernel. A
    limit that the author of a mechanism of their own declares is a finding of the outcome WARN.
    NotApplicableError if there is none. CouldNotRunError if nothing was found and the run was
    incomplete; raises the errors of `kpatch.checks.suite.whole`.
    """
    done = suite.whole(context, flavor)
    if done.mechanism in UNJUDGED:
        raise NotApplicableError("the series' kernel shows no mechanism for ACPI notifications")
    context.note(f"mechanism: {done.mechanism}")
    failed = [test for test in done.failed if _of_mechanism(test)]
    blamed = suite.first_bad(context, flavor, failed)
    found = suite.findings(failed, done.tests, blamed)
    found += _limits(done)
    return _unless_missed(suite.missed(done.result, done.series, _of_mechanism), found)


def _limits(done: suite.Suite) -> Iterator[Finding]:
    """Yield a finding for each limit that the mechanism's author declares, and the tests show."""
    shown = {test.requirement for test in done.tests if test.outcome is Outcome.XFAIL}
    for name, reason in done.limits.items():
        if name in shown:
            text = f"{name} is not met, a limit that mechanism.toml declares: {reason}"
            yield Finding(text, CheckOutcome.WARN)


def own_selftests(context: Context) -> list[Finding]:
    """Return a finding for the tree's VFIO selftests (SELFTESTS) that the series breaks.

    The suite runs the selftests of the series' tree. Those built from the unpatched tree are run on
    the series' kernel, too, as user space that was built before the series; each that fails there,
    and in the suite neither on the series nor on the base, is a finding of its own.
    NotApplicableError if the unpatched tree has none. CouldNotRunError if nothing was found and
    a run was incomplete; raises the errors of `kpatch.checks.suite.whole` and of building the
    kernels and selftests, too.
    """
    base = context.kernel(context.base)
    if not selftests.present(base.applied):
        raise NotApplicableError(f"Linux {context.tree.version} has no VFIO selftests")
    done = suite.whole(context, DEFAULT_FLAVOR)
    failed = [test for test in done.failed if _of_selftests(test)]
    found = suite.findings(failed, done.tests, suite.first_bad(context, DEFAULT_FLAVOR, failed))
    kernel = context.kernel(context.applied)
    old = selftests.build(base, jobs=context.jobs, stage=context.stage)
    again = suite.part(context, kernel, SELFTESTS, name=OLD_SELFTESTS, programs=old, reuse=True)
    known = {test.id for test in failed} | done.of_base
    found += [
        Finding(
            f"built from the unpatched tree, it fails on the series' kernel: {test.id}",
            details=tuple(test.message.splitlines()),
        )
        for test in again.tests
        if not test.ok and test.id not in known
    ]
    found += _incidents(again, OLD_SELFTESTS, 0, set())
    missed = suite.missed(done.result, done.series, _of_selftests)
    return _unless_missed(missed or suite.missed(again, OLD_SELFTESTS, _of_selftests), found)


def _new(fault: SeenFault) -> bool:
    """Return whether the report is one of the kernel, and new in the series."""
    return not (fault.of_base or fault.infra)


def _any(_: TestResult) -> bool:
    return True


def _of_selftests(test: TestResult) -> bool:
    return test.requirement == SELFTESTS


def _general(test: TestResult) -> bool:
    """Return whether the requirement is one of every kernel (needs "any"), and not SELFTESTS."""
    return suite.table()[test.requirement].needs == (ANY,) and not _of_selftests(test)


def _of_mechanism(test: TestResult) -> bool:
    return not _general(test) and not _of_selftests(test)


def _reports(
    faults: Iterable[Fault], seen: set[str], blamed: Mapping[str | None, int]
) -> Iterator[Finding]:
    """Yield a finding for each kernel report whose title is not in ``seen``; add the title to it.

    ``blamed`` has the number of the patch by the report's title, or by the id of the test that ran;
    None stands for the boot. Reports that the harness provokes (``known``) or that are no fault of
    the kernel (``infra``) are left out.
    """
    for fault in faults:
        if fault.infra or fault.known or fault.title in seen:
            continue
        seen.add(fault.title)
        at = f" at {fault.source}" if fault.source else ""
        where = f" (in {fault.test})" if fault.test else " (during the boot)"
        yield Finding(
            f"the kernel reports {fault.title}{at}{where}",
            patch=blamed.get(fault.title, blamed.get(fault.test, 0)),
            details=tuple(fault.excerpt.splitlines()),
        )


def _unless_missed(missed: str, found: list[Finding]) -> list[Finding]:
    """Return ``found``; CouldNotRunError if it is empty and the run may have missed a fault.

    ``missed`` is the reason for that, "" if there is none.
    """
    if missed and not found:
        raise suite.incomplete(missed)
    return found


def _everywhere(judged: Judgement, number: int) -> dict[str | None, int]:
    """Map the boot (None), each test, and the test of each report to ``number``, a patch."""
    tests = [test.id for test in judged.tests]
    return dict.fromkeys([None, *tests, *(fault.test for fault in judged.faults)], number)


def _incidents(
    judged: Judgement | RunResult, series: str, patch: int, seen: set[str]
) -> Iterator[Finding]:
    """Yield a finding for each incident of ``series`` with the outcome fail, crash or hang.

    An incident is a failure outside of tests, for example in the boot. Left out are those whose
    message is in ``seen``, to which the messages of the others are added, and those that only
    repeat a kernel report (`_reports`). ``patch`` is the number of the patch to blame, 0 for the
    whole series. For incidents of other outcomes, faults of the harness, see
    `kpatch.checks.suite.lost`.
    """
    reports = tuple(f": {fault.headline}" for fault in judged.faults)
    for incident in judged.incidents:
        if incident.message.endswith(reports):
            continue
        blamable = incident.outcome in (Outcome.FAIL, Outcome.CRASH, Outcome.HANG)
        if incident.series == series and blamable and incident.message not in seen:
            seen.add(incident.message)
            yield Finding(f"VM {incident.vm}: {incident.message}", patch=patch)
