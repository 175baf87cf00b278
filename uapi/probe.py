# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A listener for ``acpi_event`` multicasts.

pyroute2 brings the message classes. The socket is a plain one: pyroute2's are broken for good
by one ENOBUFS, and hide messages from select() in a queue of their own (seen with 0.9.7).
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pyroute2.netlink import ctrlmsg, nlmsg

from uapi import acpi_event

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

    event: acpi_event.Event
    raw: bytes


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


class Listener:
    """Receives every event from the moment it is made; a context manager.

    ``buffer`` is the socket's receive buffer in bytes, which the kernel doubles; without
    CAP_NET_ADMIN it is bounded by net.core.rmem_max. To listen no capability is needed.
    ``known`` is the family if it was asked for before; OSError as `family` if not and there is
    none.
    """

    def __init__(self, *, buffer: int | None = None, known: Family | None = None) -> None:
        self.family = known or family()
        self._socket = _socket()
        if buffer is not None:
            _set_buffer(self._socket, buffer)
        group = self.family.groups[acpi_event.GROUP]
        self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the group."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor, for poll(2): readable when `pending` has something to give."""
        return self._socket.fileno()

    def receive(self, seconds: float) -> Received | Overrun | None:
        """Wait for the next event; None if none came within ``seconds``.

        Raises acpi_event.FormatError for a message that is none of the family's.
        """
        if not select.select([self._socket], [], [], seconds)[0]:
            return None
        try:
            raw = self._socket.recv(RECEIVE_SIZE)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return Overrun()
            raise
        return Received(acpi_event.decode(raw), raw)

    def pending(self, quiet: float = 0.0) -> Iterator[Received | Overrun]:
        """Yield what has come, until nothing more comes for ``quiet`` seconds."""
        while (got := self.receive(quiet)) is not None:
            yield got

    def until(self, seconds: float) -> Iterator[Received | Overrun]:
        """Yield what comes within ``seconds`` of now."""
        end = time.monotonic() + seconds
        while (got := self.receive(max(0.0, end - time.monotonic()))) is not None:
            yield got


def _socket() -> socket.socket:
    netlink = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC
    )
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
