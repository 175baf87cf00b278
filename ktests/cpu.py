# SPDX-License-Identifier: GPL-2.0-only
"""Select the CPUs on which AML runs, and thereby the CPUs on which Notify handlers run.

Since Linux 6.8 acpi_os_execute() (drivers/acpi/osl.c) queues a Notify handler on the CPU on which
the AML interpreter executes the Notify operator. Before Linux 6.8 all handlers run on CPU 0.
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

# The name of the thread that acpi_aml_create_thread() starts (drivers/acpi/acpi_dbg.c).
INTERPRETER = "aml"
# The time that `moving` leaves a task on a CPU: long enough for some handlers to be queued, short
# enough for many moves in a burst.
STAY_SECONDS = 0.002


def interpreter() -> int:
    """Return the process id of the kernel thread that runs the ACPI debugger's commands, and AML.

    LookupError if there is none, since the debugger is not open.
    """
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            name = comm.read_text().strip()
        except OSError:  # the process has ended
            continue
        if name == INTERPRETER:
            return int(comm.parent.name)
    raise LookupError(f"no thread is called {INTERPRETER}")


@contextmanager
def pinned(task: int, cpus: Collection[int]) -> Iterator[None]:
    """Restrict the task with the process id ``task`` to ``cpus`` for the length of the block."""
    before = os.sched_getaffinity(task)
    os.sched_setaffinity(task, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(task, before)


@contextmanager
def moving(task: int) -> Iterator[None]:
    """Move the task with the process id ``task`` from CPU to CPU for the length of the block.

    Since Linux 6.8 the Notify handlers that the task queues in the block may run on several CPUs at
    once.
    """
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
