# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's log: read the messages from a given moment on, and write messages.

A read(2) of /dev/kmsg returns one record, ``prio,number,time,flags;text``, and further lines that
are ignored. Source: Documentation/ABI/testing/dev-kmsg.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

FILE = Path("/dev/kmsg")
RECORD_SIZE = 1 << 13

# The kernel refuses a longer write(2) than about 1,000 bytes (LOG_LINE_MAX, PRINTKRB_RECORD_MAX).
PIECE_SIZE = 900


def write(text: str, path: Path = FILE) -> None:
    """Write the lines of ``text`` into the log, at the level of a notice.

    Each line is a record, a long one several. Unlike what a process prints on the console, they do
    not wait in the buffer of a terminal. ``path`` has to exist.
    """
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        for line in text.splitlines():
            data = line.encode(errors="backslashreplace")
            for begin in range(0, len(data) or 1, PIECE_SIZE):
                os.write(file, b"<5>%s\n" % data[begin : begin + PIECE_SIZE])
    finally:
        os.close(file)


class KernelLog:
    """The messages that the kernel logs after this object was created. A context manager."""

    def __init__(self, path: Path = FILE) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._file, 0, os.SEEK_END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def said(self, text: str) -> list[str]:
        """Return the messages that contain ``text``, of those that were logged since the last call.

        The first call covers the messages since the object was created. Each call consumes all
        messages, also those without ``text``. BrokenPipeError if the kernel has overwritten
        messages that were not read yet.
        """
        return [message for message in self._messages() if text in message]

    def _messages(self) -> list[str]:
        messages = []
        with suppress(BlockingIOError):
            while True:
                # BrokenPipeError (messages were overwritten) is not caught: the result would have
                # a gap.
                record = os.read(self._file, RECORD_SIZE).decode("utf-8", "replace")
                messages.append(record.split("\n", 1)[0].partition(";")[2])
        return messages
