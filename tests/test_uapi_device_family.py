# SPDX-License-Identifier: GPL-2.0-only
"""The reader of a device's family: its messages, and what is lost when a real socket overruns.

The socket's protocol is another one than generic netlink (tests/netlink_group.py). Which families
there are is simulated here; in the guest it is real (ktests/test_netlink_device.py).
"""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import Iterator

import pytest

from tests import netlink_group
from tests.netlink_group import Send
from uapi import device_family, probe, streams
from uapi.device_family import DeviceListener, FamilyNotifications, decode
from uapi.errors import ClosedError, FormatError, OpenError
from uapi.notification import Notification
from uapi.probe import Family

BDF = "0000:00:10.0"
GROUP = 6
FAMILY = Family(id=29, version=1, groups={"notify": GROUP}, name=BDF)


def message(*attributes: bytes, command: int = 1) -> bytes:
    size = 20 + sum(map(len, attributes))
    return struct.pack("=IHHII BBH", size, FAMILY.id, 0, 0, 0, command, 1, 0) + b"".join(attributes)


def u32(kind: int, number: int) -> bytes:
    return struct.pack("=HHI", 8, kind, number)


def notification(number: int, value: int = 0xD1) -> bytes:
    return message(u32(1, value), u32(2, number))


def test_message() -> None:
    assert decode(notification(7, 0x181)) == (0x181, 7)
    assert decode(message(u32(9, 3), u32(2, 7), u32(1, 0x181))) == (0x181, 7)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "no generic netlink message: 0 bytes"),
        (notification(0)[:-4], "32 bytes, where the header says 36"),
        (message(u32(1, 1), u32(2, 0), command=2), "command 2, not 1"),
        (message(u32(2, 0)), "no attribute 1 of 4 bytes"),
        (message(u32(1, 0x81)), "no attribute 2 of 4 bytes"),
        (message(u32(1, 0x81), struct.pack("=HHHH", 6, 2, 1, 0)), "no attribute 2 of 4 bytes"),
    ],
    ids=range(6),
)
def test_what_is_no_notification(bad: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        decode(bad)


# ---- the stream ----


@pytest.fixture
def send() -> Iterator[Send]:
    with netlink_group.sending(GROUP) as send:
        yield send


@pytest.fixture
def stream() -> Iterator[FamilyNotifications]:
    with (
        netlink_group.joined(DeviceListener, FAMILY) as listener,
        FamilyNotifications(listener) as stream,
    ):
        yield stream


def test_read(stream: FamilyNotifications, send: Send) -> None:
    assert stream.read(0) is None
    # Which numbers came before the first one that is read is not known.
    send(notification(7, 0x181), notification(8, 0x82))
    assert stream.read(10) == Notification(0x181)
    assert stream.read(10) == Notification(0x82)


def test_what_is_lost_is_counted(stream: FamilyNotifications, send: Send) -> None:
    send(*map(notification, range(100)))
    kept = 0
    while stream.read(0) is not None:
        kept += 1
    assert 0 < kept < 100
    send(notification(100))
    assert stream.read(10) == Notification(0xD1, lost=100 - kept)


def test_the_numbers_begin_again(stream: FamilyNotifications, send: Send) -> None:
    send(notification(0xFFFFFFFD), notification(0xFFFFFFFE), notification(1), notification(2))
    lost = [got.lost for _ in range(4) if (got := stream.read(10))]
    assert lost == [0, 0, 2, 0]


def test_async(stream: FamilyNotifications, send: Send) -> None:
    async def two() -> list[Notification]:
        got = []
        async for notification in stream:
            got.append(notification)
            if len(got) == 2:
                break
        return got

    send(notification(0, 0x81), notification(1, 0x82))
    assert asyncio.run(two()) == [Notification(0x81), Notification(0x82)]
    stream.close()
    with pytest.raises(ClosedError, match="the listener is closed"):
        stream.read(0)


# ---- the choice ----


def test_a_device_without_family(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def family(name: str) -> Family:
        asked.append(name)
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(device_family, "family", family)
    assert not device_family.has(BDF)
    assert not device_family.has("")
    assert asked == [BDF]


def test_a_family_that_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, Family] = {}

    def ask(name: str) -> Family:
        if name not in known:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return known[name]

    class Announced:
        """Announcements, of which the one that is waited for comes at once."""

        def __enter__(self) -> Announced:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def wait_for(self, command: int, name: str) -> bool:
            """Register the family."""
            assert command == device_family.NEWFAMILY
            known[name] = FAMILY
            return True

    monkeypatch.setattr(probe, "family", ask)
    monkeypatch.setattr(device_family, "Announcements", Announced)
    assert device_family.family(BDF) == FAMILY


def test_another_family_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_family, "family", lambda _: Family(29, 1, {"events": 6}, BDF))
    assert not device_family.has(BDF)


def test_a_family_that_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def family(name: str) -> Family:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(device_family, "family", family)
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
        device_family.has(BDF)


def test_the_kernel_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the running kernel for a family that is there, and one that is not."""
    monkeypatch.setattr(device_family, "SECONDS", 0.01)
    assert device_family.has("nlctrl")
    assert probe.family("nlctrl").name == "nlctrl"
    assert not device_family.has("0000:ff:1f.7")


def test_without_the_privilege(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(known: Family) -> DeviceListener:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(device_family, "family", lambda _: FAMILY)
    monkeypatch.setattr(device_family, "DeviceListener", refused)
    with pytest.raises(OpenError, match="takes CAP_NET_ADMIN; be root") as caught:
        FamilyNotifications.join(BDF)
    assert caught.value.errno == errno.EPERM


def test_the_name() -> None:
    assert FamilyNotifications.mechanism in streams.MECHANISMS
    assert [name for name, one in streams.MECHANISMS.items() if one.privileged] == [
        FamilyNotifications.mechanism
    ]
