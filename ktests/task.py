# SPDX-License-Identifier: GPL-2.0-only
"""Something that goes on in a thread of its own while the test does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable

# A limit, no figure: a test that waits for longer has found a fault.
SECONDS = 30.0


class Task:
    """Calls ``action`` once, in a thread of its own, which starts at once.

    The thread is a daemon: if a broken kernel never lets ``action`` return, the suite can end all
    the same.
    """

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it has not returned yet."""
        return self._thread.is_alive()

    def join(self, seconds: float = SECONDS) -> None:
        """Wait for it; AssertionError if it takes longer, and whatever it raised."""
        self._thread.join(seconds)
        assert not self.running, f"still not done after {seconds:g} s"
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._action()
        except BaseException as error:  # whoever joins gets it
            self._error = error
