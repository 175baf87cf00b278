# SPDX-License-Identifier: GPL-2.0-only
"""Run what a comparison lacks, and make the comparison of all results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from kpatch import pipeline
from kpatch.compare import html, measured, outcomes, patches, plots, text
from kpatch.compare.comparison import Comparison, Host, dump
from kpatch.compare.measured import Measured
from kpatch.compare.patches import Size
from kpatch.errors import HarnessError
from kpatch.lib import confine, tools
from kpatch.lib.progress import Progress
from kpatch.model import Applied, Origin
from kpatch.pipeline import Pipeline, RunRequest
from kpatch.report.output_dir import OutputDir, open_output_dir
from kpatch.report.result import RunResult
from kpatch.series import catalog
from kpatch.tables.limits import Limits
from kpatch.tables.mechanisms import RECOMMENDED
from kpatch.verdict import requirements

CPUINFO = Path("/proc/cpuinfo")

# The patch of the measured kernels: the reference of `ktests.measure.reference`.
REFERENCE = Path(__file__).with_name("reference.patch")

# Seconds for all measurements of a series; a million notifications take most of it.
MEASURE_LIMIT = 3 * 60 * 60

FORMATS = {
    "compare.html": html.render,
    "compare.txt": text.render,
    "compare.json": dump,
}
"""The functions that make the files of a comparison, by file name, in the order of writing."""


@dataclass(frozen=True)
class CompareRequest:
    """The parameters of a comparison: the options of the command ``compare``.

    ``run`` has those of each run, without kernel and series. ``kernels`` are values of KERNEL=,
    ``series`` names of series; () means all carried series that are no drafts. ``results`` are
    folders of runs; if there are any, no suite is run. ``count`` notifications are counted, and
    ``samples`` of each time are taken; nothing is measured if ``count`` is 0.
    """

    run: RunRequest
    kernels: tuple[str, ...]
    series: tuple[str, ...] = ()
    results: tuple[Path, ...] = ()
    count: int = 0
    samples: int = 0


def compare(request: CompareRequest, out: Path, progress: Progress) -> Comparison:
    """Run what is missing, and return the comparison; its files are written to ``out``.

    The results of the runs are in folders below ``out``. HarnessError: the errors of
    `outcomes.read`; exit 2 if ``out`` cannot be used; the errors of the stages; and the error that
    has ended a run before its verdict.
    """
    table = requirements.load()
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with open_output_dir(out, names=FORMATS) as output:
        plots.require()
        tools.require_all()
        confine.require(demanded=request.run.untrusted)
        results = outcomes.read(request.results)
        figures: list[Measured] = []
        sizes: list[Size] = []
        accel = ""
        for spec, name in pipeline.folder_names(request.kernels).items():
            stages = Pipeline(_for_kernel(request, spec), progress)
            every = [stages.apply(it) for it in _series(request, stages)]
            sizes += map(patches.size, every)
            names = tuple(applied.series.name for applied in every)
            if not request.results:
                run = replace(request.run, kernel=spec, series=names)
                results.append(_verdict(pipeline.run(run, out / name, progress), out / name))
            if request.count:
                figures += _measure(stages, every, request, out / f"{name}-measured")
                accel = stages.state.accel.used if stages.state.accel else accel
        made = Comparison(
            started=started,
            host=_host(accel, results),
            recommended=RECOMMENDED,
            count=request.count,
            samples=request.samples if request.count else 0,
            selection=request.run.tests,
            requirements={name: entry.text for name, entry in table.items()},
            outcomes=tuple(outcomes.rows(results, table)),
            measured=tuple(figures),
            sizes=tuple(sizes),
        )
        write(made, output)
    return made


def write(comparison: Comparison, output: OutputDir) -> None:
    """Write every file of `FORMATS` to ``output``; HarnessError (exit 7) if that fails."""
    for name, render in FORMATS.items():
        output.write(name, render(comparison))


def _for_kernel(request: CompareRequest, spec: str) -> RunRequest:
    limits = Limits(request.run.limits.boot, request.run.limits.test, MEASURE_LIMIT)
    return replace(request.run, kernel=spec, limits=limits)


def _series(request: CompareRequest, stages: Pipeline) -> Sequence[str]:
    """Return the names of the series to compare; without a choice, those for the kernel's base.

    HarnessError (exit 2) if there is none, or one of those named is not carried: nothing is known
    of the mechanism of another.
    """
    for name in request.series:
        if name != catalog.ALL and catalog.origin(name) is not Origin.CARRIED:
            raise HarnessError(
                f"SERIES={name}",
                "is no carried series",
                hint=f"choose from {', '.join(catalog.carried())}",
            )
    if request.series and catalog.ALL not in request.series:
        return request.series
    base = stages.source().base
    names = [name for name in catalog.ready() if catalog.has_patches(name, base)]
    if not names:
        raise HarnessError(
            f"KERNEL={stages.request.kernel}",
            f"no carried series is for {base}",
            hint="choose another KERNEL",
        )
    return names


def _verdict(run: RunResult, folder: Path) -> RunResult:
    """Return ``run``; HarnessError, with its own exit code, if it did not come to its verdict."""
    if run.error is not None:
        error = run.error
        raise HarnessError(
            error.what, error.cause, hint=error.hint, code=run.exit_code, details=error.details
        )
    assert run.kernel is not None, folder
    return run


def _measure(
    stages: Pipeline, every: Sequence[Applied], request: CompareRequest, folder: Path
) -> list[Measured]:
    parameters = {"count": request.count, "samples": request.samples}
    found: list[Measured] = []
    with open_output_dir(folder) as output:
        for applied in every:
            kernel = stages.build(stages.apply_on(applied, REFERENCE))
            vms = stages.measure(kernel, output, parameters)
            series = applied.series
            found += measured.measured(applied.tree.version, series.name, series.mechanism, vms)
    return found


def _host(accel: str, results: Sequence[RunResult]) -> Host:
    """Describe the machine by its processor: no names of computers or users."""
    models = [line for line in CPUINFO.read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else "unknown processor"
    used = accel or next((one.accel.used for one in results if one.accel), "")
    return Host(model, os.cpu_count() or 1, used, pipeline.qemu_version())
