# SPDX-License-Identifier: GPL-2.0-only
"""Run the guest's suite, or a part of it, on the unpatched kernel and on states of a series."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpatch import pipeline
from kpatch.build import selftests
from kpatch.build.selftests import Selftests
from kpatch.checks.context import Context, CouldNotRunError
from kpatch.errors import HarnessError
from kpatch.lib import cache, confine, sanitize
from kpatch.model import Finding, Kernel
from kpatch.pipeline import Pipeline, RunRequest
from kpatch.report import result, write
from kpatch.report.result import RunResult
from kpatch.run import runner
from kpatch.run.console import Fault, Place
from kpatch.series import catalog
from kpatch.tables.flavors import DEFAULT_FLAVOR, FLAVORS
from kpatch.tables.outcomes import Outcome
from kpatch.verdict import judge, requirements
from kpatch.verdict.judge import Judgement, SeenFault, TestResult
from kpatch.vm import qemu
from ktests.contract import DETECTION, NONE, UNDETECTED

KIND = "boots"

RECIPE = "1"
"""Part of the cache key of a run. Increase it if the harness judges runs in another way."""

SHORT = "REQ-INT-02"
"""The tests that run if only the boot or the detection matters, as pytest's -k."""


@dataclass(frozen=True)
class Suite:
    """The result of running the whole suite on the unpatched kernel and on the series.

    Both have the config ``flavor``. ``series`` is the name of the series in ``result``.
    """

    flavor: str
    result: RunResult
    series: str

    @property
    def mechanism(self) -> str:
        """Return the mechanism of the series' kernel, declared or detected."""
        return next(item.mechanism for item in self.result.series if item.name == self.series)

    @property
    def limits(self) -> Mapping[str, str]:
        """Return the limits that the mechanism's author declares: the reason by requirement."""
        [info] = (item for item in self.result.series if item.name == self.series)
        return {} if info.folder is None else info.folder.limits

    @property
    def tests(self) -> list[TestResult]:
        """Return the results of the series' tests."""
        return [test for test in self.result.tests if test.series == self.series]

    @property
    def of_base(self) -> frozenset[str]:
        """Return the ids of the tests that have an unexpected outcome on the base."""
        failed = (it for it in self.result.tests if it.series == catalog.BASE and not it.ok)
        return frozenset(test.id for test in failed)

    @property
    def failed(self) -> list[TestResult]:
        """Return the series' tests with an unexpected outcome that have none on the base."""
        return [test for test in self.tests if not test.ok and test.id not in self.of_base]

    @property
    def faults(self) -> list[SeenFault]:
        """Return the reports of the series' kernel, without those that the harness provokes."""
        return [it for it in self.result.faults if it.series == self.series and not it.known]


@functools.cache
def table() -> dict[str, requirements.Requirement]:
    """Return the requirements of ktests/requirements.toml by id."""
    return requirements.load()


def whole(context: Context, flavor: str) -> Suite:
    """Run the whole suite with ``flavor``; further calls in a review return the same result.

    The unpatched kernel runs only the tests that every kernel has to pass. Those that it has to
    fail say nothing about the series.

    CouldNotRunError if a stage of the run failed, for example if a kernel does not build. For a
    lost VM see `lost`.
    """
    wanted = request(context, flavor, (catalog.BASE, context.series_argument))
    key = f"suite-{flavor}"
    out = context.output.path / key
    done = context.once(key, RunResult, lambda: pipeline.run(wanted, out, context.progress))
    context.stage.command(wanted.command(context.applied.series))
    if done.error is not None:
        raise CouldNotRunError(f"{done.error.what}: {done.error.cause}; {done.error.hint}")
    return Suite(flavor, done, context.applied.series.name)


def part(
    context: Context,
    kernel: Kernel,
    expression: str,
    *,
    name: str,
    programs: Selftests | None = None,
    excused: frozenset[str] = frozenset(),
    reuse: bool = False,
) -> Judgement:
    """Run the tests that ``expression`` (pytest's -k) selects on ``kernel``, and judge them.

    ``name`` is a part of the names of the console logs, and the series in the result. The guest has
    the selftests ``programs``, by default those of the kernel's own tree. ``excused`` are titles of
    reports that the unpatched kernel makes too: no fresh VM is started after them. With ``reuse``,
    the result of an earlier run of the same kernel and tests is taken if that run found nothing;
    no console log is written then.
    """
    # A kernel whose config is no flavor (KUnit) is run as one of the plain flavor.
    flavor = kernel.config.flavor if kernel.config.flavor in FLAVORS else DEFAULT_FLAVOR
    steps = Pipeline(request(context, flavor, (context.series_argument,)), context.progress)
    setup = steps.machine(kernel, programs or _own(context, kernel))
    # A state without the last patches may not show the declared mechanism yet.
    mechanism = NONE if kernel.applied.series.mechanism == NONE else UNDETECTED
    selection = runner.Selection(
        mechanism,
        expression,
        context.limits,
        FLAVORS[flavor].slowness,
        detect=mechanism == UNDETECTED,
        excused=excused,
        folder=steps.folder,
    )

    def judged() -> Judgement:
        vms = runner.run(
            setup,
            selection,
            lambda number: context.output.file(write.console_name(name, number)),
            stage=context.stage,
        )
        return judge.judge(
            steps.requirements,
            [pipeline.series_run(name, mechanism, vms)],
            complete=False,
            flavor=flavor,
        )

    if not reuse:
        return judged()
    return _kept(context, (kernel.kernel_id, name, *_identity(selection, setup)), judged)


def _identity(selection: runner.Selection, setup: qemu.Setup) -> tuple[str, ...]:
    """Return all that a run depends on beside its kernel: words, and paths in the cache."""
    files = (setup.firmware, setup.images.runtime, setup.images.suite, setup.selftests)
    limits = (selection.limits, selection.slowness)
    return (
        *(selection.mechanism, selection.expression, *map(str, limits)),
        *(*map(str, files), setup.accel.used, pipeline.qemu_version()),
        *("arguments", *setup.arguments, "excused", *sorted(selection.excused)),
    )


def _kept(context: Context, parts: Iterable[str], judged: Callable[[], Judgement]) -> Judgement:
    """Return the judgement from the cache; if the cache does not have it, that of ``judged``.

    The cache key is ``parts``. A judgement is stored if it has tests, and nothing but tests with
    the expected outcome. ``context`` counts the call as one of its ``parts``, and as ``reused`` if
    ``judged`` was not called.
    """
    context.parts += 1
    file = cache.folder(KIND) / f"{cache.digest((RECIPE, *parts))}.json"
    if (kept := _read(file)) is not None:
        context.reused += 1
        return kept
    found = judged()
    clean = all(test.ok for test in found.tests) and not (found.incidents or found.faults)
    if found.tests and clean:
        cache.write(file, json.dumps(dataclasses.asdict(found)).encode())
    return found


def _read(file: Path) -> Judgement | None:
    """Return the judgement in ``file``; None if there is no such file, or it is damaged."""
    try:
        return result.record(json.loads(file.read_text(encoding="utf-8")), Judgement)
    except (OSError, ValueError):
        return None


def _own(context: Context, kernel: Kernel) -> Selftests | None:
    if not selftests.present(kernel.applied):
        return None
    return selftests.build(kernel, jobs=context.jobs, stage=context.stage)


def request(context: Context, flavor: str, series: tuple[str, ...]) -> RunRequest:
    """Return the request of a run of the whole suite on ``series``, as the review demands it."""
    return RunRequest(
        kernel=context.kernel_argument,
        series=series,
        flavor=flavor,
        accel=context.accel,
        jobs=context.jobs,
        mechanism=context.mechanism,
        negative=False,
        untrusted=not confine.fault(),
        limits=context.limits,
    )


def first_bad(
    context: Context,
    flavor: str,
    tests: Sequence[TestResult],
    reports: Sequence[Fault] = (),
) -> dict[str | None, int]:
    """Return the number of the patch since which each of the ``tests`` fails, by test id.

    Likewise, by title, that of the patch since which the kernel makes each of the ``reports``. The
    tests are run on the states after fewer patches, from the last one backwards, until they pass
    and the reports are gone. A state that does not build is skipped. Before the patch that makes
    the mechanism detectable no test of the mechanism runs, so that patch is the first that can be
    blamed.
    """
    count = len(context.patches)
    failing = {test.id for test in tests}
    made = {report.title: report for report in reports}
    blamed: dict[str | None, int] = dict.fromkeys([*failing, *made], count)
    for number in range(count - 1, 0, -1):
        if not failing and not made:
            break
        expression = _again(failing, made.values())
        try:
            kernel = context.kernel(context.after(number), flavor)
        except HarnessError:
            continue  # it does not build, which the check bisect reports
        done = part(context, kernel, expression, name=f"{flavor}-after-{number}")
        failing &= {test.id for test in done.tests if not test.ok}
        titles = {fault.title for fault in done.faults}
        made = {title: report for title, report in made.items() if title in titles}
        blamed |= dict.fromkeys([*failing, *made], number)
    return blamed


def _again(failing: set[str], reports: Iterable[Fault]) -> str:
    """Return the expression (pytest's -k) for the tests to run again; "" for all tests.

    Any test can have caused a report that came after one: kmemleak looks when all have ended. A
    report of the boot or the detection needs no test; then the expression selects a short one.
    """
    ids = set(failing)
    for report in reports:
        if report.place is Place.AFTER:
            return ""
        if report.test not in (None, DETECTION):
            ids.add(report.test)
    return " or ".join(sorted({one.partition("::")[2].partition("[")[0] for one in ids})) or SHORT


def findings(
    tests: Sequence[TestResult], run: Iterable[TestResult], blamed: Mapping[str | None, int]
) -> list[Finding]:
    """Return a finding for each requirement of the failed ``tests``.

    ``run`` are all tests that ran. ``blamed`` has the patch by test id (`first_bad`); a finding
    belongs to the first patch of its tests.
    """
    totals: dict[str, int] = {}
    for test in run:
        totals[test.requirement] = totals.get(test.requirement, 0) + 1
    made = []
    for name in dict.fromkeys(test.requirement for test in tests):
        failed = [test for test in tests if test.requirement == name]
        made.append(
            Finding(
                f"{name}: {len(failed)} of {totals[name]} tests {failed[0].outcome.value}: "
                f"{table()[name].text}",
                patch=min(blamed.get(test.id, 0) for test in failed),
                details=tuple(
                    f"{test.id}: {test.outcome.value}: {sanitize.line(test.message)}"
                    for test in failed
                ),
            )
        )
    return made


def missed(
    judgement: Judgement | RunResult, series: str, relevant: Callable[[TestResult], bool]
) -> str:
    """Return the reason why a run may have missed a fault; "" if there is none.

    A reason is that of `lost`, or that no ``relevant`` test of ``series`` ran.
    """
    ran = any(test.series == series and relevant(test) for test in judgement.tests)
    return lost(judgement, series) or ("" if ran else "none of its tests has run")


def incomplete(reason: str) -> CouldNotRunError:
    """Return the error of a check whose run may have missed a fault for ``reason``."""
    return CouldNotRunError(f"the run may have missed something: {reason}; run it again")


def lost(judgement: Judgement | RunResult, series: str) -> str:
    """Return the message of the first incident of ``series`` with the outcome lost or infra.

    A VM was lost then, or the harness failed. "" if there is no such incident.
    """
    return next(
        (
            sanitize.line(incident.message)
            for incident in judgement.incidents
            if incident.series == series and incident.outcome in (Outcome.INFRA, Outcome.LOST)
        ),
        "",
    )
