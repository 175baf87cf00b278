# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Wait for a file descriptor in asyncio.

This is a separate module because importing asyncio takes long in an emulated machine, and most
programs of this project do not use it.
"""

from __future__ import annotations

import asyncio

# The descriptors for which a task waits. An event loop keeps one reader per descriptor: a second
# add_reader() silently replaces the first, and the first task would wait for ever.
_waiting: set[int] = set()


async def readable(fd: int) -> None:
    """Wait until ``fd`` is readable. Raises RuntimeError if another task already waits for it."""
    if fd in _waiting:
        raise RuntimeError(f"another task waits for descriptor {fd}")
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, wake)
    _waiting.add(fd)
    try:
        await ready
    finally:
        loop.remove_reader(fd)
        _waiting.discard(fd)
