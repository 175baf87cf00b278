# SPDX-License-Identifier: GPL-2.0-only OR MIT
r"""The messages of the generic netlink family ``acpi_event`` (drivers/acpi/event.c).

A message to the group ``acpi_mc_group`` is an event. It has 68 bytes, in the byte order of the
host::

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

With the netlink series, a message to the group ``acpi_notify`` is a notification of a device that
is bound to vfio-pci. Its nlmsg_seq is 0, its cmd is 2 (ACPI_GENL_CMD_NOTIFY), and it has an
attribute for each member of `Notify`::

    type
       1   the BDF, NUL-terminated
       2   u32 value
       3   u32 sequence number
       4   the path of the ACPI companion, NUL-terminated; may be absent
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import genl, mirror
from .errors import FormatError as FormatError  # raised by decode()

FAMILY = mirror.ACPI_GENL_FAMILY_NAME
GROUP = mirror.ACPI_GENL_MCAST_GROUP_NAME
VERSION = mirror.ACPI_GENL_VERSION
CMD_EVENT = mirror.ACPI_GENL_CMD_EVENT
ATTR_EVENT = mirror.ACPI_GENL_ATTR_EVENT

NOTIFY_GROUP = mirror.ACPI_GENL_NOTIFY_GROUP_NAME
CMD_NOTIFY = mirror.ACPI_GENL_CMD_NOTIFY

PAYLOAD = mirror.ffi.typeof("struct acpi_genl_event *")

PAYLOAD_SIZE = mirror.sizeof("acpi_genl_event")
MESSAGE_SIZE = genl.ATTRIBUTES_OFFSET + genl.ATTRIBUTE_SIZE + PAYLOAD_SIZE

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
    header = genl.header(message, CMD_EVENT, "ACPI_GENL_CMD_EVENT")
    payload = dict(genl.attributes_of(message)).get(ATTR_EVENT, b"")
    if len(payload) != PAYLOAD_SIZE:
        raise FormatError(f"no attribute of {PAYLOAD_SIZE} bytes (ACPI_GENL_ATTR_EVENT)")
    event = mirror.ffi.from_buffer(PAYLOAD, payload)
    return Event(
        sequence=header.nlmsg_seq,
        device_class=_text(event.device_class),
        bus_id=_text(event.bus_id),
        type=event.type,
        data=event.data,
    )


@dataclass(frozen=True)
class Notify:
    """A notification of a device that is bound to vfio-pci.

    ``bdf`` is the device, ``path`` the ACPI path of its companion, "" if the message has none. The
    kernel numbers the notifications of a device: ``sequence`` is 0 for the first one after the
    device was bound, one more for each further one. ``lost`` is the number of those that were lost
    just before this one, as far as `uapi.probe.NotifyListener` can tell; `decode_notify` sets 0.
    """

    bdf: str
    value: int
    sequence: int
    path: str
    lost: int = 0


def decode_notify(message: bytes) -> Notify:
    """Decode one netlink message that was received from the group ``acpi_notify``.

    Attributes of unknown types are ignored. Raises FormatError if the length or the command is not
    that of a notification, or an attribute is missing (all but the path) or has another size.
    """
    genl.header(message, CMD_NOTIFY, "ACPI_GENL_CMD_NOTIFY")
    attributes = dict(genl.attributes_of(message))
    return Notify(
        bdf=genl.string(attributes, mirror.ACPI_GENL_NOTIFY_ATTR_PCI_NAME),
        value=genl.u32(attributes, mirror.ACPI_GENL_NOTIFY_ATTR_VALUE),
        sequence=genl.u32(attributes, mirror.ACPI_GENL_NOTIFY_ATTR_SEQUENCE),
        path=genl.string(attributes, mirror.ACPI_GENL_NOTIFY_ATTR_PATH, b"\0"),
    )


def _text(field: Any) -> str:
    """Return the text of a char array up to its first NUL, or all of it if it has no NUL."""
    text: bytes = mirror.ffi.string(field)
    return text.decode("utf-8", "backslashreplace")
