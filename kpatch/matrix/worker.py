# SPDX-License-Identifier: GPL-2.0-only
"""Run a job as a subprocess, and store its result. Knows nothing of Dask.

Python cannot end a thread, so Dask lets the function of a cancelled task run on, and leaves its
subprocess alone. `stop` ends it: the function waits for its process and for that call at once.
"""

from __future__ import annotations

import os
import platform
import select
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache, environment, process, sanitize
from kpatch.matrix.job import INPUTS, OUT, PYTHON, Ending, Job, Record, ending
from kpatch.matrix.store import LARGEST, Store
from kpatch.tables.paths import CODE, PROJECT

LOG = "cell.log"
MOST_FILES = 2000
SLOTS = 256

# What a command gets of the worker's environment, beside that of every program.
PASSED_ON = (cache.ENVIRONMENT, "XDG_CACHE_HOME")


class Running:
    """The jobs that this process runs now: by name, an eventfd that ends the job when written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: dict[str, int] = {}

    @contextmanager
    def job(self, name: str) -> Iterator[int]:
        """Yield a file descriptor that becomes readable when the job ``name`` has to end."""
        descriptor = os.eventfd(0, os.EFD_CLOEXEC)
        with self._lock:
            self._stops[name] = descriptor
        try:
            yield descriptor
        finally:
            with self._lock:
                del self._stops[name]
            os.close(descriptor)

    def stop(self, name: str) -> None:
        """End the job ``name``, if it runs. Does not wait."""
        with self._lock:
            if name in self._stops:
                os.eventfd_write(self._stops[name], 1)

    def stop_all(self) -> None:
        """End all jobs. Does not wait."""
        for name in list(self._stops):
            self.stop(name)


RUNNING = Running()


def run(text: str, name: str, store_url: str) -> str:
    """Run the job of the JSON ``text``, and return its record as JSON. Does not raise.

    ``name`` is the name for `Running.stop`. A job that is in the store is not run. A result is
    stored before it is returned, so that it is kept if nobody waits for it any more.
    """
    job = Job.load(text)
    failed = Record(job.key, job.name, Ending.FAILED, host=platform.node())
    try:
        with RUNNING.job(name) as stop:
            store = Store(store_url)
            found = store.record(job.key) if job.kept else None
            return (found or _run(job, stop, store)).dump()
    except HarnessError as error:
        return replace(failed, why=str(error)).dump()
    except Exception as error:  # the store's file system may raise anything
        return replace(failed, why=sanitize.line(f"{type(error).__name__}: {error}")).dump()


def _run(job: Job, stop: int, store: Store) -> Record:
    with (
        tempfile.TemporaryDirectory(prefix="vfio-acpi-cell.", ignore_cleanup_errors=True) as folder,
        _inputs(job, store) as inputs,
    ):
        top = Path(folder)
        out, log = top / "out", top / LOG
        out.mkdir()
        project = _copied(job.changed, top / "project") if job.changed else PROJECT
        words = {PYTHON: sys.executable, OUT: str(out), INPUTS: str(inputs)}
        argv = [_filled(word, words) for word in job.argv]
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        began = time.monotonic()
        with (
            log.open("wb") as output,
            # KILL, not TERM: the job starts again elsewhere at once, and its children in turn end
            # with it.
            process.child(
                argv,
                cwd=project,
                env=environment.clean(**passed, **job.env),
                stdout=output,
                stderr=subprocess.STDOUT,
                parent_death="KILL",
            ) as child,
        ):
            ended = _wait(child, stop, job.limit)
        seconds = round(time.monotonic() - began, 2)
        record = Record(job.key, job.name, ended, seconds=seconds, host=platform.node())
        if ended is not Ending.DONE:
            why = f"took longer than {job.limit:.0f} s" if ended is Ending.TIMEOUT else ""
            return replace(record, why=why or "its task was cancelled")
        code = child.returncode
        record = replace(record, code=code, ending=ending(code))
        if record.ending is not Ending.DONE:
            record = replace(record, why=_last_line(log) or process.ending(code))
        if not job.kept:
            return record
        record = _stored(record, out, log, store)
        if record.ending is Ending.DONE:
            store.finish(record)
        return record


def _copied(changed: Mapping[str, str], folder: Path) -> Path:
    """Copy the project to ``folder`` with the text of ``changed`` files; return the folder."""
    folder.mkdir()
    for path in PROJECT.iterdir():
        if path.name in CODE:
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.suffix in (".lock", ".toml"):
            shutil.copy(path, folder)
    for name, text in changed.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def _wait(child: subprocess.Popen[bytes], stop: int, limit: float) -> Ending:
    """Wait until ``child`` has ended, ``stop`` is readable (CANCELLED), or the limit is over."""
    descriptor = os.pidfd_open(child.pid)
    try:
        ready = select.select([descriptor, stop], [], [], limit)[0]
    finally:
        os.close(descriptor)
    if stop in ready:
        return Ending.CANCELLED
    if not ready:
        return Ending.TIMEOUT
    child.wait()
    return Ending.DONE


def _filled(word: str, words: dict[str, str]) -> str:
    """Return ``word`` with its placeholders replaced; a value is not looked at again."""
    for name, value in words.items():
        if name in word:
            before, _, after = word.partition(name)
            return before + value + after
    return word


@contextmanager
def _inputs(job: Job, store: Store) -> Iterator[Path | None]:
    """Write the input files of ``job`` to a folder in the cache, and yield it; None if none.

    The cache has a worktree for each path of a mailbox. So the folder is the first that no other
    job uses: the next job finds a worktree in which only little differs.
    """
    if not job.inputs:
        yield None
        return
    for number in range(SLOTS):
        with ExitStack() as stack:
            try:
                stack.enter_context(cache.locked(f"matrix-{number}", wait=False))
            except cache.CacheError:
                raise
            except HarnessError:
                continue
            folder = cache.folder("matrix") / str(number)
            folder.mkdir(exist_ok=True)
            for name, digest in job.inputs.items():
                (folder / Path(name).name).write_bytes(store.get(digest))
            yield folder
            return
    raise HarnessError(
        "the matrix", f"{SLOTS} jobs with input files run on this host", hint="start fewer workers"
    )


def _stored(record: Record, out: Path, log: Path, store: Store) -> Record:
    """Store the files of a job, and return the ``record`` with them."""
    files: dict[str, str] = {}
    left_out: list[str] = []
    for name, path in [(LOG, log), *_files(out)]:
        if path.stat().st_size <= LARGEST and len(files) < MOST_FILES:
            files[name] = store.put(path.read_bytes())
        else:
            left_out.append(name)
    return replace(record, files=files, left_out=tuple(left_out))


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Return the regular files below ``folder``, sorted by name. Links are not followed."""
    found = []
    for parent, _, names in os.walk(folder):
        paths = [Path(parent) / name for name in names]
        found += [path for path in paths if stat.S_ISREG(path.lstat().st_mode)]
    return sorted((str(path.relative_to(folder)), path) for path in found)


def _last_line(log: Path) -> str:
    """Return the last line of ``log`` that is not blank; "" if there is none."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line for line in map(sanitize.line, reversed(lines)) if line), "")
