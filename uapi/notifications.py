# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A stream of a device's notifications, for threads and for asyncio."""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Protocol, Self

from uapi.closing import Closing
from uapi.errors import UapiError
from uapi.eventfd import EventFd
from uapi.eventq import EventQueue, Gaps
from uapi.notification import Notification, decode
from uapi.polling import Pollable


class Armable(Protocol):
    """The part of a device that a stream uses."""

    @property
    def closed(self) -> bool:
        """Whether the device is closed."""

    def arm(self, fd: EventFd) -> None:
        """Set the eventfd that notifications signal."""

    def disarm(self) -> None:
        """Remove the eventfd that notifications signal."""


class EndedError(Exception):
    """The stream has ended: its device was closed."""


class Stream(Closing):
    """A stream of notifications of one device by the mechanism ``mechanism``.

    Iterate with ``for`` or ``async for``. Only one task can wait at a time. All reads ignore
    reserved bits, as every VMM has to. They raise FormatError if what is read is no notification.
    """

    mechanism: ClassVar[str]

    def __init__(self, source: Pollable) -> None:
        self._source = source

    @abstractmethod
    def _take(self) -> Notification | None:
        """Return the next notification without waiting. Returns None if there is none now.

        Raises EndedError if there will be none any more.
        """

    def fileno(self) -> int:
        """Return the descriptor for an event loop: wait for POLLIN, then call `read`."""
        return self._source.fileno()

    def read(self, seconds: float | None = None) -> Notification | None:
        """Wait for the next notification and return it.

        Returns None after ``seconds``, and if the stream has ended. The kernel may make the next
        notification readable a moment after the previous one was read. So None after 0 seconds does
        not mean that the queue is empty: wait with poll.
        """
        with contextlib.suppress(EndedError):
            end = None if seconds is None else time.monotonic() + seconds
            while True:
                left = None if end is None else max(0.0, end - time.monotonic())
                if not self._source.wait(left):
                    return None
                # None if another thread has read the notification.
                if (got := self._take()) is not None:
                    return got
        return None

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

        try:
            while (got := self._take()) is None:
                await readable(self.fileno())
        except EndedError:
            raise StopAsyncIteration from None
        return got


class Notifications(Stream):
    """A stream with its own eventfd, armed until the stream is closed. It does not end by itself.

    FormatError also if another process wrote to the eventfd.

    The stream replaces the eventfd that was armed before. Closing it disarms the device.
    """

    mechanism = "eventfd"

    def __init__(self, device: Armable) -> None:
        self._device = device
        self.eventfd = EventFd()
        super().__init__(self.eventfd)
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

    def _take(self) -> Notification | None:
        word = self.eventfd.read()
        return None if word is None else decode(word, strict=False)


class QueueNotifications(Stream):
    """A stream that reads a queue. It ends after the device was closed, and owns the queue."""

    mechanism = "eventq"

    def __init__(self, queue: EventQueue) -> None:
        super().__init__(queue)
        self._queue = queue
        self._gaps = Gaps()

    def close(self) -> None:
        """Close the queue. Unread notifications are lost."""
        self._queue.close()

    def _take(self) -> Notification | None:
        # One event for each read(2): the descriptor stays readable as long as there are more.
        events = self._queue.read(room=1)
        if events is None:
            return None
        if not events:
            raise EndedError
        return self._gaps.take(events[0])
