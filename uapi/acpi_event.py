# SPDX-License-Identifier: GPL-2.0-only OR MIT
r"""The only message of the generic netlink family ``acpi_event`` (drivers/acpi/event.c).

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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from uapi import mirror
from uapi.errors import FormatError as FormatError  # raised by decode()

FAMILY = mirror.ACPI_GENL_FAMILY_NAME
GROUP = mirror.ACPI_GENL_MCAST_GROUP_NAME
VERSION = mirror.ACPI_GENL_VERSION
CMD_EVENT = mirror.ACPI_GENL_CMD_EVENT
ATTR_EVENT = mirror.ACPI_GENL_ATTR_EVENT

HEADER = mirror.ffi.typeof("struct nlmsghdr *")
GENL_HEADER = mirror.ffi.typeof("struct genlmsghdr *")
ATTRIBUTE = mirror.ffi.typeof("struct nlattr *")
PAYLOAD = mirror.ffi.typeof("struct acpi_genl_event *")

GENL_OFFSET = mirror.sizeof("nlmsghdr")
ATTRIBUTES_OFFSET = GENL_OFFSET + mirror.sizeof("genlmsghdr")
ATTRIBUTE_SIZE = mirror.sizeof("nlattr")
# The bits of nla_type without its two flags (NLA_TYPE_MASK, include/uapi/linux/netlink.h).
NLA_TYPE_MASK = 0x3FFF
NLA_ALIGNTO = 4

PAYLOAD_SIZE = mirror.sizeof("acpi_genl_event")
MESSAGE_SIZE = ATTRIBUTES_OFFSET + ATTRIBUTE_SIZE + PAYLOAD_SIZE

# The device_class that the netlink series sends for a device that is bound to vfio-pci.
VFIO_CLASS = "vfio_pci"


@dataclass(frozen=True)
class Event:
    """One event.

    ``sequence`` is nlmsg_seq of the message. The sender chooses the other fields. A device that is
    bound to vfio-pci has the ``device_class`` `VFIO_CLASS`, its BDF as ``bus_id``, and ``data`` 0.
    ``type`` is the lowest 8 bits of the number that the sender passed to
    acpi_bus_generate_netlink_event(): for most senders the value of the notification.
    """

    sequence: int
    device_class: str
    bus_id: str
    type: int
    data: int


def decode(message: bytes) -> Event:
    """Decode one netlink message that was received from the family.

    Raises FormatError if its length, its command or its attribute is not that of an event. The
    message type, which is the family's id, is not checked.
    """
    if len(message) < ATTRIBUTES_OFFSET:
        raise FormatError(f"no generic netlink message: {len(message)} bytes")
    header = mirror.ffi.from_buffer(HEADER, message)
    if header.nlmsg_len != len(message):
        raise FormatError(f"{len(message)} bytes, where the header says {header.nlmsg_len}")
    command = _at(message, GENL_OFFSET, GENL_HEADER).cmd
    if command != CMD_EVENT:
        raise FormatError(f"command {command}, not {CMD_EVENT} (ACPI_GENL_CMD_EVENT)")
    offset = next((begin for kind, begin in _attributes(message) if kind == ATTR_EVENT), None)
    if offset is None:
        raise FormatError(f"no attribute of {PAYLOAD_SIZE} bytes (ACPI_GENL_ATTR_EVENT)")
    event = _at(message, offset, PAYLOAD)
    return Event(
        sequence=header.nlmsg_seq,
        device_class=_text(event.device_class),
        bus_id=_text(event.bus_id),
        type=event.type,
        data=event.data,
    )


def _attributes(message: bytes) -> Iterator[tuple[int, int]]:
    """Yield type and payload offset of each attribute with a payload of PAYLOAD_SIZE bytes.

    Stops at an attribute that is longer than the rest of the message, or shorter than its header.
    """
    offset = ATTRIBUTES_OFFSET
    while offset + ATTRIBUTE_SIZE <= len(message):
        attribute = _at(message, offset, ATTRIBUTE)
        length = attribute.nla_len
        if length < ATTRIBUTE_SIZE or offset + length > len(message):
            return
        if length == ATTRIBUTE_SIZE + PAYLOAD_SIZE:
            yield attribute.nla_type & NLA_TYPE_MASK, offset + ATTRIBUTE_SIZE
        offset += -(-length // NLA_ALIGNTO) * NLA_ALIGNTO


def _at(message: bytes, offset: int, structure: Any) -> Any:
    """Return the structure at ``offset``, which has to be in the message as a whole.

    ``structure`` is cffi's type of a pointer to it.
    """
    return mirror.ffi.from_buffer(structure, memoryview(message)[offset:])


def _text(field: Any) -> str:
    """Return the text of a char array up to its first NUL, or all of it if it has no NUL."""
    text: bytes = mirror.ffi.string(field)
    return text.decode("utf-8", "backslashreplace")
