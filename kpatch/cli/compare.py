# SPDX-License-Identifier: GPL-2.0-only
"""The command ``compare``: the mechanisms side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kpatch.cli import options
from kpatch.cli.guard import guarded
from kpatch.cli.options import option
from kpatch.cli.request import test_request
from kpatch.tables.outcomes import ExitCode

if TYPE_CHECKING:
    from kpatch.compare.comparison import Comparison

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@options.KERNELS
@option(
    "--series",
    "SERIES",
    multiple=True,
    metavar="NAME",
    show_default="all carried ones that have patches for the kernel",
    help="Series to compare.",
)
@click.option(
    "--results",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder OUT of a run: take the requirements from it, and run no suite. May be given more "
    "than once.",
)
@option(
    "--count",
    "COUNT",
    default=1_000_000,
    type=click.IntRange(min=0),
    help="Notifications to count on each series; 0: measure nothing.",
)
@click.option(
    "--samples",
    default=4_000,
    show_default=True,
    type=click.IntRange(min=100, max=10_000),
    help="Loopbacks to time in each measurement.",
)
@click.option(
    "--from",
    "source",
    metavar="FILE",
    type=FILE,
    help="compare.json of an earlier comparison: run nothing, write its files again.",
)
@option(
    "--against",
    "AGAINST",
    metavar="FILE",
    type=FILE,
    help="compare.json of another comparison, which has to agree with this one.",
)
@click.option(
    "--document",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the comparison as Markdown.",
)
@options.TESTS
@options.FLAVOR
@options.ACCEL
@options.JOBS
@options.OUT
@options.UNTRUSTED
@options.BOOT_LIMIT
@options.TEST_LIMIT
@options.RUN_LIMIT
@options.VERBOSE
@guarded
def compare(
    source: Path | None,
    against: Path | None,
    document: Path | None,
    out: Path,
    verbose: bool,
    **wanted: Any,
) -> ExitCode:
    """Compare the mechanisms: by requirements, measurements and patches.

    Runs the suite and the measurements on each series, and writes compare.html, compare.txt (for a
    mail) and compare.json to the folder OUT.
    """
    from kpatch.compare import comparison, findings, words

    other = None if against is None else comparison.load(against)
    made = _made(out, verbose, **wanted) if source is None else _again(source, out)
    if document is not None:
        _write_document(made, document)
    for line in words.goal_lines(made):
        click.echo(line)
    bad = findings.failures(made)
    bad += [] if other is None else findings.differences(made, other)
    for line in bad:
        click.echo(line)
    click.echo(f"comparison: {out}/compare.html, {out}/compare.txt, {out}/compare.json")
    return ExitCode.FAIL if bad else ExitCode.PASS


def _made(
    out: Path,
    verbose: bool,
    *,
    kernel: tuple[str, ...],
    series: tuple[str, ...],
    results: tuple[Path, ...],
    count: int,
    samples: int,
    **wanted: Any,
) -> Comparison:
    """Run what is missing, and return the comparison."""
    from kpatch.compare import run
    from kpatch.lib.progress import Progress

    request = test_request(control=False, **wanted)
    asked = run.CompareRequest(request, kernel, series, results, count, samples)
    return run.compare(asked, out, Progress(echo=verbose))


def _again(source: Path, out: Path) -> Comparison:
    """Write the files of the comparison in ``source`` to ``out``, and return it."""
    from kpatch.compare import comparison, plots, run
    from kpatch.report.output_dir import open_output_dir

    plots.require()
    made = comparison.load(source)
    with open_output_dir(out, names=run.FORMATS) as output:
        run.write(made, output)
    return made


def _write_document(made: Comparison, document: Path) -> None:
    """Write Markdown, which ends in the draft of a cover letter; HarnessError if that fails."""
    from kpatch.compare import letter, markdown
    from kpatch.errors import HarnessError

    try:
        document.write_text(markdown.render(made, letter.draft(made)), encoding="utf-8")
    except OSError as error:
        raise HarnessError(
            f"--document {document}",
            f"cannot be written: {error.strerror}",
            hint="name a file in a folder that can be written to",
        ) from error


COMMANDS = (compare,)
