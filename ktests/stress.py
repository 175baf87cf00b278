# SPDX-License-Identifier: GPL-2.0-only
"""Threads that concurrently use a device and the eventfds of its VFIO_PCI_ACPI_IRQ_INDEX."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Self

from ktests.task import Task
from uapi import vfio
from uapi.errors import UapiError
from uapi.eventfd import EventFd


class Stress:
    """Threads that use the ACPI index of ``device`` until the end of the ``with`` block.

    They start when this object is created. Two threads set eventfds and cause loopbacks on some of
    them, and each other thread repeats one operation: de-assign by the
    descriptor -1, de-assign by count 0, cause a loopback, read. The threads are not synchronized:
    each may find the device closed, no eventfd set, another thread's eventfd set, or the number of
    a closed descriptor reused. `done` counts by name how often each operation succeeded.
    """

    # EINVAL: no eventfd is set, or the descriptor is no eventfd. EBADF: the descriptor is closed.
    # ENOTTY: the number of the device's descriptor belongs to another file.
    RIGHT = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTTY})

    def __init__(self, device: vfio.Device) -> None:
        self.done: Counter[str] = Counter()
        self._device = device
        self._stop = threading.Event()
        self._current: EventFd | None = None
        acts = (self._arm, self._arm, self._disarm, self._tear_down, self._loop_back, self._read)
        self._tasks = [Task(partial(self._run, act)) for act in acts]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads and wait for them. Raises the exception of a thread that failed."""
        self._stop.set()
        for task in self._tasks:
            task.join()

    def _run(self, act: Callable[[int], None]) -> None:
        for number in count():
            if self._stop.is_set():
                return
            try:
                act(number)
                self.done[act.__name__.strip("_")] += 1
            except UapiError as error:
                if error.errno not in self.RIGHT:
                    raise

    def _arm(self, number: int) -> None:
        with EventFd() as first:
            self._current = first
            self._device.arm(first)
            if number % 2:
                self._device.loopback()
            if number % 3:
                with EventFd() as second:
                    self._device.arm(second)
                    self._current = second
                    first.close()

    def _disarm(self, _: int) -> None:
        self._device.disarm()
        os.sched_yield()

    def _tear_down(self, _: int) -> None:
        self._device.teardown()

    def _loop_back(self, _: int) -> None:
        self._device.loopback()

    def _read(self, _: int) -> None:
        # The eventfd may already be closed.
        with suppress(OSError, ValueError):
            if self._current is not None:
                self._current.read()
        os.sched_yield()


def race(
    bdf: str,
    acts: Mapping[str, Callable[[vfio.Device], object]],
    disturb: Callable[[], object],
    *,
    overtaken: Collection[int],
    seconds: float,
) -> Counter[str]:
    """Repeat each of ``acts`` on the device ``bdf`` in a thread of its own, in rounds.

    In each round the device is opened anew, and ``disturb`` is called while the threads run; in
    every second one the device is closed before they end. The errnos ``overtaken`` mean that
    another thread was faster; any other UapiError is raised. Rounds begin for ``seconds``. Returns
    how often each act succeeded, by name, and the number of rounds as "rounds".
    """
    done: Counter[str] = Counter()
    stop = threading.Event()

    def repeat(name: str, device: vfio.Device) -> None:
        while not stop.is_set():
            try:
                acts[name](device)
                done[name] += 1
            except UapiError as error:
                if error.errno not in overtaken:
                    raise
            os.sched_yield()

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stop.clear()
        with vfio.Device.open(bdf) as device:
            tasks = [Task(partial(repeat, name, device)) for name in acts]
            disturb()
            if done["rounds"] % 2:
                device.close()
            stop.set()
            for task in tasks:
                task.join()
        done["rounds"] += 1
    return done
