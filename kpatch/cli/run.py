# SPDX-License-Identifier: GPL-2.0-only
"""The commands that boot test kernels: ``test``, ``boot`` and ``shell``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from kpatch.cli import options
from kpatch.cli.guard import guarded
from kpatch.cli.request import pipeline_of, test_request
from kpatch.errors import HarnessError
from kpatch.tables.outcomes import ExitCode


@click.command()
@options.KERNELS
@options.SERIES
@options.FLAVOR
@options.ACCEL
@options.TESTS
@options.JOBS
@options.OUT
@options.MECHANISM
@options.CONTROL
@options.MUTANT
@options.UNTRUSTED
@options.BOOT_LIMIT
@options.TEST_LIMIT
@options.RUN_LIMIT
@options.SEED
@options.REFRESH
@options.VERBOSE
@guarded
def test(kernel: tuple[str, ...], out: Path, verbose: bool, **wanted: Any) -> ExitCode:
    """Build and boot kernels, run the test suite, give a verdict.

    The results are written to the folder OUT.
    """
    from kpatch import pipeline
    from kpatch.lib.progress import Progress
    from kpatch.report import tables

    results = []
    for spec, name in pipeline.folder_names(kernel).items():
        request = test_request(kernel=spec, **wanted)
        folder = out if len(kernel) == 1 else out / name
        outcome = pipeline.run(request, folder, Progress(echo=verbose))
        if outcome.error is not None and outcome.error.details:
            click.echo(outcome.error.details.rstrip(), err=True)
        tables.show(outcome, sys.stdout)
        click.echo(f"result: {folder}/result.json")
        results.append(outcome)
    if len(results) > 1:
        tables.show_all(results, sys.stdout)
    failed = (outcome.exit_code for outcome in results if outcome.exit_code)
    return next(failed, ExitCode.PASS)


@click.command()
@options.KERNEL
@options.ONE_SERIES
@options.FLAVOR
@options.JOBS
@options.ACCEL
@options.VERBOSE
@guarded
def shell(series: str, verbose: bool, **wanted: Any) -> None:
    """Boot a test kernel in a VM, and open a shell in it.

    The VM has the devices of the test machine.
    """
    pipeline = pipeline_of(verbose, **wanted)
    status = pipeline.shell(pipeline.build(pipeline.apply(series)))
    if status != 0:
        raise HarnessError(
            "shell", f"QEMU ended with status {status}", hint="see above", code=ExitCode.LOST
        )


boot = click.Command("boot", params=shell.params, callback=shell.callback, help=shell.help)

COMMANDS = (test, boot, shell)
