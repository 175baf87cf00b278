# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Open devices in threads, so that the broker's loop does not wait for the reset of a device.

Each user has a thread, which opens the user's devices one after the other: a device that takes long
keeps nobody else waiting, and a user costs the descriptors of one device at a time.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import NoReturn

from ..closing import Closing
from .handover import Handover
from .policy import Grant

Opener = Callable[[Grant], Handover]
Outcome = Handover | Exception


@dataclass
class _Job:
    """A device to open. ``answer`` is called with the outcome in the loop's thread."""

    grant: Grant
    answer: Callable[[Outcome], None]
    outcome: Outcome | None = None
    answered: threading.Event = field(default_factory=threading.Event)


class Opening(Closing):
    """Opens devices by ``opener``, each in the thread of its user.

    The loop has to call `finish` when the descriptor is readable. `close` does not wait for a
    device that is being opened: its thread closes it.
    """

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._queues: dict[int, SimpleQueue[_Job | None]] = {}
        self._done: deque[_Job] = deque()
        self._closed = False
        self._lock = threading.Lock()
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Return the descriptor. It is readable when `finish` has something to do."""
        return self._event

    def open(self, grant: Grant, answer: Callable[[Outcome], None]) -> None:
        """Open the device. `finish` calls ``answer`` with it, or with the exception of the opener.

        The device is closed after that. RuntimeError if the system has no thread left.
        """
        queue = self._queues.get(grant.uid)
        if queue is None:
            queue = SimpleQueue()
            threading.Thread(target=self._work, args=(queue,), daemon=True).start()
            self._queues[grant.uid] = queue
        queue.put(_Job(grant, answer))

    def finish(self) -> None:
        """Answer for the devices that have been opened since the last call."""
        os.eventfd_read(self._event)
        while self._done:
            job = self._done.popleft()
            assert job.outcome is not None
            try:
                job.answer(job.outcome)
            finally:
                job.answered.set()

    def close(self) -> None:
        """End the threads, each after what it does now."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._event)
        for job in self._done:
            job.answered.set()
        for queue in self._queues.values():
            queue.put(None)

    def _work(self, queue: SimpleQueue[_Job | None]) -> None:
        while (job := queue.get()) is not None and not self._closed:
            try:
                job.outcome = self._opener(job.grant)
            except Exception as error:
                job.outcome = error
            if self._tell(job):
                job.answered.wait()
            if isinstance(job.outcome, Exception):
                continue
            # The last descriptor of a device that no VMM has taken: closing resets it too.
            try:
                job.outcome.close()
            except Exception as error:
                self._tell(_Job(job.grant, _raised, error))

    def _tell(self, job: _Job) -> bool:
        """Wake the loop; return whether there is one, which will answer."""
        with self._lock:
            if not self._closed:
                self._done.append(job)
                os.eventfd_write(self._event, 1)
            return not self._closed


def _raised(outcome: Outcome) -> NoReturn:
    assert isinstance(outcome, Exception)
    raise outcome
