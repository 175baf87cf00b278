# SPDX-License-Identifier: GPL-2.0-only
"""Review a series: run the selected checks of `kpatch.checks.table`, and record their results."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from kpatch import __version__, pipeline
from kpatch.build import compiler
from kpatch.checks import base, table
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.errors import HarnessError
from kpatch.lib import confine, tools
from kpatch.lib.progress import Progress
from kpatch.lib.stage import shell_line
from kpatch.model import Applied, Check, Finding, Origin
from kpatch.pipeline import Pipeline, RunRequest
from kpatch.report import result
from kpatch.report.output_dir import OutputDir, open_output_dir
from kpatch.report.review import write
from kpatch.report.review.record import PatchInfo, Review, worst
from kpatch.series import catalog, mechanism_folder
from kpatch.tables.outcomes import JUDGED, CheckOutcome, ExitCode
from kpatch.verdict import requirements

PYTHON = ".venv/bin/python"
"""The interpreter in commands for the reader, relative to the folder of the project."""


@dataclass(frozen=True)
class ReviewRequest:
    """The parameters of a review. ``request`` has exactly one series.

    ``checks`` are names of checks or of groups (`kpatch.checks.table.selected`). ``fail_on`` is the
    mildest outcome of a check that makes the review fail.
    """

    request: RunRequest
    checks: tuple[str, ...] = table.DEFAULT
    fail_on: CheckOutcome = CheckOutcome.FAIL


def review(wanted: ReviewRequest, out: Path, progress: Progress) -> Review:
    """Run the selected checks on one series; write the outputs to ``out`` and return the result.

    HarnessError: exit 2 if the series is refused, an option is wrong, a tool is missing, or ``out``
    cannot be used; exit 3 if the series does not apply. An error of a check is a part of the
    result. After a KeyboardInterrupt the results so far are written, and it is raised again.
    """
    chosen = table.selected(wanted.checks)
    tools.require_all()
    confine.require(demanded=wanted.request.untrusted)
    # A mechanism of the user's own is refused before anything is downloaded.
    requirements.load(folder=mechanism_folder.load(wanted.request.mechanism))
    with open_output_dir(out, names=write.FORMATS) as output:
        progress.say(f"confinement: {confine.described()}")
        state = _Reviewing(wanted, progress, output)
        try:
            for row in table.CHECKS:
                state.checks.append(
                    state.run(row) if row.name in chosen else _left_out(row, "not selected")
                )
        except KeyboardInterrupt:
            done = {check.name for check in state.checks}
            state.checks += [
                _left_out(row, "the review was interrupted", CheckOutcome.COULD_NOT_RUN)
                if row.name in chosen
                else _left_out(row, "not selected")
                for row in table.CHECKS
                if row.name not in done
            ]
            write.write(output, state.result(ExitCode.INTERRUPTED))
            progress.say(f"the review so far: {out / write.SHOWN[0]}")
            raise
        outcome = state.result(exit_code(state.checks, wanted.fail_on))
        write.write(output, outcome)
        return outcome


def exit_code(checks: Iterable[Check], fail_on: CheckOutcome) -> ExitCode:
    """Return the exit code of a review with the results ``checks``.

    8 if no check has judged the series; else 1 if the outcome of one is ``fail_on`` or worse; else
    0.
    """
    judged = [check.outcome for check in checks if check.outcome in JUDGED]
    if not judged:
        return ExitCode.NOT_JUDGED
    bad = JUDGED[JUDGED.index(fail_on) :]
    return ExitCode.FAIL if any(outcome in bad for outcome in judged) else ExitCode.PASS


def _left_out(
    row: table.Row, reason: str, outcome: CheckOutcome = CheckOutcome.NOT_SELECTED
) -> Check:
    return Check(row.name, row.title, row.scope, outcome, reason=reason)


class _Reviewing:
    """A review that is running: the applied series, and the results of the checks so far."""

    def __init__(self, wanted: ReviewRequest, progress: Progress, output: OutputDir) -> None:
        self.checks: list[Check] = []
        self._wanted = wanted
        self._shared: dict[str, object] = {}
        self._tools = {"vfio-acpi": __version__, "compiler": compiler.detect().identity}
        self._configs: dict[str, str] = {}
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._progress = progress
        self._output = output
        [series] = wanted.request.series
        with progress.stage("base", series=series) as stage:
            chosen = base.choose(wanted.request.kernel or None, series, stage=stage)
        progress.say(f"base: {chosen.how}")
        self._base = chosen.how
        self._request = replace(wanted.request, kernel=chosen.kernel, series=(chosen.series,))
        self._name = chosen.series
        self._repeat = _command(wanted, self._request)
        self._applied: Applied = Pipeline(self._request, progress).apply(self._name)

    def run(self, row: table.Row) -> Check:
        """Run the check ``row`` and return its result.

        A CouldNotRunError or HarnessError of the check becomes the outcome could-not-run, a
        NotApplicableError the outcome not-applicable, with the error as the reason.
        """
        request = self._request
        began = time.monotonic()
        findings: tuple[Finding, ...] = ()
        outcome, reason = CheckOutcome.PASS, ""
        with self._progress.stage(row.name, series=self._applied.series.name) as stage:
            context = Context(
                self._applied,
                request.kernel,
                self._name,
                self._output,
                self._progress,
                stage,
                self._shared,
                request.jobs,
                request.accel,
                request.mechanism,
                request.limits,
                self._tools,
                self._configs,
            )
            if row.group is not table.QUICK and "qemu" not in self._tools:
                context.tool("qemu", pipeline.qemu_version())
            try:
                findings = tuple(sorted(row.run(context), key=_order))
                outcome = worst(findings)
            except NotApplicableError as error:
                outcome, reason = CheckOutcome.NOT_APPLICABLE, str(error)
            except (CouldNotRunError, HarnessError) as error:
                outcome, reason = CheckOutcome.COULD_NOT_RUN, str(error)
            stage.cached = 0 < context.parts == context.reused
        assert stage.record is not None
        return Check(
            row.name,
            row.title,
            row.scope,
            outcome,
            findings,
            reason,
            (*dict.fromkeys(stage.record.commands), shell_line([*self._repeat[:-1], row.name])),
            tuple(context.notes),
            context.parts,
            context.reused,
            round(time.monotonic() - began, 3),
        )

    def result(self, code: ExitCode) -> Review:
        """Return the result of the review, with the checks so far and the exit code ``code``."""
        tree, series = self._applied.tree, self._applied.series
        return Review(
            exit_code=code,
            name=series.name,
            subject=series.subject or series.title,
            message_id=series.message_id,
            version=series.version,
            patches=tuple(
                PatchInfo(
                    patch.number,
                    patch.subject,
                    f"{patch.author[0]} <{patch.author[1]}>",
                    patch.message_id,
                    hashlib.sha256(patch.diff).hexdigest(),
                )
                for patch in self._applied.patches
            ),
            started=self._started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=round(time.monotonic() - self._clock, 3),
            fail_on=self._wanted.fail_on,
            kernel=result.KernelInfo(tree.version, tree.provider, tree.tree_id, tree.origin),
            base=self._base,
            flavor=self._request.flavor,
            config_id=self._configs.get(self._request.flavor, ""),
            confinement=confine.described(),
            tools=dict(self._tools),
            checks=tuple(self.checks),
            stages=tuple(self._progress.records),
            command=shell_line(self._repeat),
        )


def _command(wanted: ReviewRequest, request: RunRequest) -> list[str]:
    """Return the command that repeats the review ``wanted``, in the folder of the project.

    ``request`` is that of ``wanted`` with the chosen tree. A series from a file is named by its
    path; one from standard input, by the path of the file in the cache. The last word has the
    checks.
    """
    [series] = request.series
    if catalog.origin(series) is Origin.MBOX:
        series = str(catalog.place(series))
    options = {
        "--kernel": pipeline.from_anywhere(request.kernel),
        "--series": series,
        "--fail-on": "" if wanted.fail_on is CheckOutcome.FAIL else wanted.fail_on.value,
        "--mechanism": pipeline.mechanism_from_anywhere(request.mechanism),
        "--checks": ",".join(wanted.checks),
    }
    given = [word for name, value in options.items() if value for word in (name, value)]
    return [PYTHON, "-m", "kpatch", "check", *given]


def _order(finding: Finding) -> tuple[int, int, str, int]:
    """Return the key to sort findings by: the worst first, then by patch, file and line."""
    return (
        -JUDGED.index(finding.outcome),
        finding.patch,
        finding.file,
        finding.line or 0,
    )
