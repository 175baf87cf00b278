# SPDX-License-Identifier: GPL-2.0-only
"""Run the suite on series in the flavor coverage, and make the coverage of the result."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kpatch import pipeline
from kpatch.build import gcov, objects
from kpatch.coverage import added, explained, figures, html, text, trace
from kpatch.coverage.figures import Coverage, Patch
from kpatch.coverage.history import History
from kpatch.errors import HarnessError
from kpatch.lib.progress import Progress
from kpatch.model import Kernel, Origin
from kpatch.pipeline import Pipeline, RunRequest
from kpatch.report import write
from kpatch.report.output_dir import open_output_dir
from kpatch.report.result import RunResult
from kpatch.run.vm_run import VmRun
from kpatch.series import catalog
from kpatch.tables.outcomes import ExitCode

FLAVOR = "coverage"

FORMATS: dict[str, Callable[[Sequence[Coverage]], str]] = {
    "coverage.html": html.render,
    "coverage.txt": text.render,
    "coverage.json": figures.dump,
}
"""The functions that make the files of the coverage, by file name, in the order of writing."""


@dataclass(frozen=True)
class Measured:
    """The verdict of the run, and the coverage of each of its series."""

    result: RunResult
    coverage: tuple[Coverage, ...]


def measure(request: RunRequest, out: Path, progress: Progress) -> Measured:
    """Run the suite of ``request``, whose flavor is FLAVOR, and write all results to ``out``.

    Without a choice of series, those are run that run by default; the negative control has no
    coverage. HarnessError: exit 8 if nothing can be said of a series (`coverage`); the errors of
    `kpatch.coverage.trace.trace`; exit 2 if ``out`` cannot be used. An error of a stage is part of
    the result, whose ``coverage`` then lacks series.
    """
    trace.require()
    with open_output_dir(out, names=(*write.FORMATS, *FORMATS)) as output:
        chosen = request.series or tuple(catalog.default())
        stages = Pipeline(replace(request, series=chosen), progress)
        result = pipeline.run_in(stages, output)
        found = []
        for run in stages.state.runs:
            kernel = stages.state.kernels[run.series]
            assert kernel is not None
            if kernel.applied.series.origin is not Origin.CONTROL:
                with progress.stage("coverage", series=run.series):
                    found.append(coverage(kernel, run.vms))
        for name, render in FORMATS.items():
            output.write(name, render(found))
    return Measured(result, tuple(found))


def coverage(kernel: Kernel, vms: Sequence[VmRun]) -> Coverage:
    """Return the coverage of the series of ``kernel``, whose suite the ``vms`` ran.

    HarnessError: exit 8 if no VM has sent counters, or the series adds no executable line to a
    source that the config compiles; the errors of `kpatch.coverage.trace.trace`.
    """
    applied, graphs = kernel.applied, gcov.graphs(kernel)
    name = applied.series.name
    counters = [of_objects(vm.transcript.counters, graphs) for vm in vms]
    if graphs and not any(counters):
        raise _nothing(name, "no VM has sent counters", "see the console logs")
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-coverage.") as folder:
        history = History(Path(folder) / "source", applied)
        lines = added.lines(history, trace.trace(history, graphs, counters)) if graphs else []
        patches = [number for path in history.paths for number in history.patches(path)]
    if not lines:
        raise _nothing(
            name,
            f"adds no executable line to a source that the flavor {FLAVOR} compiles",
            "choose another series",
        )
    told, stale = explained.explain(lines, name, explained.load())
    carried = applied.series.origin is Origin.CARRIED
    return Coverage(
        kernel=applied.tree.version,
        series=name,
        patches=tuple(
            Patch(it.number, it.subject, patches.count(it.number)) for it in applied.patches
        ),
        lines=told if carried else tuple(lines),
        vms=len(vms),
        silent=sum(not one for one in counters),
        unbuilt=tuple(f"{stem}.c" for stem in objects.stems(applied) if stem not in graphs),
        needed=carried,
        stale=stale if carried else (),
    )


def of_objects(counters: Mapping[str, bytes], stems: Mapping[str, object]) -> dict[str, bytes]:
    """Return the guest's ``counters`` of the objects ``stems``, by the path without ".o".

    The guest's names are longer: absolute paths in the build. Others are left out.
    """
    ends = {f"/{stem}{gcov.SUFFIX}": stem for stem in stems}
    found = {}
    for name, data in counters.items():
        for end, stem in ends.items():
            if name.endswith(end):
                found[stem] = data
    return found


def _nothing(series: str, cause: str, hint: str) -> HarnessError:
    return HarnessError(f"coverage of {series}", cause, hint=hint, code=ExitCode.NOT_JUDGED)
