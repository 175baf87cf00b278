# SPDX-License-Identifier: GPL-2.0-only
"""The matrix on real workers of Dask. The cells are small processes, no kernels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest
from dask import config as settings

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.matrix import cluster, worker
from kpatch.matrix.job import OUT, Ending, Job, Record
from kpatch.matrix.placing import TRIES, Placing
from kpatch.matrix.store import Store
from kpatch.tables.outcomes import ExitCode

ROOT = Path(__file__).parent.parent
SECONDS = 30.0

# A cell: it writes its pid and that of its child, takes its time, and has a result.
CELL = 'echo $$ >> "$2.pids"; sleep "$3" & echo $! >> "$2.pids"; wait; echo "$2" >> "$1/result"'


class Cells:
    """Makes jobs, and knows which of them have been started, how often."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def job(self, number: int, seconds: float = 0.2, **more: Any) -> Job:
        """Return a job that takes ``seconds``; every second one shares a kernel."""
        name = f"cell-{number}"
        argv = ("sh", "-c", CELL, "sh", OUT, str(self.folder / name), str(seconds))
        wanted = {"kernel": f"kernel {number % 2}", "limit": SECONDS, **more}
        return Job(cache.digest([name]), name, argv, **wanted)

    def started(self) -> Counter[str]:
        """Return how often each job was started."""
        return Counter(
            {it.stem: len(it.read_text().splitlines()) // 2 for it in self.folder.glob("*.pids")}
        )

    def running(self) -> list[int]:
        """Return the processes of jobs that are alive."""
        pids = [int(pid) for it in self.folder.glob("*.pids") for pid in it.read_text().split()]
        return [pid for pid in pids if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def within(condition: Callable[[], bool], seconds: float = SECONDS) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def builds(cells: Cells, count: int) -> dict[str, Job]:
    """Return the jobs that build the kernels of the jobs."""
    made = (cells.job(1000 + number, kept=False) for number in range(count))
    return {
        f"kernel {number}": Job(**{**vars(it), "kernel": f"kernel {number}"})
        for number, it in enumerate(made)
    }


def results(records: Sequence[Record]) -> dict[str, tuple[object, ...]]:
    """Return of each record what has to be the same wherever the job ran."""
    return {it.name: (it.key, it.ending, it.code, dict(it.files), it.left_out) for it in records}


@pytest.fixture
def cells(tmp_path: Path) -> Cells:
    return Cells(tmp_path / "cells")


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture(scope="module", autouse=True)
def no_tracker() -> Iterator[None]:
    """End the process that multiprocessing starts for this one and ends only at its exit.

    Other tests look for processes that a command has left.
    """
    yield
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two worker processes, for the tests that leave them as they were."""
    with cluster.local(2) as client:
        yield client


def test_a_killed_worker_changes_nothing(cells: Cells, store: str) -> None:
    """Compared with a sequential run; one of two workers is killed while it runs a cell."""
    jobs = [cells.job(number, seconds=0.5) for number in range(12)]
    expected = [Record.load(worker.run(job.dump(), job.key, f"{store}-1")) for job in jobs]
    before = cells.started()
    killed: dict[int, int] = {}

    def held(pids: set[int]) -> bool:
        """Stop a cell of one of the workers ``pids``, so that it cannot end before its worker."""
        for pid in cells.running():
            victim = _parent(pid)
            with suppress(ProcessLookupError):
                if victim in pids:
                    os.kill(pid, signal.SIGSTOP)
                    if alive(pid):
                        killed[victim] = pid
                        return True
        return False

    def kill(pids: set[int]) -> None:
        """Kill the first of the workers ``pids`` that runs a cell."""
        assert within(lambda: held(pids))
        os.kill(next(iter(killed)), signal.SIGKILL)

    with cluster.local(2) as client:
        workers = {nanny.pid for nanny in client.cluster.workers.values()}
        found = cluster.run(client, Placing(jobs, builds(cells, 2)), store)
        records = [next(found)]
        killer = threading.Thread(target=kill, args=(workers,))
        killer.start()
        records += found
        killer.join()
        [(victim, pid)] = killed.items()
        assert within(lambda: not alive(pid)), "its cell ends with it"
        assert victim not in {nanny.pid for nanny in client.cluster.workers.values()}
    assert results(records) == results(expected)
    started = cells.started() - before
    assert sum(started[job.name] for job in jobs) == len(jobs) + 1, "one cell was started twice"
    assert all(Store(store).record(job.key) for job in jobs)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_kernels_are_built_once(client: Any, cells: Cells, store: str) -> None:
    jobs = [cells.job(number) for number in range(6)]
    records = list(cluster.run(client, Placing(jobs, builds(cells, 2)), store))
    assert {it.ending for it in records} == {Ending.DONE}
    assert cells.started() == Counter(
        {**{job.name: 1 for job in jobs}, "cell-1000": 1, "cell-1001": 1}
    )


def test_a_cancelled_cell_leaves_no_process(client: Any, cells: Cells, store: str) -> None:
    jobs = [cells.job(number, seconds=600 if number else 0, limit=900) for number in range(4)]
    jobs[0] = Job(**{**vars(jobs[0]), "seconds": 9.0})  # the longest: it is started first
    found = cluster.run(client, Placing(jobs, {}), store)
    assert next(found).name == "cell-0"
    assert within(lambda: len(cells.running()) >= 2), "a cell and its child"
    found.close()
    assert within(lambda: not cells.running())
    # The workers are still there, and take other jobs.
    [record] = cluster.run(client, Placing([cells.job(7)], {}), store)
    assert record.ending is Ending.DONE


def test_a_cell_that_hangs_is_ended(client: Any, cells: Cells, store: str) -> None:
    jobs = [cells.job(1, seconds=600, limit=3), cells.job(2)]
    records = {it.name: it for it in cluster.run(client, Placing(jobs, {}), store)}
    assert records["cell-1"].ending is Ending.TIMEOUT
    assert records["cell-2"].ending is Ending.DONE
    assert cells.started() == {"cell-1": TRIES, "cell-2": 1}
    assert not cells.running()
    assert Store(store).record(jobs[0].key) is None


def test_everything_listens_on_the_loopback_only(client: Any) -> None:
    pids = [os.getpid(), *(nanny.pid for nanny in client.cluster.workers.values())]
    found = [address for pid in pids for address in listening(pid)]
    assert len(found) >= 6, "scheduler, two nannies, two workers, and pages"
    assert {address.partition(":")[0] for address in found} == {"0100007F"}


def listening(pid: int) -> list[str]:
    """Return the addresses on which the process listens, as /proc/net/tcp has them."""
    links = []
    for it in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(it.readlink()))
    inodes = {it[8:-1] for it in links if it.startswith("socket:[")}
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]


def test_answers_are_not_unpickled(client: Any) -> None:
    assert client.submit(eval, "'text'", pure=False).result(SECONDS) == "text"
    answer = client.submit(eval, "__import__('fractions').Fraction(1, 2)", pure=False)
    with pytest.raises(TypeError, match=r"msgpack|serializ"):
        answer.result(SECONDS)


@contextmanager
def dask(program: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of Dask until the end of the block."""
    argv = [sys.executable, "-m", f"distributed.cli.dask_{program}", *words]
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def scheduler(folder: Path, name: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a scheduler with a worker, both processes; yield the former and its address."""
    file = folder / f"{name}.json"
    here = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
    with dask("scheduler", *here, "--scheduler-file", str(file)) as process:
        assert within(lambda: file.is_file() and file.stat().st_size > 0)
        time.sleep(0.1)
        address = str(json.loads(file.read_text())["address"])
        one = ("--nthreads", "1", "--resources", "VM=1", "--host", "127.0.0.1")
        with dask("worker", address, *one, "--no-dashboard"):
            yield process, address


def test_a_restarted_scheduler_goes_on_with_the_store(
    cells: Cells, store: str, tmp_path: Path
) -> None:
    jobs = [cells.job(number, seconds=0.4) for number in range(6)]
    done: list[Record] = []
    with scheduler(tmp_path, "first") as (process, address), cluster.remote(address) as client:
        found = cluster.run(client, Placing(jobs, {}), store)
        with pytest.raises(HarnessError, match="scheduler was lost") as lost:
            for record in found:
                done.append(record)
                if len(done) == 2:
                    process.kill()
        assert lost.value.code is ExitCode.LOST
        assert within(lambda: not cells.running())
    kept = {job.name for job in jobs if Store(store).record(job.key)}
    assert {it.name for it in done} <= kept < {job.name for job in jobs}
    before = cells.started()
    with scheduler(tmp_path, "second") as (_, address), cluster.remote(address) as client:
        records = list(cluster.run(client, Placing(jobs, {}), store))
    assert {it.name: it.ending for it in records} == {job.name: Ending.DONE for job in jobs}
    assert not {
        name for name, times in (cells.started() - before).items() if name in kept and times
    }


def test_no_scheduler_is_one_line() -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(HarnessError, match="no scheduler answers") as refused,
    ):
        patch.setattr(cluster, "CONNECT_SECONDS", 1)
        with cluster.remote("tcp://127.0.0.1:9"):
            pass
    assert refused.value.code is ExitCode.USAGE


def test_no_worker_is_one_line(store: str, cells: Cells) -> None:
    with (
        cluster.local(0) as client,
        pytest.raises(HarnessError, match="no worker with the resource VM") as refused,
    ):
        list(cluster.run(client, Placing([cells.job(1)], {}), store, patience=1))
    assert refused.value.code is ExitCode.LOST


def test_the_users_settings_and_folders_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__MEMORY__TARGET", "0.1")
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(tmp_path / "dask"))
    settings.refresh()
    with cluster.local(1) as client:
        client.wait_for_workers(1)
        [folder] = (
            Path(it["local_directory"]) for it in client.scheduler_info()["workers"].values()
        )
        assert settings.get("distributed.worker.memory.target") > 0.1
        assert folder.is_dir()
        assert "vfio-acpi-dask-" in str(folder)
    assert not folder.exists()
    assert not (tmp_path / "dask").exists()
