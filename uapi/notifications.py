# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The notifications of a device as they come, for threads and for asyncio."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol, Self

from uapi.closing import Closing
from uapi.errors import UapiError
from uapi.eventfd import EventFd
from uapi.notification import Notification, decode


class Armable(Protocol):
    """What a stream needs of a device."""

    @property
    def closed(self) -> bool:
        """Whether it is closed."""

    def arm(self, fd: EventFd) -> None:
        """Have notifications signal an eventfd."""

    def disarm(self) -> None:
        """Have them signal nobody."""


class Notifications(Closing):
    """An eventfd of its own, armed from the moment this is made until it is closed.

    Iterate over it, with ``for`` or ``async for``: neither ends by itself. Only one task at
    a time can wait. Every way to read raises FormatError for what is no notification, as when
    somebody else wrote to the eventfd, and ignores reserved bits, as every VMM has to.

    To arm takes away the eventfd that was armed before, and to close disarms the device.
    """

    def __init__(self, device: Armable) -> None:
        self._device = device
        self.eventfd = EventFd()
        try:
            device.arm(self.eventfd)
        except BaseException:
            self.eventfd.close()
            raise

    def close(self) -> None:
        """Disarm, unless the device is closed, and close the eventfd; what is unread is gone."""
        if not self._device.closed:
            # A device that was pulled cannot be disarmed, and need not be.
            with contextlib.suppress(UapiError):
                self._device.disarm()
        self.eventfd.close()

    def fileno(self) -> int:
        """The eventfd's descriptor, for an event loop of your own: wait for POLLIN, then `read`."""
        return self.eventfd.fileno()

    def read(self, seconds: float | None = None) -> Notification | None:
        """Wait for the next one; None if none came within ``seconds``.

        The kernel makes the next notification readable a moment after the previous one was read.
        So 0 seconds and None do not mean that there is no more: poll.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self.eventfd.wait(left):
                return None
            # None if another thread was faster.
            if (word := self.eventfd.read()) is not None:
                return decode(word, strict=False)

    def __iter__(self) -> Iterator[Notification]:
        return self

    def __next__(self) -> Notification:
        got = self.read()
        if got is None:
            raise StopIteration
        return got

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notification:
        from uapi.aio import readable

        while (word := self.eventfd.read()) is None:
            await readable(self.fileno())
        return decode(word, strict=False)
