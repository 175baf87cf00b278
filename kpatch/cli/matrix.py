# SPDX-License-Identifier: GPL-2.0-only
"""The command ``matrix``: many runs of the harness on several workers."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kpatch.cli import options
from kpatch.cli.guard import guarded
from kpatch.cli.options import Whole, option
from kpatch.tables import bases, flavors
from kpatch.tables.outcomes import ExitCode
from kpatch.vm.accel import CHOICES

if TYPE_CHECKING:
    from kpatch.matrix.run import MatrixRequest

ACTIONS = ("list", "run", "merge", "simulate", "sample")
KINDS = ("test", "compare", "check")


class Shard(click.ParamType[tuple[int, int], str]):
    """The type of ``--shard``: "i/n", with 1 <= i <= n."""

    name = "I/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (i, n)."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", str(value))
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count:
            self.fail(f"{value!r} is not I/N with 1 <= I <= N", param, ctx)
        return number, count


@click.command()
@click.argument("action", type=click.Choice(ACTIONS), default="list")
@click.option("--list-json", is_flag=True, help="Print the cells as JSON, and do nothing else.")
@click.option(
    "--kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True, help="Command to run."
)
@option(
    *("--kernel", "KERNEL"),
    default=(bases.DEFAULT_BASE,),
    multiple=True,
    type=Whole(),
    metavar="BASE",
    help=f"{', '.join(bases.BASES)}, or all. May be given more than once.",
)
@options.SERIES
@click.option(
    "--flavor",
    envvar="FLAVOR",
    show_envvar=True,
    multiple=True,
    default=(flavors.DEFAULT_FLAVOR,),
    show_default=True,
    metavar="NAME",
    help=f"The config: {', '.join(flavors.FLAVORS)}, or all. May be given more than once.",
)
@click.option(
    "--fault",
    multiple=True,
    metavar="NAME",
    help="A planted fault, or all: the cells are those of the faults, on their series. May be "
    "given more than once.",
)
@click.option(
    "--whole", is_flag=True, help="Run the whole suite on each planted fault, not a selection."
)
@click.option(
    "--seeds",
    default=1,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Repetitions of each cell, which are compared test by test.",
)
@click.option(
    "--mutants",
    default=0,
    type=click.IntRange(0, 100_000),
    metavar="N",
    help="The cells are N mutants of each series: lines that it adds, changed by a tool.",
)
@click.option(
    "--mutant-seed",
    default=1,
    show_default=True,
    type=click.IntRange(0),
    help="Decides which mutants are drawn. 1: of carried series those in tests/data/mutants.",
)
@options.TESTS
@options.MECHANISM
@option("--accel", "ACCEL", default="auto", type=click.Choice(CHOICES), help="How VMs are run.")
@click.option("--shard", type=Shard(), default="1/1", show_default=True, help="Take a part only.")
@click.option(
    "--store",
    multiple=True,
    metavar="PATH|URL",
    show_default="in the cache",
    help="Where results are: a folder, or a URL of fsspec. Results are written to the first; merge "
    "reads all.",
)
@click.option(
    "--scheduler",
    default="",
    metavar="tcp://HOST:PORT",
    show_default="a scheduler and workers on this machine",
    help="Address of a Dask scheduler. Whoever can reach one can run code on its workers.",
)
@click.option(
    "--workers",
    default=0,
    type=click.IntRange(0, 256),
    show_default="one for two CPUs",
    help="Workers on this machine. Each runs one cell at a time.",
)
@click.option(
    "--jobs",
    default=0,
    envvar="JOBS",
    show_envvar=True,
    type=click.IntRange(min=0),
    show_default="all CPUs, divided by the workers here",
    help="Processes of a build.",
)
@click.option(
    "--limit",
    default=10_800,
    show_default=True,
    type=click.IntRange(1, 7 * 24 * 3600),
    help="Seconds after which a cell counts as hung, and is ended.",
)
@options.OUT
@options.VERBOSE
@guarded
def matrix(
    action: str, list_json: bool, out: Path, verbose: bool, **wanted: Any
) -> ExitCode | None:
    """Run many cells, each a run of the harness, on several workers.

    The cells are bases × series × flavors × seeds, planted faults × seeds, or the mutants of
    series. The action is list (print the cells), run (run those that are not in the store, and
    merge), merge (the results in the stores), simulate (print how long recorded cells would take on
    1 to 32 workers), or sample (draw the mutants of carried series, and keep them). The merged
    result is written to matrix.html, matrix.txt, matrix.json and kcidb.json in the folder OUT.
    """
    from kpatch.lib.progress import Progress
    from kpatch.matrix import run, text

    if action == "simulate":
        _simulate()
        return None
    request = _request(**wanted)
    if action == "sample":
        for path in run.sample(request):
            click.echo(path)
        return None
    if list_json:
        click.echo(run.listing(request))
        return None
    if action == "list":
        for line in run.names(request):
            click.echo(line)
        return None
    made = (
        run.run(request, out, Progress(echo=verbose))
        if action == "run"
        else run.merged(request, out)
    )
    click.echo(text.render(made), nl=False)
    click.echo(f"matrix: {', '.join(f'{out}/{name}' for name in run.FORMATS)}")
    return made.exit_code


def _request(
    *,
    kind: str,
    kernel: tuple[str, ...],
    series: tuple[str, ...],
    flavor: tuple[str, ...],
    fault: tuple[str, ...],
    whole: bool,
    seeds: int,
    tests: str,
    mechanism: str | None,
    accel: str,
    mutants: int,
    mutant_seed: int,
    store: tuple[str, ...],
    **wanted: Any,
) -> MatrixRequest:
    from kpatch.matrix.cell import Axes
    from kpatch.matrix.run import MatrixRequest

    axes = Axes(
        *(kind, kernel, series, flavor, fault, whole, seeds, tests, mechanism or "", accel),
        mutants=mutants,
        mutant_seed=mutant_seed,
    )
    return MatrixRequest(axes, stores=store, **wanted)


def _simulate() -> None:
    """Print the simulated times."""
    from kpatch.matrix import simulation
    from kpatch.report import tables

    jobs, builds = simulation.recorded_jobs()
    click.echo(f"simulated: {len(jobs)} cells of {len(builds)} kernels, with recorded durations")
    rows = [
        (str(it.workers), f"{it.seconds / 3600:.1f}", str(it.builds), f"{it.efficiency:.2f}")
        for it in simulation.table(jobs, builds)
    ]
    tables.print_grid(["workers", "hours", "builds", "efficiency"], rows, sys.stdout)


COMMANDS = (matrix,)
