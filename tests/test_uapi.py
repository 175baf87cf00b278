# SPDX-License-Identifier: GPL-2.0-only
"""The acpi_event message, from hand-written bytes; the probe, on the running kernel."""

from __future__ import annotations

import errno
import random
import struct

import pytest
from pyroute2.netlink import genlmsg
from pyroute2.netlink.event.acpi_event import acpimsg

from uapi import acpi_event, probe
from uapi.acpi_event import Event, FormatError, decode


class GenericMessage(genlmsg):  # type: ignore[misc]
    """pyroute2's class of the message, with the payload as bytes, because its own lacks a byte."""

    nla_map = (("ACPI_GENL_ATTR_UNSPEC", "none"), ("ACPI_GENL_ATTR_EVENT", "cdata"))


# A message as drivers/acpi/event.c builds it on a little-endian host: family 0x1c, event 7.
MESSAGE = bytes.fromhex(
    "44000000 1c00 0000 07000000 00000000"  # length 68, type, flags, sequence, port id
    "01 01 0000"  # command, version, reserved
    "3000 0100"  # attribute: length 48, type 1
    "766669 6f5f 706369 000000000000000000000000"  # "vfio_pci" in 20 bytes
    "303030303a30303a31302e30 000000"  # "0000:00:10.0" in 15
    "00"  # padding
    "d1000000 00000000"  # type, data
)


def changed(offset: int, replacement: str) -> bytes:
    new = bytes.fromhex(replacement)
    return MESSAGE[:offset] + new + MESSAGE[offset + len(new) :]


def test_message() -> None:
    assert len(MESSAGE) == acpi_event.MESSAGE_SIZE
    assert decode(MESSAGE) == Event(7, "vfio_pci", "0000:00:10.0", 0xD1, 0)


@pytest.mark.parametrize(
    ("offset", "replacement", "event"),
    [
        (8, "ffffffff", Event(0xFFFFFFFF, "vfio_pci", "0000:00:10.0", 0xD1, 0)),
        (60, "ffffffff", Event(7, "vfio_pci", "0000:00:10.0", 0xFFFFFFFF, 0)),
        (60, "01020304", Event(7, "vfio_pci", "0000:00:10.0", 0x04030201, 0)),
        (64, "01000000", Event(7, "vfio_pci", "0000:00:10.0", 0xD1, 1)),
        # Text ends at the first NUL. A full field has no NUL.
        (24, "00", Event(7, "", "0000:00:10.0", 0xD1, 0)),
        (24, "61" * 20, Event(7, "a" * 20, "0000:00:10.0", 0xD1, 0)),
        (44, "62" * 15, Event(7, "vfio_pci", "b" * 15, 0xD1, 0)),
        (24, "ff", Event(7, "\\xfffio_pci", "0000:00:10.0", 0xD1, 0)),
        # The padding is ignored.
        (59, "ff", Event(7, "vfio_pci", "0000:00:10.0", 0xD1, 0)),
    ],
)
def test_fields(offset: int, replacement: str, event: Event) -> None:
    assert decode(changed(offset, replacement)) == event


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "no generic netlink message: 0 bytes"),
        (MESSAGE[:15], "no generic netlink message: 15 bytes"),
        (MESSAGE[:19], "no generic netlink message: 19 bytes"),
        (MESSAGE[:20], "20 bytes, where the header says 68"),
        (MESSAGE[:67], "67 bytes, where the header says 68"),
        (MESSAGE + MESSAGE, "136 bytes, where the header says 68"),
        (changed(0, "40"), "68 bytes, where the header says 64"),
        (changed(16, "02"), "command 2, not 1"),
        (changed(20, "2f00"), "no attribute of 44 bytes"),
        (changed(20, "3100"), "no attribute of 44 bytes"),
        (changed(20, "0400"), "no attribute of 44 bytes"),
        (changed(20, "0300"), "no attribute of 44 bytes"),
        (changed(22, "0200"), "no attribute of 44 bytes"),
    ],
    ids=range(13),
)
def test_what_is_no_event(message: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        decode(message)


def test_the_attribute_may_come_behind_others() -> None:
    other = bytes.fromhex("0500 0900 ff 000000")  # length 5, type 9, a byte, padding
    longer = bytes.fromhex("4c") + MESSAGE[1:20] + other + MESSAGE[20:]
    assert decode(longer) == decode(MESSAGE)


def test_pyroute2_reads_the_same() -> None:
    view = GenericMessage(MESSAGE)
    view.decode()
    event = decode(MESSAGE)
    assert view["header"]["sequence_number"] == event.sequence
    payload = view.get_attr("ACPI_GENL_ATTR_EVENT")
    assert struct.unpack("=20s15sxII", payload) == (
        event.device_class.encode().ljust(20, b"\0"),
        event.bus_id.encode().ljust(15, b"\0"),
        event.type,
        event.data,
    )


def test_the_class_of_pyroute2_reads_another_value() -> None:
    """docs/uapi.md and docs/mechanisms.md warn of it, with this number."""
    view = acpimsg(MESSAGE)
    view.decode()
    assert view.get_attr("ACPI_GENL_ATTR_EVENT")["type"] == 53504 == decode(MESSAGE).type << 8


def test_nothing_else_is_raised() -> None:
    source = random.Random(1)  # noqa: S311 - the same bytes every time
    for _ in range(300):
        message = bytearray(MESSAGE[: source.randrange(len(MESSAGE) + 1)])
        for _ in range(source.randrange(4)):
            if message:
                message[source.randrange(len(message))] = source.randrange(256)
        try:
            decode(bytes(message))
        except FormatError as error:
            assert str(error)


def test_family_of_the_running_kernel() -> None:
    # Every kernel with generic netlink has the controller, with this id and this group.
    family = probe.family("nlctrl")
    assert family.id == probe.GENL_ID_CTRL
    assert family.version == probe.CTRL_VERSION
    assert list(family.groups) == ["notify"]


def test_family_that_there_is_not() -> None:
    with pytest.raises(OSError, match="generic netlink family none_such: ENOENT") as error:
        probe.family("none_such")
    assert error.value.errno == errno.ENOENT
