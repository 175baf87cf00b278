# SPDX-License-Identifier: GPL-2.0-only
"""The commands about a series itself: ``check`` judges it, ``export`` writes it as mails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kpatch.cli import options
from kpatch.cli.guard import guarded
from kpatch.cli.request import pipeline_of, test_request
from kpatch.tables.outcomes import CheckOutcome, ExitCode


@click.command()
@options.KERNEL_OF_SERIES
@options.ONE_SERIES_REQUIRED
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
@options.VERBOSE
@guarded
def check(
    series: str, checks: str, fail_on: str, out: Path, verbose: bool, **wanted: Any
) -> ExitCode:
    """Judge a series patch by patch: its form, its builds, its uAPI and what it does."""
    from kpatch.checks import review, table
    from kpatch.lib.progress import Progress
    from kpatch.report.review import text, write

    request = review.ReviewRequest(
        test_request(series=(series,), **wanted),
        tuple(checks.replace(",", " ").split()) or table.DEFAULT,
        CheckOutcome(fail_on),
    )
    outcome = review.review(request, out, Progress(echo=verbose))
    click.echo(text.render(outcome), nl=False)
    click.echo(f"review: {out}/{write.REVIEW}")
    return outcome.exit_code


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
    version: int,
    no_signoff: bool,
    verbose: bool,
    **wanted: Any,
) -> None:
    """Write a series ready for git send-email, in your name."""
    from kpatch.report import cover_letter
    from kpatch.series import export

    person = export.exporter()
    export.refuse_taken(out)
    pipeline = pipeline_of(verbose, **wanted)
    applied = pipeline.apply(name)
    shown = cover_letter.evidence(evidence, applied)
    cover = cover_letter.write(applied, shown, version=version)
    export_options = export.ExportOptions(person, version, not no_signoff)
    with pipeline.progress.stage("export", series=name) as stage:
        files = export.export(applied, export_options, cover, stage=stage)
    export.write(files, out)
    for file in files:
        click.echo(out / file)
    click.echo(export.advice(files, applied.tree, out), err=True)


COMMANDS = (check, export)
