# SPDX-License-Identifier: GPL-2.0-only
"""Run a function in a thread of its own while the test goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

# A generous limit: if something takes longer than this, the kernel or the test is at fault.
SECONDS = 30.0


class Task:
    """A thread that calls ``action`` once. It starts when this object is created.

    The thread is a daemon, so that the suite can end even if a broken kernel never lets ``action``
    return.
    """

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """True until ``action`` has returned or raised."""
        return self._thread.is_alive()

    def join(self, seconds: float = SECONDS) -> None:
        """Wait until the thread ends. Raises the exception that ``action`` raised, if any.

        AssertionError if the thread does not end within ``seconds``.
        """
        self._thread.join(seconds)
        assert not self.running, f"still not done after {seconds:g} s"
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._action()
        except BaseException as error:  # join() raises it
            self._error = error
