# SPDX-License-Identifier: GPL-2.0-only
"""Where things run: the AML that notifies, and with it the handlers.

Since Linux 6.8 acpi_os_execute() has a handler run on the CPU that the interpreter is on when it
comes to a Notify, before that on CPU 0 (drivers/acpi/osl.c).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

from ktests.task import Task

# acpi_aml_create_thread(), drivers/acpi/acpi_dbg.c
INTERPRETER = "aml"
# Long enough for some handlers to be queued, short enough for many moves in a burst.
STAY_SECONDS = 0.002


def interpreter() -> int:
    """The kernel thread that runs the debugger's commands; LookupError if there is none."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            name = comm.read_text().strip()
        except OSError:  # it has ended
            continue
        if name == INTERPRETER:
            return int(comm.parent.name)
    raise LookupError(f"no thread is called {INTERPRETER}")


@contextmanager
def pinned(task: int, cpus: Collection[int]) -> Iterator[None]:
    """Let a task run on these CPUs only."""
    before = os.sched_getaffinity(task)
    os.sched_setaffinity(task, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(task, before)


@contextmanager
def moving(task: int) -> Iterator[None]:
    """Move a task from CPU to CPU, so that what it queues is handled on several at once."""
    before = os.sched_getaffinity(task)
    stop = threading.Event()

    def move() -> None:
        for cpu in cycle(sorted(before)):
            if stop.is_set():
                return
            os.sched_setaffinity(task, {cpu})
            time.sleep(STAY_SECONDS)

    mover = Task(move)
    try:
        yield
    finally:
        stop.set()
        mover.join()
        os.sched_setaffinity(task, before)
