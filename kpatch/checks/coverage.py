# SPDX-License-Identifier: GPL-2.0-only
"""Report the lines that a series adds and that the suite does not run (`kpatch.coverage`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kpatch.build import objects
from kpatch.checks import suite
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.coverage import figures, run, text
from kpatch.coverage.figures import Coverage, Line
from kpatch.errors import HarnessError
from kpatch.model import Finding
from kpatch.tables.outcomes import CheckOutcome, ExitCode


def check(context: Context) -> Iterator[Finding]:
    """Yield a warning for each function of a patch with added lines that the suite does not run.

    Lines of carried series that are explained are left out. NotApplicableError if the series adds
    no executable line to a source that is compiled. CouldNotRunError if a stage of the run failed,
    or a program is missing.
    """
    if not objects.stems(context.applied):
        raise NotApplicableError("the series changes no C source of the kernel")
    request = suite.request(context, run.FLAVOR, (context.series_argument,))
    try:
        measured = run.measure(request, context.output.path / run.FLAVOR, context.progress)
    except HarnessError as error:
        if error.code is ExitCode.NOT_JUDGED:
            raise NotApplicableError(error.cause) from error
        raise CouldNotRunError(f"{error.what}: {error.cause}; {error.hint}") from error
    if (broken := measured.result.error) is not None:
        raise CouldNotRunError(f"{broken.what}: {broken.cause}; {broken.hint}")
    for one in measured.coverage:
        for note in (_summary(one), *text.notes(one)):
            context.note(note)
        yield from findings(one)


def findings(one: Coverage) -> Iterator[Finding]:
    """Yield a warning for each group of lines that were not run, except for explained ones."""
    for group in figures.runs([line for line in one.missed if not line.reason]):
        first = group[0]
        where = f" of {first.function}()" if first.function else ""
        yield Finding(
            f"the suite does not run {_counted(group)}{where}",
            CheckOutcome.WARN,
            patch=first.patch,
            file=first.path,
            line=first.number,
            details=tuple(f"{line.number}: {text.source(line)}" for line in group),
        )


def _counted(lines: Sequence[Line]) -> str:
    return "an added line" if len(lines) == 1 else f"{len(lines)} added lines"


def _summary(one: Coverage) -> str:
    totals = one.totals()
    return f"{totals.run} of {totals.executable} added lines were run ({totals.percent:.1f} %)"
