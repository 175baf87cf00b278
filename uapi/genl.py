# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Messages of generic netlink: a header, and attributes of a type each.

Source: include/uapi/linux/netlink.h, include/uapi/linux/genetlink.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from . import mirror
from .errors import FormatError

HEADER = mirror.ffi.typeof("struct nlmsghdr *")
GENL_HEADER = mirror.ffi.typeof("struct genlmsghdr *")
ATTRIBUTE = mirror.ffi.typeof("struct nlattr *")

GENL_OFFSET = mirror.sizeof("nlmsghdr")
ATTRIBUTES_OFFSET = GENL_OFFSET + mirror.sizeof("genlmsghdr")
ATTRIBUTE_SIZE = mirror.sizeof("nlattr")
# The bits of nla_type without its two flags (NLA_TYPE_MASK, include/uapi/linux/netlink.h).
NLA_TYPE_MASK = 0x3FFF
NLA_ALIGNTO = 4
U32 = struct.Struct("=I")


def header(message: bytes, command: int, name: str) -> Any:
    """Return the nlmsghdr of a message.

    Raises FormatError if the message has another length, or another command than ``command``, which
    the text calls ``name``.
    """
    if len(message) < ATTRIBUTES_OFFSET:
        raise FormatError(f"no generic netlink message: {len(message)} bytes")
    header = mirror.ffi.from_buffer(HEADER, message)
    if header.nlmsg_len != len(message):
        raise FormatError(f"{len(message)} bytes, where the header says {header.nlmsg_len}")
    there = _at(message, GENL_OFFSET, GENL_HEADER).cmd
    if there != command:
        raise FormatError(f"command {there}, not {command} ({name})")
    return header


def u32(attributes: Mapping[int, bytes], kind: int) -> int:
    """Return the number in the attribute of this type. FormatError if there is none of 4 bytes."""
    payload = attributes.get(kind, b"")
    if len(payload) != U32.size:
        raise FormatError(f"no attribute {kind} of {U32.size} bytes")
    number: int = U32.unpack(payload)[0]
    return number


def string(attributes: Mapping[int, bytes], kind: int, otherwise: bytes = b"") -> str:
    """Return the text of the attribute of this type, or of ``otherwise`` if there is none.

    Raises FormatError if the payload does not end with its first NUL.
    """
    text, end, rest = attributes.get(kind, otherwise).partition(b"\0")
    if not end or rest:
        raise FormatError(f"no attribute {kind} that ends with its first NUL")
    return text.decode("utf-8", "backslashreplace")


def attributes_of(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of each attribute of a generic netlink message.

    Stops at an attribute that is longer than the rest of the message, or shorter than its header.
    """
    offset = ATTRIBUTES_OFFSET
    while offset + ATTRIBUTE_SIZE <= len(message):
        attribute = _at(message, offset, ATTRIBUTE)
        length = attribute.nla_len
        if length < ATTRIBUTE_SIZE or offset + length > len(message):
            return
        payload = message[offset + ATTRIBUTE_SIZE : offset + length]
        yield attribute.nla_type & NLA_TYPE_MASK, payload
        offset += -(-length // NLA_ALIGNTO) * NLA_ALIGNTO


def _at(message: bytes, offset: int, structure: Any) -> Any:
    """Return the structure at ``offset``, which has to be in the message as a whole.

    ``structure`` is cffi's type of a pointer to it.
    """
    return mirror.ffi.from_buffer(structure, memoryview(message)[offset:])
