# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's log from some moment on.

Source: Documentation/ABI/testing/dev-kmsg: one record a read, ``prio,number,time,flags;text``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

FILE = Path("/dev/kmsg")
RECORD_SIZE = 1 << 13


class KernelLog:
    """What the kernel says from now on; a context manager."""

    def __init__(self, path: Path = FILE) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._file, 0, os.SEEK_END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def said(self, text: str) -> list[str]:
        """Return the messages that contain ``text``, of those logged since the last call.

        The first call begins where the object was made. A later call does not return the other
        messages any more. BrokenPipeError if the kernel overwrote messages before they were read.
        """
        return [message for message in self._messages() if text in message]

    def _messages(self) -> list[str]:
        messages = []
        with suppress(BlockingIOError):
            while True:
                # Raises BrokenPipeError if messages were overwritten: then nothing can be said.
                record = os.read(self._file, RECORD_SIZE).decode("utf-8", "replace")
                messages.append(record.split("\n", 1)[0].partition(";")[2])
        return messages
