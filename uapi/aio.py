# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Waiting for a descriptor in asyncio.

A module of its own, imported by who waits that way: asyncio takes long to import in an emulated
machine, and most programs here do without it.
"""

from __future__ import annotations

import asyncio

# A loop keeps one reader per descriptor: a second one would replace the first without a word.
_waiting: set[int] = set()


async def readable(fd: int) -> None:
    """Wait until a descriptor can be read from; RuntimeError if another task does already."""
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
