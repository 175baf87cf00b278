# SPDX-License-Identifier: GPL-2.0-only
"""Read the state of an eventfd from /proc/self/fdinfo (eventfd_show_fdinfo() in fs/eventfd.c)."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol


class HasFileno(Protocol):
    """An object that has a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


def counter(eventfd: HasFileno) -> int:
    """Return the counter of an eventfd from procfs. A read(2) would reset the counter."""
    return int(_fields(eventfd.fileno())["eventfd-count"], 16)


def free_contexts(count: int = 128) -> frozenset[int]:
    """Return the ``count`` lowest ids (``eventfd-id``) that no eventfd context has.

    Opens ``count`` eventfds, reads their ids and closes them. The kernel gives each new context the
    lowest free id (an IDA, in 6.1 as in 7.3). An id is free again when the context is freed, which
    is later than the file is closed if the kernel still holds a reference. So the id of every
    context that still exists is missing in the result. If the result is the same before and after
    an operation, the operation has leaked no context, provided that it never had more than
    ``count`` contexts at a time. Other memory, for example an object that refers to a context, may
    still be leaked.
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
