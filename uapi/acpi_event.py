# SPDX-License-Identifier: GPL-2.0-only OR MIT
r"""The ``acpi_event`` generic netlink family's one message (drivers/acpi/event.c).

A message has 68 bytes, in the byte order of the host::

    offset size
      0    16   nlmsghdr    length 68, type = the family's id, flags 0, a sequence number that
                            the kernel counts over all events, port id 0
     16     4   genlmsghdr  cmd 1 (ACPI_GENL_CMD_EVENT), version 1, reserved 0
     20     4   nlattr      length 48, type 1 (ACPI_GENL_ATTR_EVENT)
     24    20   device_class, NUL-terminated, cut at 19 characters
     44    15   bus_id, NUL-terminated, cut at 14 characters
     59     1   padding, 0
     60     4   u32 type
     64     4   u32 data
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pyroute2.netlink import genlmsg

FAMILY = "acpi_event"
GROUP = "acpi_mc_group"
VERSION = 1
CMD_EVENT = 1
ATTR_EVENT = 1

# struct acpi_genl_event, which no uapi header declares
PAYLOAD = struct.Struct("=20s15sxII")
MESSAGE_SIZE = 68

# What the netlink series puts into device_class for the device of a VMM.
VFIO_CLASS = "vfio_pci"


class AcpiMessage(genlmsg):  # type: ignore[misc]
    """pyroute2's view of the message; the payload stays as bytes for `PAYLOAD`.

    (The class that pyroute2 0.9.7 brings for this family has no padding byte after bus_id, so
    that it reads type and data from the wrong place.)
    """

    nla_map = (("ACPI_GENL_ATTR_UNSPEC", "none"), ("ACPI_GENL_ATTR_EVENT", "cdata"))


class FormatError(ValueError):
    """The bytes are no acpi_event message; the text says what is wrong with them."""


@dataclass(frozen=True)
class Event:
    """One event. ``type`` is the notification's value where the sender does not truncate it."""

    sequence: int
    device_class: str
    bus_id: str
    type: int
    data: int


def decode(message: bytes) -> Event:
    """Read one netlink message; FormatError if it is no event of this family."""
    view = AcpiMessage(message)
    try:
        view.decode()
    except Exception as error:  # pyroute2 raises whatever its parser stumbled over
        raise FormatError(f"no netlink message: {error}") from error
    length = view["header"]["length"]
    if length != len(message):
        raise FormatError(f"{len(message)} bytes, where the header says {length}")
    if view["cmd"] != CMD_EVENT:
        raise FormatError(f"command {view['cmd']}, not {CMD_EVENT} (ACPI_GENL_CMD_EVENT)")
    payload = view.get_attr("ACPI_GENL_ATTR_EVENT")
    if payload is None or len(payload) != PAYLOAD.size:
        raise FormatError(f"no attribute of {PAYLOAD.size} bytes (ACPI_GENL_ATTR_EVENT)")
    device_class, bus_id, kind, data = PAYLOAD.unpack(payload)
    return Event(view["header"]["sequence_number"], _text(device_class), _text(bus_id), kind, data)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
