# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A listener for ``acpi_event`` multicasts.

pyroute2 brings the message classes. The socket is a plain one: pyroute2's are broken for good
by one ENOBUFS, and hide messages from select() in a queue of their own (seen with 0.9.7).
"""

from __future__ import annotations

import errno
import math
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from pyroute2.netlink import ctrlmsg, nlmsg

from uapi import acpi_event
from uapi.acpi_event import Event
from uapi.closing import Closing
from uapi.errors import OpenError
from uapi.gaps import Gaps

NETLINK_GENERIC = 16
GENL_ID_CTRL = 0x10
CTRL_CMD_GETFAMILY = 3
CTRL_VERSION = 2
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
NETLINK_ADD_MEMBERSHIP = 1
SOL_NETLINK = 270
SO_RCVBUFFORCE = 33
RECEIVE_SIZE = 1 << 16


@dataclass(frozen=True)
class Family:
    """A generic netlink family as the kernel describes it."""

    id: int
    version: int
    groups: dict[str, int]


@dataclass(frozen=True)
class Overrun:
    """The socket's buffer was full (ENOBUFS): events between two received ones are missing.

    How many shows in the gap between their sequence numbers.
    """


@dataclass(frozen=True)
class Received:
    """An event and the bytes it was decoded from."""

    event: Event
    raw: bytes


@dataclass(frozen=True)
class Lost:
    """``count`` events, of whatever devices, are missing before the next one; see `uapi.gaps`."""

    count: int


def family(name: str = acpi_event.FAMILY) -> Family:
    """Ask the kernel for a family. OSError (ENOENT) if this network namespace has none.

    Source: net/netlink/genetlink.c, ctrl_getfamily().
    """
    request = ctrlmsg()
    request["cmd"] = CTRL_CMD_GETFAMILY
    request["version"] = CTRL_VERSION
    request["attrs"] = [("CTRL_ATTR_FAMILY_NAME", name)]
    request["header"] = {"type": GENL_ID_CTRL, "flags": NLM_F_REQUEST, "sequence_number": 1}
    request.encode()
    with _socket() as control:
        control.send(request.data)
        answer = control.recv(RECEIVE_SIZE)
    _raise_error(answer, name)
    view = ctrlmsg(answer)
    view.decode()
    return Family(
        id=view.get_attr("CTRL_ATTR_FAMILY_ID"),
        version=view.get_attr("CTRL_ATTR_VERSION"),
        groups=_groups(view),
    )


class Listener(Closing):
    """Receives every event from the moment it is made; a context manager.

    Iterate over it, with ``for`` or ``async for``, for events and what was lost of them: neither
    ends by itself. `receive` and what follows it give what the socket gave, one by one.

    ``buffer`` is the socket's receive buffer in bytes, which the kernel doubles; without
    CAP_NET_ADMIN it is bounded by net.core.rmem_max. To listen no capability is needed.
    ``known`` is the family if it was asked for before; OSError as `family` if not and there is
    none, OpenError (ENOTSUP) if it has no group of the right name. ``protocol`` is another than
    generic netlink where something else than the kernel is to send the messages
    (NETLINK_USERSOCK, in tests).
    """

    def __init__(
        self,
        *,
        buffer: int | None = None,
        known: Family | None = None,
        protocol: int = NETLINK_GENERIC,
    ) -> None:
        self.family = known or family()
        self._gaps = Gaps()
        self._next: Event | None = None
        self._socket = _socket(protocol)
        try:
            if buffer is not None:
                _set_buffer(self._socket, buffer)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, self._group())
        except BaseException:
            self._socket.close()
            raise

    def _group(self) -> int:
        if (number := self.family.groups.get(acpi_event.GROUP)) is None:
            cause = f"this kernel's has no group {acpi_event.GROUP}"
            raise OpenError(errno.ENOTSUP, acpi_event.FAMILY, cause)
        return number

    def close(self) -> None:
        """Leave the group."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor, for poll(2): readable when `pending` has something to give."""
        return self._socket.fileno()

    def read(self, seconds: float | None = None) -> Event | Lost | None:
        """Wait for the next event, or the gap before it; None if none came within ``seconds``.

        Raises acpi_event.FormatError for a message that is none of the family's.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            if (item := self._take()) is not None:
                return item
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self._wait(left):
                return None

    def __iter__(self) -> Iterator[Event | Lost]:
        while (item := self.read()) is not None:
            yield item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Lost:
        from uapi.aio import readable

        while (item := self._take()) is None:
            await readable(self.fileno())
        return item

    def receive(self, seconds: float) -> Received | Overrun | None:
        """Wait for what the socket has next; None if nothing came within ``seconds``.

        Raises acpi_event.FormatError for a message that is none of the family's.
        """
        got = self._receive()
        if got is None and self._wait(seconds):
            got = self._receive()
        return got

    def pending(self, quiet: float = 0.0) -> Iterator[Received | Overrun]:
        """Yield what has come, until nothing more comes for ``quiet`` seconds."""
        while (got := self.receive(quiet)) is not None:
            yield got

    def until(self, seconds: float) -> Iterator[Received | Overrun]:
        """Yield what comes within ``seconds`` of now."""
        end = time.monotonic() + seconds
        while (got := self.receive(max(0.0, end - time.monotonic()))) is not None:
            yield got

    def _wait(self, seconds: float | None) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(None if seconds is None else math.ceil(max(0.0, seconds) * 1000)))

    def _receive(self) -> Received | Overrun | None:
        try:
            raw = self._socket.recv(RECEIVE_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return Overrun()
            raise
        return Received(acpi_event.decode(raw), raw)

    def _take(self) -> Event | Lost | None:
        """What can be had without waiting."""
        item: Event | Lost | None = self._next
        self._next = None
        while item is None and (got := self._receive()) is not None:
            item = self._account(got)
        return item

    def _account(self, got: Received | Overrun) -> Event | Lost | None:
        if isinstance(got, Overrun):
            self._gaps.overrun()
            return None
        if not (lost := self._gaps.take(got.event.sequence)):
            return got.event
        self._next = got.event
        return Lost(lost)


def _socket(protocol: int = NETLINK_GENERIC) -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    # Without a port id a socket never gets a multicast.
    netlink.bind((0, 0))
    return netlink


def _set_buffer(netlink: socket.socket, size: int) -> None:
    try:
        netlink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def _groups(view: Any) -> dict[str, int]:
    groups = view.get_attr("CTRL_ATTR_MCAST_GROUPS") or ()
    return {
        group.get_attr("CTRL_ATTR_MCAST_GRP_NAME"): group.get_attr("CTRL_ATTR_MCAST_GRP_ID")
        for group in groups
    }


def _raise_error(answer: bytes, name: str) -> None:
    header = nlmsg(answer)
    header.decode()
    if header["header"]["type"] == NLMSG_ERROR:
        number = -struct.unpack_from("=i", answer, 16)[0]
        raise OSError(number, f"generic netlink family {name}: {errno.errorcode.get(number)}")
