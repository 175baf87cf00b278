# SPDX-License-Identifier: GPL-2.0-only
"""The commands for one series: ``check`` judges it, ``export`` writes it as mails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kpatch.cli import options
from kpatch.cli.guard import guarded
from kpatch.cli.request import pipeline_of, test_request
from kpatch.errors import HarnessError
from kpatch.tables.outcomes import CheckOutcome, ExitCode

if TYPE_CHECKING:
    from kpatch.checks.review import ReviewRequest


@click.command()
@options.KERNEL_OF_SERIES
@options.SERIES_TO_JUDGE
@options.CHECKS
@options.FAIL_ON
@options.JOBS
@options.ACCEL
@options.MECHANISM
@options.UNTRUSTED
@options.OUT
@options.BOOT_LIMIT
@options.TEST_LIMIT
@options.RUN_LIMIT
@options.B4
@options.VERBOSE
@guarded
def check(
    series: str | None, out: Path, b4: str | None, verbose: bool, **wanted: Any
) -> ExitCode | None:
    """Judge a series patch by patch: form, builds, uAPI, behaviour.

    The findings are printed, and written to the folder OUT.
    """
    from kpatch.checks import review
    from kpatch.lib.progress import Progress
    from kpatch.report.review import text, write

    if b4 is not None:
        _answer(b4, **wanted)
        return None
    assert series is not None
    request = _review_request(series, **wanted)
    outcome = review.review(request, out, Progress(echo=verbose))
    click.echo(text.render(outcome), nl=False)
    more = len(write.FORMATS) - len(write.SHOWN)
    shown = ", ".join(str(out / name) for name in write.SHOWN)
    click.echo(f"\nreview: {shown} and {more} more files in {out}")
    return outcome.exit_code


def _review_request(series: str, *, checks: str, fail_on: str, **wanted: Any) -> ReviewRequest:
    """Return the request for a review of ``series``.

    ``checks`` and ``fail_on`` are the values of the options --checks and --fail-on; ``wanted`` are
    the arguments of `test_request`. ValueError if ``fail_on`` is no CheckOutcome.
    """
    from kpatch.checks import review, table

    words = tuple(checks.replace(",", " ").split())
    request = test_request(series=(series,), **wanted)
    return review.ReviewRequest(request, words or table.DEFAULT, CheckOutcome(fail_on))


def _answer(command: str, **wanted: Any) -> None:
    """Review the series of the mail on standard input, and print the result or error for b4.

    b4 runs ``check --b4 COMMAND`` with one mail on standard input; ``command`` is "prep" or
    "review". Nothing else is printed, also not on stderr. The command then ends with 0 even if the
    review fails: b4 would take another exit code as a failure of the patch that it has passed, but
    another patch may be the cause. The output folder of the review is in the cache, one for each
    request.
    """
    import io
    import os
    import sys

    from kpatch.checks import b4, review
    from kpatch.lib import cache
    from kpatch.lib.progress import Progress
    from kpatch.report.review import b4 as answers

    answer, refusal = answers.ANSWERS[command]
    try:
        asked = b4.asked(sys.stdin.buffer.read(), Path.cwd(), os.environ)
        wanted["kernel"] = asked.kernel
        request = _review_request(asked.series, **wanted)
        out = cache.folder("b4") / cache.digest((str(request),))
        outcome = review.review(request, out, Progress(file=io.StringIO()))
    except HarnessError as error:
        click.echo(refusal(error), nl=False)
    else:
        click.echo(answer(outcome, asked.patch), nl=False)


@click.command()
@click.argument("name", metavar="SERIES")
@options.KERNEL
@click.option(
    "--out",
    default="outgoing",
    show_default=True,
    type=click.Path(path_type=Path),
    help="New or empty folder for the mails.",
)
@click.option(
    "--evidence",
    multiple=True,
    metavar="RESULT",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="result.json of a run, for the cover letter. May be given more than once.",
)
@click.option(
    "--comparison",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="compare.json of a comparison of the mechanisms, for the cover letter.",
)
@click.option(
    "--version",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Which posting this is: 2 for [PATCH v2 n/m].",
)
@click.option("--no-signoff", is_flag=True, help="Do not sign off in your name.")
@options.VERBOSE
@guarded
def export(
    name: str,
    out: Path,
    evidence: tuple[Path, ...],
    comparison: Path | None,
    version: int,
    no_signoff: bool,
    verbose: bool,
    **wanted: Any,
) -> None:
    """Write a series as mails for git send-email, with you as sender.

    Your name and address are those in git's configuration.
    """
    from kpatch.compare import letter
    from kpatch.compare.comparison import load
    from kpatch.report import cover_letter
    from kpatch.series import export

    person = export.exporter()
    export.refuse_taken(out)
    pipeline = pipeline_of(verbose, **wanted)
    applied = pipeline.apply(name)
    shown = cover_letter.evidence(evidence, applied)
    compared = "" if comparison is None else letter.section(load(comparison))
    cover = cover_letter.write(applied, shown, version=version, comparison=compared)
    export_options = export.ExportOptions(person, version, not no_signoff)
    with pipeline.progress.stage("export", series=name) as stage:
        files = export.export(applied, export_options, cover, stage=stage)
    export.write(files, out)
    for file in files:
        click.echo(out / file)
    click.echo(export.advice(files, applied.tree, out), err=True)


COMMANDS = (check, export)
