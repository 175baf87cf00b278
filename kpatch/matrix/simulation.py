# SPDX-License-Identifier: GPL-2.0-only
"""Simulate a matrix on many hosts, with recorded durations. Nothing runs.

The jobs are placed as the cluster places them (`kpatch.matrix.placing`). The durations are those
that stages of the harness took on one machine of two cores without KVM (durations.json). Every
host has one worker and an empty cache, and is as fast as that machine. Left out: the network, the
store, Dask's own time, lost workers, and what cells on one machine take from one another.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpatch.matrix.job import Job
from kpatch.matrix.placing import Placing

DURATIONS = Path(__file__).with_name("durations.json")
CELLS = 1000
WORKERS = (1, 2, 4, 8, 16, 32)
SEED = 14


@dataclass(frozen=True)
class Simulated:
    """The time of a simulated run: ``seconds`` until the last of ``workers`` had no more to do.

    ``builds`` is the number of kernels built. ``efficiency`` is the time of one worker, divided by
    ``workers`` and by ``seconds``; 1 would be a perfect division of the work.
    """

    workers: int
    seconds: float
    builds: int
    efficiency: float


def recorded_jobs(count: int = CELLS, path: Path = DURATIONS) -> tuple[list[Job], dict[str, Job]]:
    """Return ``count`` jobs and the builds of their kernels, with recorded durations in seconds.

    Each cell has the duration of a recorded suite of its kernel, drawn with a fixed seed.
    """
    kernels = json.loads(path.read_text(encoding="utf-8"))["kernels"]
    draw = random.Random(SEED)  # noqa: S311 - nothing secret
    jobs = [
        Job(str(number), name, (), name, seconds=draw.choice(kernels[name]["suites"]))
        for number, name in zip(range(count), itertools.cycle(kernels), strict=False)
    ]
    builds = {
        name: Job(f"build {name}", name, (), name, seconds=row["build"], kept=False)
        for name, row in kernels.items()
    }
    return jobs, builds


def simulate(jobs: Sequence[Job], builds: Mapping[str, Job], workers: int) -> tuple[float, int]:
    """Return the seconds that ``workers`` hosts take for ``jobs``, and the number of builds."""
    placing = Placing(jobs, builds)
    idle = [f"host-{number}" for number in range(workers)]
    running: list[tuple[float, int, str, Job]] = []
    now, built, order = 0.0, 0, itertools.count()
    while True:
        waiting = []
        for host in idle:
            job = placing.take(host)
            if job is None:
                waiting.append(host)
                continue
            # A cell whose kernel nobody builds for it builds it itself.
            own = job.kept and job.kernel in builds and not placing.has(job.kernel, host)
            built += own or not job.kept
            seconds = job.seconds + (builds[job.kernel].seconds if own else 0)
            heapq.heappush(running, (now + seconds, next(order), host, job))
        if not running:
            return now, built
        now, _, host, job = heapq.heappop(running)
        placing.ended(job, host)
        idle = [*waiting, host]


def table(
    jobs: Sequence[Job], builds: Mapping[str, Job], workers: Sequence[int] = WORKERS
) -> list[Simulated]:
    """Return the simulated run for each number of ``workers``."""
    alone, _ = simulate(jobs, builds, 1)
    rows = []
    for number in workers:
        seconds, built = simulate(jobs, builds, number)
        rows.append(Simulated(number, seconds, built, alone / number / seconds))
    return rows
