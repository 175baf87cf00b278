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

from dataclasses import dataclass
from typing import Any

from pyroute2.netlink import genlmsg

from uapi import mirror
from uapi.errors import FormatError as FormatError  # decode() raises it

FAMILY = mirror.ACPI_GENL_FAMILY_NAME
GROUP = mirror.ACPI_GENL_MCAST_GROUP_NAME
VERSION = mirror.ACPI_GENL_VERSION
CMD_EVENT = mirror.ACPI_GENL_CMD_EVENT

PAYLOAD_SIZE = mirror.sizeof("acpi_genl_event")
MESSAGE_SIZE = sum(map(mirror.sizeof, ("nlmsghdr", "genlmsghdr", "nlattr"))) + PAYLOAD_SIZE

# What the netlink series puts into device_class for the device of a VMM.
VFIO_CLASS = "vfio_pci"


class AcpiMessage(genlmsg):  # type: ignore[misc]
    """pyroute2's view of the message; the payload stays as bytes.

    (The class that pyroute2 0.9.7 brings for this family has no padding byte after bus_id, so
    that it reads type and data from the wrong place.)
    """

    nla_map = (("ACPI_GENL_ATTR_UNSPEC", "none"), ("ACPI_GENL_ATTR_EVENT", "cdata"))


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
    if payload is None or len(payload) != PAYLOAD_SIZE:
        raise FormatError(f"no attribute of {PAYLOAD_SIZE} bytes (ACPI_GENL_ATTR_EVENT)")
    event = mirror.ffi.from_buffer("struct acpi_genl_event *", payload)
    return Event(
        sequence=view["header"]["sequence_number"],
        device_class=_text(event.device_class),
        bus_id=_text(event.bus_id),
        type=event.type,
        data=event.data,
    )


def _text(field: Any) -> str:
    """What stands before the first NUL, or the whole field."""
    text: bytes = mirror.ffi.string(field)
    return text.decode("utf-8", "backslashreplace")
