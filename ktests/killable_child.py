# SPDX-License-Identifier: GPL-2.0-only
"""A child process that a test kills, to see what it leaves behind in the kernel."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from ktests.task import SECONDS

Say = Callable[[], None]


class KillableChild:
    """A forked child process that calls ``life``. A context manager, which kills it at its end.

    ``life`` gets a function as its argument, and calls this function to report that it has reached
    a step. When ``life`` returns or raises, the child ends.
    """

    def __init__(self, life: Callable[[Say], None]) -> None:
        self.heard, write_end = os.pipe()
        self._process = os.fork()
        if not self._process:
            _live(life, write_end)
        os.close(write_end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        os.close(self.heard)

    def wait(self) -> None:
        """Wait until the child reports its next step.

        AssertionError if the child ends instead, with the text of its exception if it raised one,
        or if the child reports nothing within `SECONDS`.
        """
        assert select.select([self.heard], [], [], SECONDS)[0], "the child does not get that far"
        word = os.read(self.heard, 1)
        assert word == b"+", (word + os.read(self.heard, 1 << 12)).decode() or "the child died"

    def kill(self) -> None:
        """Kill the child and wait until it has ended and its files are closed.

        AssertionError if it has not ended within `SECONDS`. A second call does nothing.
        """
        if not self._process:
            return
        process, self._process = self._process, 0
        gone = os.pidfd_open(process)
        try:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            assert select.select([gone], [], [], SECONDS)[0], "the child does not die"
            os.waitpid(process, 0)
        finally:
            os.close(gone)


def _live(life: Callable[[Say], None], write_end: int) -> None:
    try:
        life(lambda: _say(write_end, b"+"))
    except BaseException as error:  # wait() reports it in the parent
        _say(write_end, f"{type(error).__name__}: {error}".encode())
    finally:
        # os._exit(), unlike an exception, skips the clean-up of pytest and of the test's fixtures,
        # which is the parent's.
        os._exit(1)


def _say(write_end: int, word: bytes) -> None:
    os.write(write_end, word)
