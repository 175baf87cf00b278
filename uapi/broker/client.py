# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A VMM's side of the broker: ask for a device, and read its notifications."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass, field

from ..closing import Closing
from ..errors import FormatError, OpenError
from ..eventq import SEQUENCES, Event, EventQueue, Gaps
from ..gaps import HALF
from ..notification import Notification
from ..notifications import QueueNotifications
from . import message
from .message import Role

# The broker may have to reset the device before it answers.
SECONDS = 30.0

_CAUSES = {
    errno.EACCES: ("not granted to this user", "see the broker's policy"),
    errno.EEXIST: ("somebody of this user reads its notifications", "close that socket"),
    errno.EPROTONOSUPPORT: ("the broker speaks another version", ""),
}


class Numbers(Gaps):
    """Counts lost notifications by the kernel's numbers, also from one socket to the next.

    ``expected`` is the number of the next notification, None if no one was received yet. A number
    below it shows that the device was bound to vfio-pci anew, which begins with 0.
    """

    def __init__(self, expected: int | None = None) -> None:
        self.expected = expected

    def take(self, event: Event) -> Notification:
        """Return ``event`` as a notification with the number of those lost just before it."""
        expected = event.sequence if self.expected is None else self.expected
        lost = (event.sequence - expected) % SEQUENCES
        self.expected = (event.sequence + 1) % SEQUENCES
        lost = lost if lost < HALF else event.sequence
        return Notification(event.value, loopback=event.loopback, lost=lost)


@dataclass
class Granted(Closing):
    """The descriptors of a device by role, which `close` closes, and the mechanism."""

    mechanism: str
    fds: dict[Role, int] = field(default_factory=dict)

    def take(self, role: Role) -> int:
        """Return a descriptor, which the caller has to close then. KeyError if there is none."""
        return self.fds.pop(role)

    def close(self) -> None:
        """Close the descriptors that nobody has taken."""
        while self.fds:
            os.close(self.fds.popitem()[1])

    def notifications(self, numbers: Numbers | None = None) -> QueueNotifications:
        """Take EVENTS and return it as a stream, for the mechanisms "netlink" and "eventq".

        With netlink the stream ends when the broker ends. To learn what was lost until the broker
        serves again, pass the same ``numbers`` again. Raises ValueError for other mechanisms, which
        are read as docs/uapi.md says.
        """
        gaps = {message.NETLINK: numbers or Numbers(), QueueNotifications.mechanism: Gaps()}
        if self.mechanism not in gaps:
            raise ValueError(f"{self.mechanism} has no queue")
        return QueueNotifications(EventQueue(self.take(Role.EVENTS)), gaps[self.mechanism])


class Broker(Closing):
    """A connection to the broker at ``path``. OSError if nobody listens there."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._socket.settimeout(SECONDS)
        try:
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor of the connection."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection. What the broker has handed over stays open."""
        self._socket.close()

    def open(self, bdf: str) -> Granted:
        """Ask for the device and return what the broker hands over.

        Raises OpenError with the errno of the broker: EACCES if the policy does not grant it,
        EEXIST if its notifications are read already; ECONNRESET if the broker does not serve this
        user at all. FormatError if the answer is none.
        """
        try:
            self._socket.send(message.request(bdf), socket.MSG_NOSIGNAL)
            data, fds, *_ = socket.recv_fds(
                self._socket, message.SIZE + 1, message.DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except (BrokenPipeError, ConnectionResetError):
            data, fds = b"", []
        granted = Granted("", dict(enumerate(fds)))  # type: ignore[arg-type]  # until they have roles
        try:
            if not data:
                cause = "the broker has closed the connection"
                raise OpenError(errno.ECONNRESET, bdf, cause, "does its policy have this user?")
            answer = message.answered(data)
            if answer.error:
                cause, hint = _CAUSES.get(answer.error, (os.strerror(answer.error), ""))
                raise OpenError(answer.error, bdf, cause, hint)
            if len(answer.roles) != len(fds):
                raise FormatError(f"{len(fds)} descriptors, where the answer has {answer.roles}")
        except BaseException:
            granted.close()
            raise
        return Granted(answer.mechanism, dict(zip(answer.roles, fds, strict=True)))
