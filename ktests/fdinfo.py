# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel tells of an eventfd: eventfd_show_fdinfo() in fs/eventfd.c."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol


class HasFileno(Protocol):
    """A file."""

    def fileno(self) -> int:
        """Its descriptor."""


def counter(eventfd: HasFileno) -> int:
    """What a read would return; 0 if it would wait. Reads nothing."""
    return int(_fields(eventfd.fileno())["eventfd-count"], 16)


def free_contexts(count: int = 128) -> frozenset[int]:
    """The lowest numbers that no eventfd's context has.

    The kernel numbers contexts (``eventfd-id``), a new one by the lowest number that is free, and
    a number is free again when the context was freed: not when the file was closed, if the
    kernel still holds a reference. So a context that is still there, whoever holds it, is missing
    here; if the same numbers are free before and after something, then that has left
    none, as long as it never had more than ``count`` at a time. (An IDA, in 6.1 as in 7.3. It says
    nothing of other memory, for instance of what refers to the context.)
    """
    with ExitStack() as stack:
        files = []
        for _ in range(count):
            files.append(os.eventfd(0))
            stack.callback(os.close, files[-1])
        return frozenset(int(_fields(file)["eventfd-id"]) for file in files)


def _fields(file: int) -> dict[str, str]:
    lines = Path(f"/proc/self/fdinfo/{file}").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
