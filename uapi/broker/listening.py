# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The socket to which VMMs connect: one of systemd, or one of our own at a path."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from ..closing import Closing
from ..errors import OpenError

BACKLOG = 64
# The first descriptor that systemd hands over (sd_listen_fds(3)).
FIRST = 3


class Listening(Closing):
    """The listening socket, ``socket``, at ``path``; "" takes the one that systemd handed over.

    Everybody may connect: the policy decides by the uid. A socket that a broker has left behind is
    replaced. Raises OpenError if there is none, or if another broker listens there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.socket = _bound(path) if path else _inherited()

    def close(self) -> None:
        """Close the socket, and remove its file if that is ours and still permitted."""
        self.socket.close()
        if self._path:
            with suppress(OSError):
                Path(self._path).unlink()


def _bound(path: str) -> socket.socket:
    made = _socket()
    try:
        _remove_stale(path)
        made.bind(path)
        Path(path).chmod(0o666)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        if isinstance(error, OpenError):
            raise
        raise OpenError(error.errno or errno.EINVAL, path, error.strerror or str(error)) from None
    return made


def _remove_stale(path: str) -> None:
    """Remove a socket on which nobody listens; OpenError (EADDRINUSE) if somebody does."""
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise OpenError(errno.EEXIST, path, "a file is there", "choose another path")
        with _socket() as probing:
            probing.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        Path(path).unlink()
        return
    raise OpenError(errno.EADDRINUSE, path, "another broker listens there", "stop it")


def _inherited() -> socket.socket:
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        cause = "no --socket, and systemd handed over none"
        raise OpenError(errno.ENOTSOCK, "broker", cause, "give --socket PATH")
    made = socket.socket(fileno=FIRST)
    os.set_inheritable(FIRST, False)
    if (made.family, made.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        cause = "systemd's socket is of another type"
        raise OpenError(errno.ENOTSOCK, "broker", cause, "use ListenSequentialPacket=")
    return made


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
