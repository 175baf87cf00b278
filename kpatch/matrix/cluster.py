# SPDX-License-Identifier: GPL-2.0-only
"""Run jobs on the workers of Dask distributed. The only module that imports Dask.

Dask starts workers, watches them, and starts a task again whose worker died. This module says which
job goes to which host (`kpatch.matrix.placing`), gives each a time limit, and ends its processes
when its task is cancelled, which Dask does not do.

A task gets JSON and returns JSON; files go through the store. Dask's protocol itself unpickles what
it receives: whoever can reach a scheduler or a worker can run code there. So everything listens on
127.0.0.1, unless the user has started the scheduler.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from kpatch.errors import HarnessError
from kpatch.matrix import worker
from kpatch.matrix.job import Ending, Job, Record
from kpatch.matrix.placing import Placing
from kpatch.matrix.store import missing
from kpatch.tables.outcomes import ExitCode

try:
    import dask
    import distributed
except ImportError as error:
    raise missing("dask") from error

HOST = "127.0.0.1"
ANY_PORT = f"{HOST}:0"
RESOURCE = "VM"
POLL_SECONDS = 1.0
CONNECT_SECONDS = 30

# Seconds without any worker after which the matrix gives up.
PATIENCE = 600.0

# What the client accepts from a worker: text, numbers, lists. It unpickles nothing.
PLAIN = ("msgpack",)


class EndCells(distributed.WorkerPlugin):
    """The plugin of each worker that ends the processes of cancelled tasks."""

    def transition(self, key: str, start: str, finish: str, **_more: Any) -> None:
        """End the job of the task ``key`` if it no longer executes. Dask calls this."""
        if start == "executing" and finish in ("cancelled", "released", "forgotten"):
            worker.RUNNING.stop(str(key))

    def teardown(self, worker: Any) -> None:
        """End all jobs: the worker closes, or has lost its scheduler."""
        del worker
        _stop_all()


def _stop_all() -> None:
    worker.RUNNING.stop_all()


@contextmanager
def local(workers: int) -> Iterator[distributed.Client]:
    """Start a scheduler and ``workers`` worker processes here; yield the client; end them all.

    Each worker runs one job at a time. All of them listen on 127.0.0.1 only. The user's settings of
    Dask do not count, and Dask's files are in a temporary folder.
    """
    dask.config.refresh(paths=[], env={})
    with (
        TemporaryDirectory(prefix="vfio-acpi-dask-") as scratch,
        _settings(),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host=HOST,
            local_directory=scratch,
            dashboard_address=ANY_PORT,
            worker_dashboard_address=ANY_PORT,
            resources={RESOURCE: 1},
            memory_limit=0,  # what a worker needs, its children need, which Dask does not see
            silence_logs=logging.ERROR,
        ) as cluster,
        distributed.Client(cluster, deserializers=PLAIN) as client,
    ):
        yield client


@contextmanager
def remote(address: str) -> Iterator[distributed.Client]:
    """Yield a client of the scheduler at ``address`` ("tcp://host:port").

    HarnessError (exit 2) if there is none.
    """
    with _settings():
        try:
            client = distributed.Client(address, timeout=CONNECT_SECONDS, deserializers=PLAIN)
        except (OSError, ValueError, TypeError) as error:
            raise HarnessError(
                f"--scheduler {address}",
                f"no scheduler answers: {error}",
                hint="name the address that `dask scheduler` prints, tcp://HOST:PORT",
            ) from error
        with client:
            yield client


@contextmanager
def _settings() -> Iterator[None]:
    """Let idle workers steal no tasks: `Placing` decides where a job runs."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with dask.config.set({"distributed.scheduler.work-stealing": False}):
        yield


@dataclass(frozen=True)
class _Task:
    job: Job
    host: str


def run(
    client: distributed.Client, placing: Placing, store_url: str, *, patience: float = PATIENCE
) -> Generator[Record, None, None]:
    """Run the jobs of ``placing``, and yield the record of each when it is known, as it ends.

    The records of jobs that build kernels are left out. When the iteration is ended early (Ctrl-C),
    all tasks are cancelled, and the workers end their processes. HarnessError (exit 7) if the
    scheduler is lost, or there is no worker with the resource VM for ``patience`` seconds.
    """
    client.register_plugin(EndCells(), name="vfio-acpi-end-cells")
    tasks: dict[distributed.Future, _Task] = {}
    numbers: Counter[str] = Counter()
    hosts: set[str] = set()
    seen = time.monotonic()
    try:
        while len(placing) or tasks:
            if client.status != "running":
                raise _lost("the scheduler was lost", "start it")
            slots = _slots(client)
            for host in hosts - slots.keys():
                placing.lost(host)
            hosts = set(slots)
            for host, (addresses, room) in slots.items():
                busy = sum(task.host == host for task in tasks.values())
                for _ in range(room - busy):
                    job = placing.take(host)
                    if job is None:
                        break
                    numbers[job.key] += 1
                    name = f"{job.key}-{numbers[job.key]}"
                    tasks[_submit(client, job, name, addresses, store_url)] = _Task(job, host)
            seen = time.monotonic() if slots else seen
            if time.monotonic() - seen > patience:
                raise _lost(f"no worker with the resource {RESOURCE}", "start workers")
            for future in _ended(tasks):
                task = tasks.pop(future)
                record = _record(future, task)
                future.release()
                placing.ended(task.job, task.host)
                again = record.ending in (Ending.FAILED, Ending.TIMEOUT, Ending.CANCELLED)
                if task.job.kept and not (again and placing.again(task.job)):
                    yield record
    except (CancelledError, OSError) as error:
        raise _lost("the scheduler was lost", "start it") from error
    finally:
        with suppress(Exception):
            client.cancel(list(tasks), force=True)


def _submit(
    client: distributed.Client, job: Job, name: str, addresses: list[str], store_url: str
) -> distributed.Future:
    """Start ``job`` as the task ``name``, on one of the workers at ``addresses`` if they live."""
    return client.submit(
        worker.run,
        job.dump(),
        name,
        store_url,
        key=name,
        workers=addresses,
        allow_other_workers=True,
        resources={RESOURCE: 1},
        pure=False,
    )


def _slots(client: distributed.Client) -> dict[str, tuple[list[str], int]]:
    """Return, by host, the addresses of its workers and how many jobs they can run at a time."""
    slots: dict[str, tuple[list[str], int]] = {}
    for address, facts in client.scheduler_info(n_workers=-1)["workers"].items():
        room = int(facts.get("resources", {}).get(RESOURCE, 0))
        if room:
            addresses, before = slots.get(facts["host"], ([], 0))
            slots[facts["host"]] = ([*addresses, address], before + room)
    return slots


def _ended(tasks: Mapping[distributed.Future, _Task]) -> list[distributed.Future]:
    """Wait until a task has ended, at most POLL_SECONDS; return those that have."""
    with suppress(TimeoutError):
        distributed.wait(list(tasks), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
    return [future for future in tasks if future.done()]


def _record(future: distributed.Future, task: _Task) -> Record:
    """Return the record of a task that has ended; Ending.LOST if its workers died.

    CancelledError if the scheduler was lost.
    """
    lost = Record(task.job.key, task.job.name, Ending.LOST, host=task.host)
    if future.status == "cancelled":
        raise CancelledError
    if future.status == "error":
        why = "the workers that ran it died, one after the other"
    else:
        try:
            return Record.load(future.result())
        except (TypeError, ValueError) as error:
            why = f"the worker's answer is no record: {error}"
    return Record(lost.key, lost.name, lost.ending, host=lost.host, why=why)


def _lost(cause: str, mend: str) -> HarnessError:
    return HarnessError(
        "the matrix",
        cause,
        hint=f"{mend}, and run the same command again: what is done is in the store",
        code=ExitCode.LOST,
    )
