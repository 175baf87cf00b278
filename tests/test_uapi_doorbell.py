# SPDX-License-Identifier: GPL-2.0-only
"""The notifications that are fetched, without hardware: a list stands for the kernel's queue."""

from __future__ import annotations

import asyncio
import errno
import struct
from collections.abc import Iterator

import pytest

from uapi import doorbell, vfio
from uapi.doorbell import Pending
from uapi.errors import FormatError, UapiError
from uapi.eventfd import EventFd
from uapi.notification import Notification
from uapi.notifications import DoorbellNotifications


class Kernel:
    """A device whose notifications are given by `notify`."""

    closed = False

    def __init__(self) -> None:
        self.kept: list[Pending] = [Pending(0, 0xEE, 0, 0)]
        self.eventfd: EventFd | None = None

    def arm(self, fd: EventFd) -> None:
        """Signal the eventfd from now on."""
        self.eventfd = fd

    def disarm(self) -> None:
        """Discard what was not fetched."""
        self.eventfd = None
        self.kept.clear()

    def fetch(self) -> Pending | None:
        """Return the oldest one, None if there is none."""
        return self.kept.pop(0) if self.kept else None

    def notify(self, *items: Pending, rings: int | None = None) -> None:
        """Keep the items, and add ``rings`` to the eventfd; None: one for each."""
        self.kept += items
        assert self.eventfd is not None
        self.eventfd.write(len(items) if rings is None else rings)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def stream(kernel: Kernel) -> Iterator[DoorbellNotifications]:
    with DoorbellNotifications(kernel) as stream:
        yield stream


def test_decode() -> None:
    data = struct.pack("=IIII", 0, 0xD1, 7, 3)
    assert doorbell.decode(data) == Pending(flags=0, value=0xD1, sequence=7, lost=3)
    assert doorbell.decode(data).notification() == Notification(0xD1, lost=3)
    assert doorbell.KEPT == 256


@pytest.mark.parametrize("size", [0, 15, 17])
def test_decode_of_another_size(size: int) -> None:
    with pytest.raises(FormatError, match=f"{size} bytes are no notification of 16 bytes"):
        doorbell.decode(bytes(size))


def test_what_was_kept_before_is_discarded(kernel: Kernel, stream: DoorbellNotifications) -> None:
    assert stream.read(0) is None
    assert kernel.fetch() is None


def test_each_read_gives_one(kernel: Kernel, stream: DoorbellNotifications) -> None:
    kernel.notify(Pending(0, 0x81, 0, 0), Pending(0, 0x82, 5, 4))
    assert stream.read(0) == Notification(0x81)
    assert kernel.eventfd is not None and kernel.eventfd.wait(0), "readable for the second one"
    assert stream.read(0) == Notification(0x82, lost=4)
    assert not kernel.eventfd.wait(0)
    assert stream.read(0) is None


def test_signals_without_a_notification(kernel: Kernel, stream: DoorbellNotifications) -> None:
    """Loopbacks, and notifications that were lost."""
    kernel.notify(Pending(0, 0x81, 2, 2), rings=4)
    assert stream.read(0) == Notification(0x81, lost=2)
    assert stream.read(0) is None


def test_closing_disarms(kernel: Kernel, stream: DoorbellNotifications) -> None:
    stream.close()
    assert kernel.eventfd is None


def test_asyncio(kernel: Kernel, stream: DoorbellNotifications) -> None:
    async def first_two() -> list[Notification]:
        kernel.notify(Pending(0, 0x81, 0, 0), rings=3)
        asyncio.get_running_loop().call_later(0.05, kernel.notify, Pending(0, 0x82, 1, 0))
        return [await anext(stream), await anext(stream)]

    assert asyncio.run(first_two()) == [Notification(0x81), Notification(0x82)]


class Failing(vfio.Device):
    """A device on which the feature's GET fails with ``number``."""

    number = errno.ENOMSG

    def feature(self, flags: int, data: bytes = b"", *, argsz: int | None = None) -> bytes:
        """Fail with the errno."""
        assert (flags, len(data)) == (1 << 16 | 15, 16)
        raise UapiError("VFIO_DEVICE_FEATURE", self.number)


def test_nothing_to_fetch() -> None:
    assert Failing(-1).fetch() is None


def test_another_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Failing, "number", errno.ENODEV)
    with pytest.raises(UapiError) as caught:
        Failing(-1).fetch()
    assert caught.value.errno == errno.ENODEV
