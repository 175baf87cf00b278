# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The messages between the broker and a VMM, version 1, by a Unix socket of type SOCK_SEQPACKET.

All have the byte order of the host. A VMM sends a request for each device, 32 bytes::

    offset  type
     0      u16       version, 1
     2      u16       kind: 1 OPEN
     4      u32       flags, 0
     8      char[24]  the BDF ("0000:01:00.0"), padded with NUL

The broker answers each with 32 bytes, and descriptors in one SCM_RIGHTS (unix(7))::

     0      u16       version, 1
     2      u16       kind: 2 OPENED, 3 REFUSED
     4      u32       OPENED: 0, REFUSED: an errno
     8      u8[8]     the role of each descriptor, in their order; 0: no further one
    16      char[16]  the mechanism, padded with NUL

With the mechanism "netlink" the only descriptor is a socket. Each read(2) of it returns an event of
16 bytes, with the layout of struct vfio_acpi_notify_event (`uapi.eventq`).
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from ..errors import FormatError

VERSION = 1
REQUEST = struct.Struct("=HHI24s")
ANSWER = struct.Struct("=HHI8s16s")
SIZE = 32
DESCRIPTORS = 8

NETLINK = "netlink"


class Kind(enum.IntEnum):
    """The kind of a message."""

    OPEN = 1
    OPENED = 2
    REFUSED = 3


class Role(enum.IntEnum):
    """What a descriptor is for.

    EVENTS is read: the queue, the eventfd, or the broker's socket. ACKNOWLEDGE is the eventfd that
    acknowledges. IOMMUFD, or GROUP and CONTAINER, are what the device was opened by.
    """

    EVENTS = 1
    DEVICE = 2
    ACKNOWLEDGE = 3
    IOMMUFD = 4
    GROUP = 5
    CONTAINER = 6


@dataclass(frozen=True)
class Answer:
    """The broker's answer: an errno, or the roles of the descriptors and the mechanism."""

    error: int = 0
    roles: tuple[Role, ...] = ()
    mechanism: str = ""


class VersionError(FormatError):
    """A message of another version."""


def request(bdf: str) -> bytes:
    """Return a request for the device. Raises FormatError if ``bdf`` has no place in it."""
    name = bdf.encode()
    if len(name) >= 24:
        raise FormatError(f"{bdf!r} is longer than a BDF")
    return REQUEST.pack(VERSION, Kind.OPEN, 0, name)


def requested(data: bytes) -> str:
    """Return the BDF in a request.

    Raises VersionError for another version, FormatError for anything else that is no request.
    """
    _check(data)
    _, kind, flags, name = REQUEST.unpack(data)
    if kind != Kind.OPEN or flags:
        raise FormatError(f"no request: kind {kind}, flags {flags:#x}")
    return _text(name)


def answer(given: Answer) -> bytes:
    """Return the bytes of an answer."""
    kind = Kind.REFUSED if given.error else Kind.OPENED
    return ANSWER.pack(VERSION, kind, given.error, bytes(given.roles), given.mechanism.encode())


def answered(data: bytes) -> Answer:
    """Return an answer. Raises VersionError or FormatError as `requested` does."""
    _check(data)
    _, kind, error, roles, mechanism = ANSWER.unpack(data)
    if kind not in (Kind.OPENED, Kind.REFUSED) or (kind == Kind.REFUSED) != bool(error):
        raise FormatError(f"no answer: kind {kind}, errno {error}")
    try:
        known = tuple(Role(number) for number in roles.rstrip(b"\0"))
    except ValueError as unknown:
        raise FormatError(f"no role of a descriptor: {unknown}") from None
    return Answer(error, known, _text(mechanism))


def _check(data: bytes) -> None:
    if len(data) != SIZE:
        raise FormatError(f"{len(data)} bytes are no message of {SIZE} bytes")
    (version,) = struct.unpack_from("=H", data)
    if version != VERSION:
        raise VersionError(f"version {version}, not {VERSION}")


def _text(field: bytes) -> str:
    """Return the text before the first NUL; FormatError if there is none, or bytes behind it."""
    text, end, rest = field.partition(b"\0")
    if not end or rest.strip(b"\0") or not text.isascii():
        raise FormatError("a text is not padded with NUL, or not ASCII")
    return text.decode()
