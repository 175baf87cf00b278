# SPDX-License-Identifier: GPL-2.0-only
"""The notifications that are acknowledged, without hardware: a list is the kernel's queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from uapi.errors import FormatError
from uapi.eventfd import EventFd
from uapi.notification import Notification, encode
from uapi.notifications import AckNotifications


class Kernel:
    """A device that delivers the next word of `queue` when the previous one was acknowledged."""

    closed = False

    def __init__(self) -> None:
        self.queue: list[int] = [encode(Notification(0xEE))]
        self.masked = True
        self.eventfd: EventFd | None = None
        self.acknowledgement: EventFd | None = None

    def arm(self, fd: EventFd) -> None:
        """Deliver to the eventfd from now on."""
        self.eventfd = fd

    def disarm(self) -> None:
        """Discard the queue, end the mask, and acknowledge no more."""
        self.queue.clear()
        self.masked = False
        self.eventfd = self.acknowledgement = None

    def unmask_by(self, fd: EventFd) -> None:
        """Read acknowledgements from the eventfd; it fails if none is set to be armed."""
        assert self.eventfd is not None
        self.acknowledgement = fd

    def run(self, *words: int) -> None:
        """Queue the words, look for an acknowledgement, and deliver the next word."""
        self.queue += words
        assert self.eventfd is not None and self.acknowledgement is not None
        if self.acknowledgement.read():
            self.masked = False
        if self.queue and not self.masked:
            self.eventfd.write(self.queue.pop(0))
            self.masked = True


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def stream(kernel: Kernel) -> Iterator[AckNotifications]:
    with AckNotifications(kernel) as stream:
        yield stream


def test_earlier_notifications_and_masks_are_gone(kernel: Kernel, stream: AckNotifications) -> None:
    assert stream.read(0) is None
    kernel.run(encode(Notification(0x81)))
    assert stream.read(0) == Notification(0x81)


def test_each_read_is_acknowledged(kernel: Kernel, stream: AckNotifications) -> None:
    kernel.run(encode(Notification(0x81)), encode(Notification(0x82, lost=4)))
    assert stream.read(0) == Notification(0x81)
    kernel.run()
    assert stream.read(0) == Notification(0x82, lost=4)
    kernel.run()
    assert not kernel.masked


def test_nothing_is_acknowledged_without_a_word(kernel: Kernel, stream: AckNotifications) -> None:
    assert stream.read(0) is None
    assert kernel.acknowledgement is not None and kernel.acknowledgement.read() is None


def test_a_word_that_is_no_notification_is_acknowledged(
    kernel: Kernel, stream: AckNotifications
) -> None:
    kernel.run(5, encode(Notification(0x81)))
    with pytest.raises(FormatError):
        stream.read(0)
    kernel.run()
    assert stream.read(0) == Notification(0x81)


def test_closing(kernel: Kernel, stream: AckNotifications) -> None:
    eventfds = (kernel.eventfd, kernel.acknowledgement)
    stream.close()
    assert kernel.eventfd is None
    assert all(eventfd is not None and "closed" in repr(eventfd) for eventfd in eventfds)


def test_a_kernel_that_cannot_be_acknowledged(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: EventFd) -> None:
        raise OSError("no")

    monkeypatch.setattr(kernel, "unmask_by", refuse)
    with pytest.raises(OSError, match="no"):
        AckNotifications(kernel)
    assert kernel.eventfd is None, "it is not left armed"


def test_asyncio(kernel: Kernel, stream: AckNotifications) -> None:
    async def first_two() -> list[Notification]:
        kernel.run(encode(Notification(0x81)), encode(Notification(0x82)))
        asyncio.get_running_loop().call_later(0.05, kernel.run)
        return [await anext(stream), await anext(stream)]

    assert asyncio.run(first_two()) == [Notification(0x81), Notification(0x82)]
