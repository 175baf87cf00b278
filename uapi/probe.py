# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Listeners for the multicasts of generic netlink, above all of ``acpi_event``.

`Listener` receives the events of all ACPI devices, `NotifyListener` the notifications of the
devices that are bound to vfio-pci, with whole values.

The message classes are pyroute2's. The socket is a plain one, because pyroute2's sockets stop
working after one ENOBUFS, and keep messages in a queue where select() does not see them (seen with
0.9.7).
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from pyroute2.netlink import ctrlmsg, nlmsg

from . import acpi_event
from .acpi_event import Event, Notify
from .errors import OpenError
from .gaps import HALF, MASK, Gaps
from .polling import Pollable

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
    """A generic netlink family: its ids are chosen by the kernel at run time.

    ``id`` is the type of its messages. ``groups`` has the id of each multicast group by ``name``.
    """

    id: int
    version: int
    groups: dict[str, int]
    name: str = acpi_event.FAMILY


@dataclass(frozen=True)
class Overrun:
    """The socket's receive buffer was full (ENOBUFS), and the kernel dropped events.

    A gap in the sequence numbers of the events received later tells how many; see `uapi.gaps`.
    """


@dataclass(frozen=True)
class Received:
    """An event, and the netlink message (``raw``) from which it was decoded."""

    event: Event
    raw: bytes


@dataclass(frozen=True)
class Lost:
    """``count`` events, of any devices, were lost just before the event that is returned next.

    The docstring of `uapi.gaps` says how exact the number is.
    """

    count: int


def family(name: str = acpi_event.FAMILY) -> Family:
    """Ask the kernel for the generic netlink family ``name`` (CTRL_CMD_GETFAMILY), and return it.

    Raises OSError; the errno is ENOENT if this network namespace does not have the family.

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
        name=name,
    )


class Membership(Pollable):
    """A netlink socket that is a member of the multicast group ``group`` of a family.

    `wait` returns True if the socket has a message or an overrun. It is closed at the end of the
    ``with`` block. ``buffer`` is the size of the socket's receive buffer in bytes, which the kernel
    doubles; without CAP_NET_ADMIN net.core.rmem_max limits it. ``known`` is the family, a result of
    `family`; the default is ``acpi_event``. ``protocol`` is the netlink protocol; tests use
    NETLINK_USERSOCK to send messages themselves.

    Raises OSError like `family`, and OpenError (ENOTSUP) if the family lacks the multicast group.
    """

    group: ClassVar[str]
    what = "listener"
    wakes = select.POLLIN | select.POLLERR

    def __init__(
        self,
        *,
        buffer: int | None = None,
        known: Family | None = None,
        protocol: int = NETLINK_GENERIC,
    ) -> None:
        self.family = known or family()
        self._socket = _socket(protocol)
        try:
            if buffer is not None:
                _set_buffer(self._socket, buffer)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, self._group())
        except BaseException:
            self._socket.close()
            raise
        super().__init__(self._socket.fileno())

    def _group(self) -> int:
        if (number := self.family.groups.get(self.group)) is None:
            cause = f"this kernel's has no group {self.group}"
            raise OpenError(errno.ENOTSUP, self.family.name, cause)
        return number

    def close(self) -> None:
        """Close the socket, which leaves the multicast group; who waits for a message returns."""
        self._socket.detach()
        super().close()

    def message(self) -> bytes | Overrun | None:
        """Return the next message or overrun, or None if the socket has none. Does not block."""
        try:
            return self._socket.recv(RECEIVE_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return Overrun()
            raise


class NotifyListener(Membership):
    """A netlink socket that receives every notification of the group ``acpi_notify``.

    Joining the group takes CAP_NET_ADMIN in the initial user namespace: without it, PermissionError
    is raised. A process that has joined may hand its socket to another one.

    The parameters are those of `Membership`.
    """

    group = acpi_event.NOTIFY_GROUP

    def __init__(
        self,
        *,
        buffer: int | None = None,
        known: Family | None = None,
        protocol: int = NETLINK_GENERIC,
    ) -> None:
        self._expected: dict[str, int] = {}
        super().__init__(buffer=buffer, known=known, protocol=protocol)

    def read(self, seconds: float | None = None) -> Notify | Overrun | None:
        """Wait for the next notification or overrun and return it.

        Returns None if there is none within ``seconds`` (None: no limit). Raises FormatError if a
        message is no notification. An `Overrun` needs no action: `Notify.lost` of the next
        notification of each device counts the lost ones. Those before the first notification of a
        device, and those at the end before it was bound anew, are not counted.
        """
        got = self.message()
        if got is None and self.wait(seconds):
            got = self.message()
        return self._account(acpi_event.decode_notify(got)) if isinstance(got, bytes) else got

    def pending(self, quiet: float = 0.0) -> Iterator[Notify | Overrun]:
        """Yield each notification and overrun, until none arrives for ``quiet`` seconds."""
        while (got := self.read(quiet)) is not None:
            yield got

    def _account(self, got: Notify) -> Notify:
        """Set `Notify.lost`. The notifications of a device arrive in the order of their numbers.

        So a number below the expected one shows that the device was bound anew.
        """
        missing = (got.sequence - self._expected.get(got.bdf, got.sequence)) & MASK
        self._expected[got.bdf] = (got.sequence + 1) & MASK
        return replace(got, lost=missing if missing < HALF else got.sequence)


class Listener(Membership):
    """A netlink socket that receives every acpi_event event from its creation on.

    Iterate with ``for`` or ``async for``, or call `read`: these return `Event` and `Lost`, and do
    not end by themselves. `receive`, `pending` and `until` return each message and each overrun of
    the socket instead. Do not mix the two kinds.

    The parameters are those of `Membership`. Listening needs no capability.

    When the descriptor is readable, call `read` with 0 seconds until it returns None: the event
    after a `Lost` is in this object, not in the socket.
    """

    group = acpi_event.GROUP

    def __init__(
        self,
        *,
        buffer: int | None = None,
        known: Family | None = None,
        protocol: int = NETLINK_GENERIC,
    ) -> None:
        self._gaps = Gaps()
        self._next: Event | None = None
        super().__init__(buffer=buffer, known=known, protocol=protocol)

    def read(self, seconds: float | None = None) -> Event | Lost | None:
        """Wait for the next event and return it; if events were lost before it, first a `Lost`.

        Returns None if no event arrives within ``seconds`` (None: no limit). Raises FormatError if
        a message is not an event.
        """
        self.fileno()
        end = None if seconds is None else time.monotonic() + seconds
        while not self.waiters.closed:
            if (item := self._take()) is not None:
                return item
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self.wait(left):
                break
        return None

    def __iter__(self) -> Iterator[Event | Lost]:
        while (item := self.read()) is not None:
            yield item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Lost:
        from . import aio

        self.fileno()
        await aio.others()
        while not self.waiters.closed:
            if (item := self._take()) is not None:
                return item
            await aio.readable(self.fileno(), self.waiters)
        raise StopAsyncIteration

    def receive(self, seconds: float) -> Received | Overrun | None:
        """Wait for the next message or overrun of the socket and return it.

        Returns None if there is none within ``seconds``. Raises FormatError if a message is not an
        event.
        """
        got = self._receive()
        if got is None and self.wait(seconds):
            got = self._receive()
        return got

    def pending(self, quiet: float = 0.0) -> Iterator[Received | Overrun]:
        """Yield each message and overrun, until none arrives for ``quiet`` seconds."""
        while (got := self.receive(quiet)) is not None:
            yield got

    def until(self, seconds: float) -> Iterator[Received | Overrun]:
        """Yield each message and overrun that the socket has or gets within ``seconds``."""
        end = time.monotonic() + seconds
        while (got := self.receive(max(0.0, end - time.monotonic()))) is not None:
            yield got

    def _receive(self) -> Received | Overrun | None:
        got = self.message()
        return Received(acpi_event.decode(got), got) if isinstance(got, bytes) else got

    def _take(self) -> Event | Lost | None:
        """Return the next event or loss, or None if the socket has no message. Does not block."""
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
    # A socket without a port id receives no multicast.
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
