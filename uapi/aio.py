# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Wait for a file descriptor in asyncio.

This is a separate module because importing asyncio takes long in an emulated machine, and most
programs of this project do not use it.
"""

from __future__ import annotations

import asyncio
import os

from .waiting import Waiters


async def others() -> None:
    """Let the other tasks of the event loop run once."""
    await asyncio.sleep(0)


async def readable(fd: int, waiters: Waiters) -> None:
    """Wait until ``fd`` is readable, or until `Waiters.close` of ``waiters`` is called."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    # An event loop keeps one reader per number. A number of its own keeps this task apart from
    # other tasks, and from the next owner of the number if ``fd`` is closed.
    own = os.dup(fd)
    try:
        loop.add_reader(own, wake)
        with waiters.woken_by(lambda: loop.call_soon_threadsafe(wake)):
            await ready
    finally:
        loop.remove_reader(own)
        os.close(own)
