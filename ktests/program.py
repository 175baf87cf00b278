# SPDX-License-Identifier: GPL-2.0-only
"""Run programs of user space beside the tests: the library's (``python -m uapi``) and others."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

# Programs start slowly under emulation, from a file system without a cache.
START_SECONDS = 40.0
LINE_SECONDS = 10.0


class Program:
    """A running program. Its output can be read line by line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._rest = b""

    @property
    def pid(self) -> int:
        """The process id of the program."""
        return self._process.pid

    def line(self, seconds: float = LINE_SECONDS) -> str:
        """Return the next line of the output without its line feed.

        AssertionError if no line comes within ``seconds``, or if the program ends before.
        """
        assert self._process.stdout is not None
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            assert ready, f"no line after {seconds:g} s, but {self._rest!r}"
            more = os.read(self._process.stdout.fileno(), 4096)
            assert more, f"it ended with {self._process.wait(LINE_SECONDS)}: {self._rest!r}"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def events(self, count: int) -> Iterator[dict[str, Any]]:
        """Read ``count`` lines of the output, decode each as a JSON object and yield it."""
        for _ in range(count):
            yield json.loads(self.line())

    def wait(self) -> int:
        """Wait until the program ends and return its exit code.

        TimeoutExpired if it does not end within `LINE_SECONDS`.
        """
        return self._process.wait(LINE_SECONDS)

    def end(self) -> int:
        """Send SIGTERM to the program, then do the same as `wait`."""
        self._process.terminate()
        return self.wait()


@contextmanager
def started(*command: str | Path, pass_fds: Collection[int] = ()) -> Iterator[Program]:
    """Start ``command`` and yield it; kill it at the end of the block.

    It can import what this process can, and inherits the descriptors ``pass_fds``.
    """
    process = subprocess.Popen(
        command,
        pass_fds=pass_fds,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def uapi(*arguments: str) -> AbstractContextManager[Program]:
    """Start ``python -m uapi`` with ``arguments``, as `started` does."""
    return started(sys.executable, "-S", "-s", "-m", "uapi", *arguments)
