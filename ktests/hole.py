# SPDX-License-Identifier: GPL-2.0-only
"""Memory in front of a page at which the kernel finds none."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def before_a_hole(text: bytes) -> Iterator[memoryview]:
    """Yield a view of memory that starts with ``text`` and continues in an unreadable page.

    The page after ``text`` lies beyond the end of the mapped file, so that the kernel gets EFAULT
    when it reads from there.
    """
    page = mmap.PAGESIZE
    file = os.memfd_create("cut off")
    try:
        os.ftruncate(file, 2 * page)
        with mmap.mmap(file, 2 * page) as memory:
            memory[page - len(text) : page] = text
            os.ftruncate(file, page)
            with memoryview(memory) as whole, whole[page - len(text) :] as view:
                yield view
    finally:
        os.close(file)
