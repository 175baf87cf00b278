# SPDX-License-Identifier: GPL-2.0-only
"""The command ``coverage``: the lines that a series adds, and that the suite does not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kpatch.cli import options
from kpatch.cli.guard import guarded
from kpatch.cli.options import option
from kpatch.cli.request import test_request
from kpatch.tables.outcomes import ExitCode


@click.command()
@options.KERNEL
@option(
    "--series",
    "SERIES",
    multiple=True,
    metavar="NAME|MAIL",
    show_default="the carried series that run by default",
    help="Series to measure: a name, an mbox, maildir or folder of patches, or - (standard input).",
)
@option(
    "--fail-under",
    "FAIL_UNDER",
    default=95.0,
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Share of a series' executable lines that have to be run.",
)
@options.ACCEL
@options.TESTS
@options.JOBS
@options.OUT
@options.MECHANISM
@options.UNTRUSTED
@options.BOOT_LIMIT
@options.TEST_LIMIT
@options.RUN_LIMIT
@options.VERBOSE
@guarded
def coverage(fail_under: float, out: Path, verbose: bool, **wanted: Any) -> ExitCode:
    """Run the suite, and list the lines of a series that it does not run.

    The kernel is of the flavor coverage, in which the C sources that the series touches count their
    lines. Writes coverage.txt, coverage.html and coverage.json, with the results of the run, to the
    folder OUT.
    """
    from kpatch.coverage import run, text
    from kpatch.lib.progress import Progress

    request = test_request(flavor=run.FLAVOR, control=False, negative=False, **wanted)
    measured = run.measure(request, out, Progress(echo=verbose))
    click.echo(text.render(measured.coverage), nl=False)
    click.echo(f"coverage: {out}/coverage.html, {out}/coverage.txt, {out}/coverage.json")
    if measured.result.exit_code:
        click.echo(f"the suite itself did not pass: {measured.result.verdict}; {out}/result.json")
        return measured.result.exit_code
    bad = [(one, why) for one in measured.coverage for why in one.failures(fail_under)]
    for one, why in bad:
        click.echo(f"{one.series}: {why}")
    return ExitCode.FAIL if bad else ExitCode.PASS


COMMANDS = (coverage,)
