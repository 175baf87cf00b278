# SPDX-License-Identifier: GPL-2.0-only
"""A second process that receives notifications by the same descriptors as the test's process."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
from collections.abc import Sequence
from typing import NoReturn

from ktests.confined_process import MESSAGE_SIZE, Receiver, Source, close_all_but
from uapi.closing import Closing

# A generous limit: a notification is readable at once, but emulation may be slow.
SECONDS = 10.0

# The descriptors that a process gets are moved to numbers from here on, before each of them gets
# the number that it has in the other process.
ASIDE = 512

# Beginnings of an answer: a message, which may be empty, or the text of an error.
MESSAGE, ERROR = b"+", b"!"


class Partner(Closing):
    """A forked process that receives from ``source``. A context manager, which ends the process.

    ``fds`` are the descriptors that receiving takes. The process inherits them. If they are
    ``handed``, it closes all that it has inherited, and gets them by a message of a Unix socket
    (SCM_RIGHTS, unix(7)).
    """

    def __init__(self, source: Source, fds: Sequence[int], *, handed: bool) -> None:
        self._here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = os.fork()
        if not self._process:
            self._here.close()
            _live(there, source, fds if handed else ())
        there.close()
        if handed:
            socket.send_fds(self._here, [b"?"], [*fds])

    def receive(self, seconds: float) -> bytes:
        """Do the same as the function `receive`, in the process. RuntimeError if that fails."""
        self._here.send(str(seconds).encode())
        self._here.settimeout(seconds + SECONDS)
        answer = self._here.recv(1 << 12)
        if answer[:1] != MESSAGE:
            raise RuntimeError(f"the partner: {answer[1:].decode(errors='replace') or 'has died'}")
        return answer[1:]

    def close(self) -> None:
        """End the process, which closes its descriptors, and wait for its end."""
        self._here.close()
        if self._process:
            os.waitpid(self._process, 0)
            self._process = 0


def descriptors(source: Source) -> tuple[int, ...]:
    """Return the descriptors that receiving from ``source`` takes, besides that of a device.

    The first is the one that becomes readable; ``others`` of the source, if it has it, are others.
    """
    return (source.fileno(), *getattr(source, "others", ()))


def receive(source: Source, seconds: float) -> bytes:
    """Receive one message from ``source``; b"" if none is readable within ``seconds``."""
    if not select.select([source.fileno()], [], [], seconds)[0]:
        return b""
    if isinstance(source, Receiver):
        memory = ctypes.create_string_buffer(MESSAGE_SIZE)
        size = source.receive_at(ctypes.addressof(memory))
        return memory.raw[:size]
    return os.read(source.fileno(), MESSAGE_SIZE)


def _live(there: socket.socket, source: Source, awaited: Sequence[int]) -> NoReturn:
    """Answer questions until the other process closes its socket, then end. Never returns.

    A question is the number of seconds for `receive`. If there are ``awaited`` descriptors, they
    come first, and get these numbers, which ``source`` refers to.
    """
    try:
        if awaited:
            close_all_but({there.fileno()})
            got = socket.recv_fds(there, 1, len(awaited))[1]
            aside = [fcntl.fcntl(fd, fcntl.F_DUPFD, ASIDE) for fd in got]
            for fd, number in zip(aside, awaited, strict=True):
                os.dup2(fd, number)
            close_all_but({there.fileno(), *awaited})
        while question := there.recv(64):
            there.send(_answer(source, float(question)))
    finally:
        # os._exit(), unlike an exception, skips the clean-up of pytest and of the test's fixtures,
        # which is that of the test's process.
        os._exit(0)


def _answer(source: Source, seconds: float) -> bytes:
    try:
        return MESSAGE + receive(source, seconds)
    except Exception as error:  # Partner.receive() raises it in the other process
        return ERROR + f"{type(error).__name__}: {error}".encode()
