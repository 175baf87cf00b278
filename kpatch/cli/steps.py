# SPDX-License-Identifier: GPL-2.0-only
"""The commands that run the pipeline up to one stage, and print the result of that stage."""

from __future__ import annotations

from typing import Any

import click

from kpatch.cli import options
from kpatch.cli.guard import guarded
from kpatch.cli.request import pipeline_of


@click.command()
@options.KERNEL
@options.REFRESH
@options.VERBOSE
@guarded
def source(verbose: bool, **wanted: Any) -> None:
    """Get a kernel tree into the cache, and print its path."""
    click.echo(pipeline_of(verbose, **wanted).source().path)


@click.command()
@options.KERNEL
@options.ONE_SERIES
@options.VERBOSE
@guarded
def apply(series: str, verbose: bool, **wanted: Any) -> None:
    """Apply a series, and list its patches and the changed files.

    The kernel tree itself is not changed.
    """
    applied = pipeline_of(verbose, **wanted).apply(series)
    for subject in applied.subjects:
        click.echo(f"# {subject}")
    for change in applied.changes:
        click.echo(f"{'D' if change.content is None else 'M'} {change.path}")


@click.command()
@options.KERNEL
@options.ONE_SERIES
@options.FLAVOR
@click.option("--explain", metavar="SYMBOL", help="Explain the value of a symbol.")
@options.VERBOSE
@guarded
def config(series: str, explain: str | None, verbose: bool, **wanted: Any) -> None:
    """Print the .config of a flavor, or explain one of its symbols."""
    pipeline = pipeline_of(verbose, **wanted)
    applied = pipeline.apply(series)
    if explain is None:
        click.echo(pipeline.config(applied).text, nl=False)
    else:
        click.echo(pipeline.explain(applied, explain))


@click.command()
@options.KERNEL
@options.ONE_SERIES
@options.FLAVOR
@options.JOBS
@options.VERBOSE
@guarded
def build(series: str, verbose: bool, **wanted: Any) -> None:
    """Build a kernel, and print the path of its image."""
    pipeline = pipeline_of(verbose, **wanted)
    click.echo(pipeline.build(pipeline.apply(series)).image)


COMMANDS = (source, apply, config, build)
