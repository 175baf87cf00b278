# SPDX-License-Identifier: GPL-2.0-only
"""The command ``drift``, which compares the mirror of the uAPI (uapi/) with kernels' headers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from kpatch.cli import options
from kpatch.cli.guard import guarded
from kpatch.tables.outcomes import ExitCode


@click.command()
@options.EVERY_KERNEL
@options.EVERY_SERIES
@options.KNOWN_MECHANISM
@options.JOBS
@click.option("--write", is_flag=True, help="Write the golden JSON instead of comparing it.")
@options.VERBOSE
@guarded
def drift(kernel: tuple[str, ...], mechanism: str | None, verbose: bool, **wanted: Any) -> ExitCode:
    """Compare the uAPI mirror (uapi/) with kernels' headers.

    gcc compiles an assertion for each value, size, offset and type.
    """
    from kpatch.abi import check
    from kpatch.lib.progress import Progress
    from kpatch.model import Applied
    from kpatch.pipeline import Pipeline, RunRequest

    progress = Progress(echo=verbose)

    def applier(kernel: str, series: Sequence[str]) -> Iterator[Applied]:
        named = tuple(series)
        request = RunRequest(kernel=kernel, series=named, mechanism=mechanism, control=False)
        pipeline = Pipeline(request, progress)
        return map(pipeline.apply, pipeline.names())

    outcome = check.compare_kernels(kernel, applier, **wanted, progress=progress)
    for path in outcome.written:
        click.echo(f"written: {path}")
    for line in outcome.differences:
        click.echo(f"drift: {line}")
    click.echo(f"kernels: {outcome.kernels}, differences: {len(outcome.differences)}")
    return ExitCode.FAIL if outcome.differences else ExitCode.PASS


COMMANDS = (drift,)
