# SPDX-License-Identifier: GPL-2.0-only
"""The actions of the command ``matrix``: list, run, merge."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpatch.lib import cache
from kpatch.lib.progress import LiveStage, Progress
from kpatch.lib.sanitize import duration
from kpatch.matrix import cell as cells
from kpatch.matrix import html, kcidb, merge, text
from kpatch.matrix.cell import Axes, Cell, Matrix
from kpatch.matrix.job import Ending, Job, Record
from kpatch.matrix.merge import Merged
from kpatch.matrix.placing import Placing
from kpatch.matrix.store import Store, place
from kpatch.report.output_dir import open_output_dir

FORMATS = {
    "matrix.html": html.render,
    "matrix.txt": text.render,
    "matrix.json": merge.dump,
    "kcidb.json": kcidb.render,
}
"""The functions that make the files of a merged result, by file name, in the order of writing."""

# A worker for so many CPUs: a VM under emulation keeps more than one busy.
CPUS = 2


@dataclass(frozen=True)
class MatrixRequest:
    """The parameters of a matrix: the options of the command ``matrix``.

    ``shard`` is (i, n): the i-th of n parts, from 1. ``stores`` are paths or URLs; results are
    written to the first. ``scheduler`` is the address of a Dask scheduler, "" for workers here, of
    which there are ``workers``, 0 for one for each CPUS. ``jobs`` is the number of processes of a
    build, 0 for all CPUs, divided by the workers here. ``limit`` is the time of a cell in seconds.
    """

    axes: Axes
    shard: tuple[int, int] = (1, 1)
    stores: tuple[str, ...] = ()
    scheduler: str = ""
    workers: int = 0
    jobs: int = 0
    limit: float = cells.LIMIT

    @property
    def workers_here(self) -> int:
        """Return the number of workers to start on this machine."""
        return self.workers or max(1, (os.cpu_count() or 1) // CPUS)

    @property
    def build_jobs(self) -> int:
        """Return the number of processes of a build."""
        beside = 1 if self.scheduler else self.workers_here
        return self.jobs or max(1, (os.cpu_count() or 1) // beside)

    def open_stores(self) -> list[Store]:
        """Return the stores, the one in the cache if none is named."""
        named = self.stores or (str(cache.root() / "matrix-store"),)
        if not self.stores:
            cache.folder("matrix-store")
        return [Store(place(url)) for url in named]


def listing(request: MatrixRequest) -> str:
    """Return the cells of the request's shard as JSON: their fields, keys, names and commands."""
    project = cells.project_id()
    rows = [
        {
            **dataclasses.asdict(it),
            "key": it.key(project),
            "name": it.name,
            "argv": list(it.job(project, jobs=request.build_jobs, limit=request.limit).argv),
        }
        for it in _shard(request).cells
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False)


def names(request: MatrixRequest) -> list[str]:
    """Return a line for each cell of the request's shard, and for each that is left out."""
    matrix = _shard(request)
    return [*(it.name for it in matrix.cells), *(f"left out: {it}" for it in matrix.left_out)]


def sample(request: MatrixRequest) -> list[Path]:
    """Draw the mutants of the request's series, and return the paths of the written samples."""
    return cells.sample(request.axes)


def run(request: MatrixRequest, out: Path, progress: Progress) -> Merged:
    """Run the cells of the request's shard that are in no store; return the merged result.

    The merged result is that of the shard; its files are written to ``out``. HarnessError: the
    errors of `kpatch.matrix.cell.matrix` and of `kpatch.matrix.cluster.run`.
    """
    return _merged(request, out, lambda matrix, stores: _run(request, matrix, stores, progress))


def merged(request: MatrixRequest, out: Path) -> Merged:
    """Return the merged result of the request's cells that are in its stores.

    Runs nothing. Its files are written to ``out``.
    """
    return _merged(request, out, lambda matrix, stores: {})


def _merged(
    request: MatrixRequest,
    out: Path,
    others: Callable[[Matrix, Sequence[Store]], Mapping[str, Record]],
) -> Merged:
    """Merge what is in the stores after ``others`` has run cells, and write the files.

    ``others`` returns the records of cells that are in no store, by key.
    """
    with open_output_dir(out, names=FORMATS) as output:
        matrix, stores = _shard(request), request.open_stores()
        records = others(matrix, stores)
        made = merge.merged(_keyed(matrix), stores, records, matrix.left_out)
        for name, render in FORMATS.items():
            output.write(name, render(made))
    return made


def _run(
    request: MatrixRequest, matrix: Matrix, stores: Sequence[Store], progress: Progress
) -> dict[str, Record]:
    """Run the cells of ``matrix`` that are in none of ``stores``; return their records by key."""
    from kpatch.matrix import cluster

    keyed = _keyed(matrix)
    missing = [it for key, it in keyed.items() if not any(store.record(key) for store in stores)]
    progress.say(f"{len(keyed)} cells, {len(keyed) - len(missing)} of them in the store")
    records: dict[str, Record] = {}
    if not missing:
        return records
    for mail in matrix.mails.values():
        stores[0].put(mail)
    connection = (
        cluster.remote(request.scheduler)
        if request.scheduler
        else cluster.local(min(request.workers_here, len(missing)))
    )
    placing = _placing(missing, request)
    with progress.stage("matrix") as stage, connection as client:
        for done, record in enumerate(cluster.run(client, placing, stores[0].url), 1):
            records[record.key] = record
            _tell(stage, record, done, len(missing))
    return records


def _keyed(matrix: Matrix) -> dict[str, Cell]:
    project = cells.project_id()
    return {it.key(project): it for it in matrix.cells}


def _shard(request: MatrixRequest) -> Matrix:
    whole = cells.matrix(request.axes)
    return dataclasses.replace(whole, cells=tuple(cells.shard(whole.cells, *request.shard)))


def _placing(missing: Sequence[Cell], request: MatrixRequest) -> Placing:
    project = cells.project_id()
    jobs: list[Job] = []
    builds: dict[str, Job] = {}
    for it in missing:
        jobs.append(it.job(project, jobs=request.build_jobs, limit=request.limit))
        builds[it.shared_kernel] = it.build(jobs=request.build_jobs)
    return Placing(jobs, builds)


def _tell(stage: LiveStage, record: Record, done: int, total: int) -> None:
    """Print a line for a cell that has ended, and show how many have."""
    outcome = record.ending.value if record.code is None else f"exit {record.code}"
    why = f": {record.why}" if record.ending is not Ending.DONE and record.why else ""
    stage.say(f"{record.name}: {outcome}, {duration(record.seconds)} on {record.host}{why}")
    stage.note(f"{done} of {total} cells")
    stage.advance(done, total)
