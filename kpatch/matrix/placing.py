# SPDX-License-Identifier: GPL-2.0-only
"""Decide which job a host gets next. Pure: used by the cluster and by its simulation alike.

Jobs that share a kernel run on the host that has built it, as far as that is faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kpatch.matrix.job import Job

# How often a job that failed, or took too long, is started. A worker that dies is not counted:
# Dask starts the job again elsewhere.
TRIES = 2


@dataclass
class _Group:
    """The waiting jobs of one kernel, the longest last; and the hosts that build or have it."""

    build: Job | None
    jobs: list[Job] = field(default_factory=list)
    building: set[str] = field(default_factory=set)
    built: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        return sum(job.seconds for job in self.jobs)

    def add(self, job: Job) -> None:
        self.jobs.append(job)
        self.jobs.sort(key=lambda job: (job.seconds, job.key))


class Placing:
    """The waiting jobs. ``builds`` are the jobs that build a kernel, by its name (`Job.kernel`)."""

    def __init__(self, jobs: Iterable[Job], builds: Mapping[str, Job]) -> None:
        self._groups: dict[str, _Group] = {}
        self._tries: dict[str, int] = {}
        for job in jobs:
            self._groups.setdefault(job.kernel, _Group(builds.get(job.kernel))).add(job)

    def __len__(self) -> int:
        """Return the number of waiting jobs, without those that build kernels."""
        return sum(len(group.jobs) for group in self._groups.values())

    def take(self, host: str) -> Job | None:
        """Return the job that ``host`` is to start now; None if it had better wait.

        A kernel that only one job needs is built by that job. Another is built before its first
        job, and meanwhile the host gets jobs of other kernels: of those that it has, and then of
        those that no host has. A kernel that another host has is built once more if that host is
        so busy with it that the build pays.
        """
        groups = [group for group in self._groups.values() if group.jobs]
        at_hand = [it for it in groups if it.build is None or host in it.built]
        if at_hand:
            return max(at_hand, key=_share).jobs.pop()
        elsewhere = [it for it in groups if host not in it.building and _pays(it)]
        if not elsewhere:
            return None
        group = max(elsewhere, key=_share)
        if group.build is None or (len(group.jobs) == 1 and not group.building):
            return group.jobs.pop()
        group.building.add(host)
        return group.build

    def has(self, kernel: str, host: str) -> bool:
        """Return whether ``host`` has built ``kernel``."""
        return host in self._groups[kernel].built

    def ended(self, job: Job, host: str) -> None:
        """Take note that ``job`` has ended on ``host``, however it ended."""
        group = self._groups[job.kernel]
        group.building.discard(host)
        group.built.add(host)

    def again(self, job: Job) -> bool:
        """Let ``job`` wait again, unless it was started TRIES times. Returns whether it waits."""
        self._tries[job.key] = self._tries.get(job.key, 1) + 1
        if self._tries[job.key] > TRIES:
            return False
        self._groups[job.kernel].add(job)
        return True

    def lost(self, host: str) -> None:
        """Take note that ``host`` has no worker any more: what it has built counts as lost."""
        for group in self._groups.values():
            group.building.discard(host)
            group.built.discard(host)

    def drain(self) -> list[Job]:
        """Return the waiting jobs, and let none wait any more."""
        left = [job for group in self._groups.values() for job in group.jobs]
        for group in self._groups.values():
            group.jobs.clear()
        return left


def _share(group: _Group) -> float:
    """Return the seconds of work for each host of ``group``; twice its seconds if it has none.

    Half a host more is counted for a host that joins (Sainte-Laguë), which divides hosts among
    groups better than a whole one.
    """
    return group.seconds / max(0.5, len(group.building | group.built))


def _pays(group: _Group) -> bool:
    """Return whether one host more for ``group`` ends its jobs earlier.

    While it builds, the others go on: all are busy until the jobs and the build are done.
    """
    hosts = len(group.building | group.built)
    if not hosts or group.build is None:
        return True
    return (group.seconds + group.build.seconds) / (hosts + 1) < group.seconds / hosts
