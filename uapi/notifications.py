# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Streams of the notifications of one device, by an eventfd or a queue, with or without asyncio."""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Protocol, Self

from .closing import Closing
from .doorbell import Pending
from .errors import ClosedError, Error, UapiError
from .eventfd import EventFd
from .eventq import EventQueue, Gaps
from .notification import Notification, decode
from .polling import Pollable


class Armable(Protocol):
    """The methods of `uapi.vfio.Device` that `Notifications` uses."""

    @property
    def closed(self) -> bool:
        """Whether this process has closed the device's descriptor."""

    def arm(self, fd: EventFd) -> None:
        """Make the kernel write each notification of the device to the eventfd ``fd``."""

    def disarm(self) -> None:
        """Remove the eventfd that was set by `arm`."""


class Maskable(Armable, Protocol):
    """The methods of `uapi.vfio.Device` that `AckNotifications` uses."""

    def unmask_by(self, fd: EventFd) -> None:
        """Make each write to the eventfd ``fd`` acknowledge a notification."""


class Fetchable(Armable, Protocol):
    """The methods of `uapi.vfio.Device` that `DoorbellNotifications` uses."""

    def fetch(self) -> Pending | None:
        """Return the oldest notification that was not fetched, None if there is none."""


class EndedError(Error):
    """The queue is at its end: the device was closed, and all events were read."""


class Stream(Closing):
    """A stream of the notifications of one device, by ``mechanism``.

    Iterate with ``for`` or ``async for``, or call `read`. If another thread or task calls `close`,
    the iteration ends. ``async for`` lets other tasks run before each notification. Reserved bits
    are ignored, as every VMM has to do. All ways to read raise FormatError if the bytes read are
    not a notification, and ClosedError if the stream is closed already.
    """

    mechanism: ClassVar[str]

    def __init__(self, source: Pollable) -> None:
        self._source = source

    @abstractmethod
    def _take(self) -> Notification | None:
        """Return the next notification, or None if there is none now. Does not wait.

        Raises EndedError if there will be no further one.
        """

    def fileno(self) -> int:
        """Return the descriptor for an event loop: wait for POLLIN, then call `read`."""
        return self._source.fileno()

    def fds(self) -> tuple[int, ...]:
        """Return all descriptors of the stream, that of `fileno` first."""
        return (self.fileno(),)

    def read(self, seconds: float | None = None) -> Notification | None:
        """Wait for the next notification and return it.

        Returns None if none arrives within ``seconds`` (None: no limit), if the stream has ended,
        and if another thread closes it. By an eventfd, the kernel may make the next notification
        readable a moment after the previous one was read. So None after 0 seconds does not mean
        that no notification is queued: wait with poll.
        """
        self.fileno()
        with contextlib.suppress(ClosedError, EndedError):
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
        from . import aio

        self.fileno()
        await aio.others()
        try:
            while (got := self._take()) is None:
                await aio.readable(self.fileno(), self._source.waiters)
        except (ClosedError, EndedError):
            raise StopAsyncIteration from None
        return got


class EventfdStream(Stream):
    """A stream by ``eventfd``, which is armed on the device until `close`.

    It replaces an eventfd that was armed before. The stream does not end by itself.
    """

    def __init__(self, device: Armable, eventfd: EventFd) -> None:
        self._device = device
        self.eventfd = eventfd
        super().__init__(eventfd)
        try:
            device.arm(eventfd)
        except BaseException:
            eventfd.close()
            raise

    def close(self) -> None:
        """Disarm the device if it is open, and close the eventfd. Unread notifications are lost."""
        if not self._device.closed:
            # Disarming fails if the device was unplugged, and is then not needed.
            with contextlib.suppress(UapiError):
                self._device.disarm()
        self.eventfd.close()


class Notifications(EventfdStream):
    """A stream by an eventfd of its own, whose counter holds one notification.

    If another process has written to the eventfd, a read may raise FormatError or return a wrong
    value. It raises FormatError if the kernel's eventfd only counts.
    """

    mechanism = "eventfd"

    def __init__(self, device: Armable) -> None:
        super().__init__(device, EventFd())

    def _take(self) -> Notification | None:
        word = self.eventfd.read()
        return None if word is None else decode(word, strict=False)


class AckNotifications(EventfdStream):
    """A stream by an eventfd of its own, and a second one by which each read is acknowledged.

    Notifications that the kernel has queued for an earlier eventfd are discarded. The kernel puts
    the next notification into the eventfd when the previous one was acknowledged.
    """

    mechanism = "ack"

    def __init__(self, device: Maskable) -> None:
        device.disarm()
        super().__init__(device, EventFd())
        self._acknowledgement = EventFd()
        try:
            device.unmask_by(self._acknowledgement)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disarm the device if it is open, and close both eventfds."""
        super().close()
        self._acknowledgement.close()

    def fds(self) -> tuple[int, ...]:
        """Return the descriptors of both eventfds, that of the notifications first."""
        return (self.fileno(), self._acknowledgement.fileno())

    def _take(self) -> Notification | None:
        word = self.eventfd.read()
        if word is None:
            return None
        self._acknowledgement.write(1)
        return decode(word, strict=False)


class DoorbellNotifications(EventfdStream):
    """A stream by an eventfd of its own that counts, and an ioctl that fetches each notification.

    Notifications that the kernel has kept for an earlier eventfd are discarded. The eventfd is a
    semaphore: each read(2) takes 1 from its counter, so that the descriptor stays readable until
    all notifications were fetched.
    """

    mechanism = "doorbell"

    def __init__(self, device: Fetchable) -> None:
        device.disarm()
        super().__init__(device, EventFd(semaphore=True))
        self._fetch = device.fetch

    def _take(self) -> Notification | None:
        # There is nothing to fetch for a loopback, nor for a notification that was lost.
        got = None if self.eventfd.read() is None else self._fetch()
        return None if got is None else got.notification()


class QueueNotifications(Stream):
    """A stream by ``queue``, which `close` closes.

    It ends when the device was closed and all its notifications were read. ``gaps`` counts the lost
    ones; the default is for a queue that nobody has read before.
    """

    mechanism = "eventq"

    def __init__(self, queue: EventQueue, gaps: Gaps | None = None) -> None:
        super().__init__(queue)
        self._queue = queue
        self._gaps = gaps or Gaps()

    def close(self) -> None:
        """Close the queue. Unread notifications are lost."""
        self._queue.close()

    def _take(self) -> Notification | None:
        # One event for each read(2): the descriptor stays readable if the queue has more, so that a
        # caller's event loop does not miss them.
        events = self._queue.read(room=1)
        if events is None:
            return None
        if not events:
            raise EndedError
        return self._gaps.take(events[0])
