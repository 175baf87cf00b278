# SPDX-License-Identifier: GPL-2.0-only
"""The commands about a series itself: ``check`` its form, ``export`` it as mails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kpatch.cli import options
from kpatch.cli.guard import guarded
from kpatch.cli.request import pipeline_of
from kpatch.errors import HarnessError


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@guarded
def check() -> None:
    """Judge a series by its form, patch by patch: to come; `test` judges what it does."""
    raise HarnessError(
        " ".join(["check", *click.get_current_context().args]),
        "judging a series patch by patch comes with a later release",
        hint="test what it does: make kernel-test SERIES=FILE (the linters are make lint)",
    )


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
    help="A run's result.json, told of in the cover letter; may be given more than once.",
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
