# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The broker: one event loop over the VMMs' requests and the notifications of the host.

Nothing of a VMM blocks it, and each VMM takes a bounded amount of memory: `PER_USER` connections
and a thread of a user (`Opening`), and an `Outlet` for each device of the policy.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import select
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ..acpi_event import Notify
from ..closing import Closing
from ..errors import Error, FormatError, OpenError
from ..probe import Overrun
from . import message
from .handover import DeviceHandover
from .message import Answer, Role
from .opening import Opener, Opening, Outcome
from .outlet import Outlet
from .policy import Grant, Policy

PER_USER = 4
# The number of messages of the host that are read before the VMMs have their turn.
BATCH = 64
# Descriptors for all else: the standard ones, and those that the broker waits for.
SPARE = 32

CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid


class Source(Protocol):
    """The notifications of the host; `uapi.probe.NotifyListener` is one."""

    def fileno(self) -> int:
        """Return the descriptor. It is readable when there are notifications."""

    def read(self, seconds: float) -> Notify | Overrun | None:
        """Return the next one, None if there is none within ``seconds``; FormatError if bad."""


class Log:
    """Prints lines, at most `LINES` in `SECONDS`; a VMM can cause any number."""

    LINES, SECONDS = 60, 60.0

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._begin = 0.0
        self._count = 0

    def __call__(self, line: str) -> None:
        """Print ``line``, or count it if there were too many."""
        if (now := time.monotonic()) > self._begin + self.SECONDS:
            if self._count > self.LINES:
                self._write(f"{self._count - self.LINES} lines were left out")
            self._begin, self._count = now, 0
        self._count += 1
        if self._count <= self.LINES:
            self._write(line)


def _to_stderr(line: str) -> None:
    # Nobody may read the journal any more; the VMMs are served all the same.
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class _Client:
    """A connection of the user ``uid``."""

    def __init__(self, connection: socket.socket, uid: int) -> None:
        self.connection = connection
        self.uid = uid


class Service(Closing):
    """The broker on the socket ``listening``, by ``policy``.

    ``source`` is for the devices with the mechanism "netlink"; None if there are none. ``opener``
    opens the others. `close` closes the sockets to the VMMs, but neither ``listening`` nor
    ``source``.
    """

    def __init__(
        self,
        listening: socket.socket,
        policy: Policy,
        source: Source | None = None,
        *,
        opener: Opener = DeviceHandover,
        write: Callable[[str], object] = _to_stderr,
    ) -> None:
        self._listening = listening
        self._policy = policy
        self._source = source
        self._opening = Opening(opener)
        self._log = Log(write)
        self._users = {grant.uid for grant in policy.values()}
        self._clients: Counter[int] = Counter()
        self._connections: dict[int, _Client] = {}
        self._outlets: dict[str, Outlet] = {}
        self._handlers: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        # Of the connections of a user, and of the device that is opened for it.
        of_a_user = PER_USER + message.DESCRIPTORS
        _allow_descriptors(SPARE + of_a_user * len(self._users) + len(policy))
        listening.setblocking(False)
        self._watch(listening.fileno(), select.EPOLLIN, self._accept)
        self._watch(self._opening.fileno(), select.EPOLLIN, self._opening.finish)
        if source is not None:
            self._watch(source.fileno(), select.EPOLLIN, self._receive)

    def run(self) -> None:
        """Serve until an exception, for instance KeyboardInterrupt."""
        while True:
            self.step(None)

    def step(self, seconds: float | None) -> None:
        """Wait at most ``seconds`` (None: no limit), and handle all that is ready."""
        for fd, _ in self._epoll.poll(seconds):
            # A handler before this one may have closed the descriptor.
            if handler := self._handlers.get(fd):
                handler()

    def close(self) -> None:
        """Close all sockets to VMMs."""
        self._opening.close()
        for client in [*self._connections.values()]:
            self._drop(client)
        for bdf in [*self._outlets]:
            self._end(bdf)
        self._epoll.close()

    # ---- the host's side ----

    def _receive(self) -> None:
        assert self._source is not None
        for _ in range(BATCH):
            try:
                got = self._source.read(0)
            except FormatError as error:
                self._log(f"no notification: {error}")
                continue
            if got is None:
                return
            if isinstance(got, Overrun):
                self._log("the host's notifications were too many: some are lost")
                continue
            self._deliver(got)

    def _deliver(self, notify: Notify) -> None:
        outlet = self._outlets.get(notify.bdf)
        if outlet is None or self._policy[notify.bdf].companion not in ("", notify.path):
            return
        outlet.put(notify)
        self._watch_outlet(notify.bdf, outlet)

    def _watch_outlet(self, bdf: str, outlet: Outlet) -> None:
        """Wait for room if events wait; in any case for the VMM's end (EPOLLHUP, always told)."""
        events = select.EPOLLOUT if outlet.waiting else 0
        self._watch(outlet.fileno(), events, lambda: self._outlet_ready(bdf, outlet))

    def _outlet_ready(self, bdf: str, outlet: Outlet) -> None:
        if outlet.gone:
            self._end(bdf)
            self._log(f"{bdf}: the VMM has closed its socket")
            return
        outlet.flush()
        self._watch_outlet(bdf, outlet)

    def _end(self, bdf: str) -> None:
        outlet = self._outlets.pop(bdf)
        self._forget(outlet.fileno())
        outlet.close()

    # ---- the VMMs' side ----

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # the system has no file or no memory left
            self._log(f"no connection: {error.strerror}")
            return
        uid = peer(connection)
        if uid not in self._users or self._clients[uid] >= PER_USER:
            why = "has no device" if uid not in self._users else f"has {PER_USER} connections"
            self._log(f"uid {uid} refused: it {why}")
            connection.close()
            return
        connection.setblocking(False)
        client = self._connections[connection.fileno()] = _Client(connection, uid)
        self._clients[uid] += 1
        self._await_request(client)

    def _await_request(self, client: _Client) -> None:
        self._watch(client.connection.fileno(), select.EPOLLIN, partial(self._serve, client))

    def _serve(self, client: _Client) -> None:
        """Read one request and answer it; drop the client if it does not speak the protocol."""
        try:
            # Without a control buffer, the kernel closes descriptors that the client sends.
            data = client.connection.recv(message.SIZE + 1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        try:
            bdf = message.requested(data)
        except FormatError as error:
            wrong_version = isinstance(error, message.VersionError)
            number = errno.EPROTONOSUPPORT if wrong_version else errno.EPROTO
            self._log(f"uid {client.uid} refused: {error}")
            self._send(client, Answer(number))
            self._drop(client)
            return
        self._open(client, bdf)

    def _open(self, client: _Client, bdf: str) -> None:
        grant = self._policy.get(bdf)
        if grant is None or grant.uid != client.uid:
            self._log(f"uid {client.uid} refused: {bdf!r} is not its device")
            self._send(client, Answer(errno.EACCES))
        elif grant.mechanism == message.NETLINK:
            self._open_outlet(client, bdf)
        else:
            self._open_device(client, grant)

    def _open_outlet(self, client: _Client, bdf: str) -> None:
        there = self._outlets.get(bdf)
        if there is not None and there.gone:
            self._end(bdf)
        elif there is not None:
            self._send(client, Answer(errno.EEXIST))
            return
        try:
            outlet = self._outlets[bdf] = Outlet()
        except OSError as error:
            self._send(client, Answer(error.errno or errno.EIO))
            return
        answer = Answer(roles=(Role.EVENTS,), mechanism=message.NETLINK)
        if self._send(client, answer, (outlet.theirs.fileno(),)):
            outlet.theirs.close()
            self._watch_outlet(bdf, outlet)
            self._log(f"{bdf}: uid {client.uid} has its notifications")
        else:
            self._end(bdf)

    def _open_device(self, client: _Client, grant: Grant) -> None:
        """Open the device in a thread; the client's next request is read after its answer."""
        try:
            self._opening.open(grant, partial(self._opened, client, grant))
        except RuntimeError as error:  # the system has no thread left
            self._log(f"{grant.bdf}: {error}")
            self._send(client, Answer(errno.EAGAIN))
            return
        self._forget(client.connection.fileno())

    def _opened(self, client: _Client, grant: Grant, outcome: Outcome) -> None:
        self._await_request(client)
        if isinstance(outcome, (Error, OSError)):
            self._log(f"{grant.bdf}: {outcome}")
            number = outcome.errno if isinstance(outcome, OSError) else None
            self._send(client, Answer(number or errno.EIO))
            return
        if isinstance(outcome, Exception):
            raise outcome
        roles, fds = zip(*outcome.descriptors(), strict=True)
        if self._send(client, Answer(roles=roles, mechanism=outcome.mechanism), fds):
            self._log(f"{grant.bdf}: uid {client.uid} has it, by {outcome.mechanism}")

    def _send(self, client: _Client, answer: Answer, fds: tuple[int, ...] = ()) -> bool:
        """Send an answer, and return whether that succeeded. A client that never reads is dropped.

        Descriptors that are sent but not read yet are the client's: its end closes them.
        """
        try:
            data = [message.answer(answer)]
            socket.send_fds(client.connection, data, fds, socket.MSG_NOSIGNAL)
        except OSError as error:
            self._log(f"uid {client.uid} dropped: {error.strerror}")
            self._drop(client)
            return False
        return True

    def _drop(self, client: _Client) -> None:
        fd = client.connection.fileno()
        if self._connections.pop(fd, None) is not None:
            self._forget(fd)
            self._clients[client.uid] -= 1
            client.connection.close()

    # ---- the loop ----

    def _watch(self, fd: int, events: int, handler: Callable[[], None]) -> None:
        change = self._epoll.modify if fd in self._handlers else self._epoll.register
        change(fd, events)
        self._handlers[fd] = handler

    def _forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)


def peer(connection: socket.socket) -> int:
    """Return the uid of the process that has connected (SO_PEERCRED, unix(7))."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    uid: int = CREDENTIALS.unpack(data)[1]
    return uid


def _allow_descriptors(number: int) -> None:
    """Raise the limit of open descriptors; OpenError (EMFILE) if it cannot be ``number``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        cause = f"the limit of open files is {hard}, and this policy needs {number}"
        raise OpenError(errno.EMFILE, "broker", cause, "raise LimitNOFILE= or ulimit -n")
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
