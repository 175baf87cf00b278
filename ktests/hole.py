# SPDX-License-Identifier: GPL-2.0-only
"""Memory that ends at a page boundary, in front of a page that the kernel cannot access."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def before_a_hole(text: bytes) -> Iterator[memoryview]:
    """Yield a view of ``text`` in memory that is followed by a page without memory.

    The page directly after ``text`` is mapped, but lies beyond the end of the mapped file, so that
    a system call that reads or writes there fails with EFAULT. The page is part of the view.
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
