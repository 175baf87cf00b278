# SPDX-License-Identifier: GPL-2.0-only
"""The word that a read of the eventfd returns, and the eventfd."""

from __future__ import annotations

import itertools
import os
import threading
import time

import pytest

from uapi.errors import FormatError
from uapi.eventfd import MAX, EventFd
from uapi.notification import RESERVED, Notification, decode, encode


@pytest.mark.parametrize(
    ("word", "notification"),
    [
        # Words built by hand from the comment in the header.
        (0x0000_0001_0000_0081, Notification(0x81, False, 0)),
        (0x0000_0001_0000_0000, Notification(0, False, 0)),
        (0x0000_0001_FFFF_FFFF, Notification(0xFFFF_FFFF, False, 0)),
        (0x0000_0003_0000_0000, Notification(0, True, 0)),
        (0x0001_0001_0000_00D1, Notification(0xD1, False, 1)),
        (0xFFFF_0001_0000_0080, Notification(0x80, False, 0xFFFF)),
        (0x7F00_0003_0000_0000, Notification(0, True, 0x7F00)),
    ],
)
def test_word(word: int, notification: Notification) -> None:
    assert decode(word) == notification
    assert encode(notification) == word


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (0, "lacks VALID"),
        (0x81, "lacks VALID"),
        (0x0000_0002_0000_0000, "lacks VALID"),
        (0x0000_0005_0000_0081, "reserved bits set: 0x400000000"),
        (0x0000_8001_0000_0081, "reserved bits set: 0x800000000000"),
        (-1, "more than 64 bits"),
        (1 << 64, "more than 64 bits"),
    ],
)
def test_what_is_no_word(word: int, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        decode(word)


def test_every_reserved_bit_is_seen() -> None:
    bits = [1 << n for n in range(64) if RESERVED & 1 << n]
    assert len(bits) == 14
    for bit in bits:
        word = encode(Notification(0x81)) | bit
        with pytest.raises(FormatError, match=f"{bit:#x}"):
            decode(word)
        assert decode(word, strict=False) == Notification(0x81)


@pytest.mark.parametrize("notification", [Notification(1 << 32), Notification(-1)])
def test_what_does_not_fit(notification: Notification) -> None:
    with pytest.raises(FormatError, match="does not fit"):
        encode(notification)


def test_words_of_different_notifications_differ() -> None:
    values, flags, losses = (0, 0x80, 0xFFFF_FFFF), (False, True), (0, 1, 0xFFFF)
    words = {encode(Notification(*n)) for n in itertools.product(values, flags, losses)}
    assert len(words) == 18


# ---- the eventfd ----


def test_counter() -> None:
    with EventFd(3) as eventfd:
        eventfd.write(4)
        assert eventfd.wait(0)
        assert eventfd.read() == 7
        assert eventfd.read() is None
        assert not eventfd.wait(0)


def test_largest() -> None:
    with EventFd() as eventfd:
        eventfd.write(MAX)
        with pytest.raises(BlockingIOError):
            eventfd.write(1)
        assert eventfd.read() == MAX
        with pytest.raises(OSError, match="Invalid argument"):
            eventfd.write(MAX + 1)


def test_semaphore() -> None:
    with EventFd(2, semaphore=True) as eventfd:
        assert [eventfd.read(), eventfd.read(), eventfd.read()] == [1, 1, None]


def test_closed() -> None:
    eventfd = EventFd()
    fd = eventfd.fileno()
    eventfd.close()
    eventfd.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    for method in (eventfd.fileno, eventfd.read, lambda: eventfd.wait(0)):
        with pytest.raises(ValueError, match="closed"):
            method()


def test_wait_ends_by_a_write_or_by_time() -> None:
    with EventFd() as eventfd:
        threading.Timer(0.05, eventfd.write, (1,)).start()
        assert eventfd.wait(10)
        eventfd.read()
        begin = time.monotonic()
        assert not eventfd.wait(0.02)
        assert time.monotonic() - begin >= 0.019


def test_a_counter_found_when_the_time_is_up_is_no_wakeup(monkeypatch: pytest.MonkeyPatch) -> None:
    """`wait` behaves here as on a kernel that wakes up nobody. The host has no such kernel."""

    def wait(_: EventFd, seconds: float | None) -> bool:
        time.sleep(seconds or 0)
        return True

    with EventFd(1) as eventfd:
        assert eventfd.wakes_up(10)
        monkeypatch.setattr(EventFd, "wait", wait)
        assert not eventfd.wakes_up(0.01)


def test_blocking_read() -> None:
    with EventFd(nonblocking=False) as eventfd:
        threading.Timer(0.05, eventfd.write, (5,)).start()
        assert eventfd.read() == 5


def test_close_wakes_up_a_blocking_read() -> None:
    got: list[int | None] = []
    eventfd = EventFd(nonblocking=False)
    reader = threading.Thread(target=lambda: got.append(eventfd.read()), daemon=True)
    reader.start()
    time.sleep(0.05)
    eventfd.close()
    reader.join(5)
    assert got == [None]


def test_blocking_reads_share_what_is_written() -> None:
    got: list[int | None] = []
    with EventFd(semaphore=True, nonblocking=False) as eventfd:
        readers = [
            threading.Thread(target=lambda: got.append(eventfd.read()), daemon=True)
            for _ in range(4)
        ]
        for reader in readers:
            reader.start()
        for number in range(1, 5):
            eventfd.write(1)
            end = time.monotonic() + 5
            while len(got) < number and time.monotonic() < end:
                time.sleep(0.001)
    assert got == [1] * 4


def test_it_is_not_inherited() -> None:
    with EventFd() as eventfd:
        assert not os.get_inheritable(eventfd.fileno())
