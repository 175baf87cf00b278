# SPDX-License-Identifier: GPL-2.0-only
"""The commands for developers of this project: ``bench`` and ``reference``."""

from __future__ import annotations

import sys

import click

from kpatch.cli import options
from kpatch.cli.guard import guarded
from kpatch.tables.outcomes import ExitCode


@click.command()
@options.JOBS
@click.option("--runs", default=5, show_default=True, help="Repetitions of short measurements.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(("cold", "edit", "warm", "check")),
    help="Measurements to make. Without cold, the user's cache is used.  [default: all]",
)
@guarded
def bench(jobs: int, runs: int, only: tuple[str, ...]) -> None:
    """Measure how long runs take.

    The figures are seconds, and ratios to make and to virtme-ng alone.
    """
    from kpatch.dev import bench
    from kpatch.report import tables

    figures = bench.measure(
        only or tuple(bench.MEASUREMENTS),
        jobs=jobs,
        runs=runs,
        say=lambda line: click.echo(line, err=True),
    )
    rows = [(f.name, f.seconds, f.against, f.ratio, f.aim) for f in figures]
    tables.print_grid(["figure", "seconds", "against", "ratio", "aim"], rows, sys.stdout)


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if it would change.")
@guarded
def reference(check: bool) -> ExitCode:
    """Generate the documents of the uAPI from templates, requirements and suite."""
    from kpatch.dev import uapi_doc

    changed = False
    for path in uapi_doc.DOCUMENTS:
        made = uapi_doc.render(path)
        same = path.exists() and path.read_text(encoding="utf-8") == made
        if not same and not check:
            path.write_text(made, encoding="utf-8")
        outdated = "would change" if check else "written"
        click.echo(f"{path}: {'up to date' if same else outdated}")
        changed |= not same
    return ExitCode.FAIL if check and changed else ExitCode.PASS


COMMANDS = (bench, reference)
