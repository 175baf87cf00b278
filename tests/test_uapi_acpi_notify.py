# SPDX-License-Identifier: GPL-2.0-only
"""The messages of the group acpi_notify, from hand-written bytes, and their listener.

The listener's tests use another netlink protocol, as those of tests/test_uapi_probe.py.
"""

from __future__ import annotations

import contextlib
import random
import re
import struct
from collections.abc import Iterator

import pytest
from pyroute2.netlink import genlmsg

from tests import netlink_group
from tests.netlink_group import Send
from uapi import acpi_event, mirror
from uapi.acpi_event import FormatError, Notify, decode_notify
from uapi.errors import OpenError
from uapi.probe import Family, NotifyListener, Overrun

GROUP = 6
FAMILY = Family(id=28, version=1, groups={"acpi_mc_group": 5, "acpi_notify": GROUP})
BDF = "0000:00:10.0"
PATH = "\\_SB_.PCI0.S80_"


class NotifyMessage(genlmsg):  # type: ignore[misc]
    """The message as a class of pyroute2."""

    nla_map = (
        ("ACPI_GENL_NOTIFY_ATTR_UNSPEC", "none"),
        ("ACPI_GENL_NOTIFY_ATTR_PCI_NAME", "asciiz"),
        ("ACPI_GENL_NOTIFY_ATTR_VALUE", "uint32"),
        ("ACPI_GENL_NOTIFY_ATTR_SEQUENCE", "uint32"),
        ("ACPI_GENL_NOTIFY_ATTR_PATH", "asciiz"),
    )


# As drivers/acpi/event.c builds it on a little-endian host: family 0x1c, number 7.
MESSAGE = bytes.fromhex(
    "4c000000 1c00 0000 00000000 00000000"  # length 76, type, flags, sequence, port id
    "02 01 0000"  # command, version, reserved
    "1100 0100 303030303a30303a31302e30 00 000000"  # the BDF with its NUL, and padding
    "0800 0200 81010000"  # the value
    "0800 0300 07000000"  # the number
    "1400 0400 5c5f53425f2e504349302e5338305f 00"  # the path, to a multiple of 4
)
ATTRIBUTES = (slice(20, 40), slice(40, 48), slice(48, 56), slice(56, 76))


def message(*attributes: bytes, command: int = 2) -> bytes:
    body = struct.pack("=BBH", command, 1, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), FAMILY.id, 0, 0, 0) + body


def notification(number: int, bdf: str = BDF) -> bytes:
    name = bdf.encode() + b"\0"
    return message(
        struct.pack("=HH", 4 + len(name), 1) + name + bytes(-len(name) % 4),
        struct.pack("=HHI", 8, 2, 0xD1),
        struct.pack("=HHI", 8, 3, number),
    )


def test_message() -> None:
    assert decode_notify(MESSAGE) == Notify(BDF, 0x181, 7, PATH)


def test_the_path_may_be_absent_and_others_present() -> None:
    *first, _ = (MESSAGE[part] for part in ATTRIBUTES)
    further = struct.pack("=HHI", 8, 9, 1)
    assert decode_notify(message(*first, further)) == Notify(BDF, 0x181, 7, "")


@pytest.mark.parametrize("missing", range(3))
def test_the_others_may_not(missing: int) -> None:
    left = [MESSAGE[part] for number, part in enumerate(ATTRIBUTES) if number != missing]
    with pytest.raises(FormatError, match=f"no attribute {missing + 1}"):
        decode_notify(message(*left))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "no generic netlink message: 0 bytes"),
        (MESSAGE[:75], "75 bytes, where the header says 76"),
        (message(MESSAGE[20:], command=1), "command 1, not 2"),
        (MESSAGE.replace(b"\0\0\0\0\x08", b"xxxx\x08"), "no attribute 1 that ends"),
        (MESSAGE.replace(b"0:00", b"0\0:0"), "no attribute 1 that ends"),
        (message(MESSAGE[20:40], struct.pack("=HHHH", 6, 2, 1, 0)), "no attribute 2 of 4 bytes"),
    ],
    ids=range(6),
)
def test_what_is_no_notification(bad: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        decode_notify(bad)


def test_pyroute2_reads_the_same() -> None:
    view = NotifyMessage(MESSAGE)
    view.decode()
    got = decode_notify(MESSAGE)
    assert [view.get_attr(name) for name, _ in NotifyMessage.nla_map[1:]] == [
        got.bdf,
        got.value,
        got.sequence,
        got.path,
    ]
    numbers = {name: number for number, (name, _) in enumerate(NotifyMessage.nla_map)}
    assert numbers == {name: getattr(mirror, name) for name in numbers}


def test_nothing_else_is_raised() -> None:
    source = random.Random(1)  # noqa: S311 - the same bytes every time
    for _ in range(300):
        changed = bytearray(MESSAGE[: source.randrange(len(MESSAGE) + 1)])
        for _ in range(source.randrange(4)):
            if changed:
                changed[source.randrange(len(changed))] = source.randrange(256)
        with contextlib.suppress(FormatError):
            decode_notify(bytes(changed))


# ---- the listener ----


@pytest.fixture
def send() -> Iterator[Send]:
    with netlink_group.sending(GROUP) as send:
        yield send


@pytest.fixture
def listener() -> Iterator[NotifyListener]:
    with netlink_group.joined(NotifyListener, FAMILY) as listener:
        yield listener


def lost(listener: NotifyListener) -> list[tuple[int, int]]:
    return [(it.sequence, it.lost) for it in listener.pending() if isinstance(it, Notify)]


def test_a_kernel_without_the_group() -> None:
    old = Family(id=28, version=1, groups={"acpi_mc_group": 5})
    with pytest.raises(OpenError, match="acpi_event: this kernel's has no group acpi_notify"):
        NotifyListener(known=old)


def test_read(listener: NotifyListener, send: Send) -> None:
    assert listener.read(0) is None
    send(MESSAGE)
    assert listener.read(10) == decode_notify(MESSAGE)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((5, 6, 7), (0, 0, 0)),
        ((5, 9, 10), (0, 3, 0)),
        ((5, 0, 1), (0, 0, 0)),  # bound anew
        ((5, 2, 3), (0, 2, 0)),  # bound anew, and two lost
        ((0xFFFF_FFFF, 0, 2), (0, 0, 1)),
    ],
    ids=str,
)
def test_loss(
    listener: NotifyListener, send: Send, numbers: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    send(*map(notification, numbers))
    assert lost(listener) == list(zip(numbers, expected, strict=True))


def test_each_device_has_its_numbers(listener: NotifyListener, send: Send) -> None:
    send(notification(1), notification(8, "0000:00:11.0"), notification(2))
    assert lost(listener) == [(1, 0), (8, 0), (2, 0)]


def test_an_overrun_and_its_loss(listener: NotifyListener, send: Send) -> None:
    send(*map(notification, range(100)))
    got = list(listener.pending())
    assert got.count(Overrun()) == 1
    send(notification(100))
    assert lost(listener) == [(100, 100 - (len(got) - 1))]


def test_foreign_message(listener: NotifyListener, send: Send) -> None:
    send(message(command=1))
    with pytest.raises(FormatError, match=re.escape("command 1, not 2 (ACPI_GENL_CMD_NOTIFY)")):
        listener.read(10)


def test_what_is_there_of_the_mirror() -> None:
    assert (acpi_event.NOTIFY_GROUP, acpi_event.CMD_NOTIFY) == ("acpi_notify", 2)
