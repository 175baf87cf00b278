# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A stream of a device's notifications, for threads and for asyncio."""

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
    """The part of a device that a stream uses."""

    @property
    def closed(self) -> bool:
        """Whether the device is closed."""

    def arm(self, fd: EventFd) -> None:
        """Set the eventfd that notifications signal."""

    def disarm(self) -> None:
        """Remove the eventfd that notifications signal."""


class Notifications(Closing):
    """A stream of notifications with its own eventfd, armed until the stream is closed.

    Iterate with ``for`` or ``async for``; the iteration does not end by itself. Only one task can
    wait at a time. All reads ignore reserved bits, as every VMM has to. They raise FormatError if
    the word is not a notification, for instance because another process wrote to the eventfd.

    The stream replaces the eventfd that was armed before. Closing it disarms the device.
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
        """Disarm the device if it is open, and close the eventfd. Unread notifications are lost."""
        if not self._device.closed:
            # Disarming a device that was pulled fails; it is not needed.
            with contextlib.suppress(UapiError):
                self._device.disarm()
        self.eventfd.close()

    def fileno(self) -> int:
        """Return the eventfd's descriptor for an event loop: wait for POLLIN, then call `read`."""
        return self.eventfd.fileno()

    def read(self, seconds: float | None = None) -> Notification | None:
        """Wait for the next notification and return it. Returns None after ``seconds``.

        The kernel makes the next notification readable a moment after the previous one was read. So
        None after 0 seconds does not mean that the queue is empty: wait with poll.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self.eventfd.wait(left):
                return None
            # None if another thread has read the notification.
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
