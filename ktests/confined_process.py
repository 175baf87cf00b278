# SPDX-License-Identifier: GPL-2.0-only
"""A confined process that inherits descriptors and reports the messages that it receives.

It reports through memory that it shares with its parent. Writing to this memory takes no system
call: under a seccomp filter the process calls only read(2) and poll(2) until it ends.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Protocol, runtime_checkable

from ktests import confinement, libc, seccomp
from ktests.confinement import Confinement
from uapi.closing import Closing

# A generous limit: forking an interpreter under emulation takes a while.
SECONDS = 10.0
POLL_SECONDS = 0.002

MESSAGES = 512
MESSAGE_SIZE = 124

STARTING, LISTENING, BROKEN = range(3)

# The exit status of a confined process that failed, or that has received MESSAGES messages: the
# shared memory is then full.
FAILED = 1
# The exit status of a process that a signal ended is SIGNALLED plus the signal's number, as in a
# shell.
SIGNALLED = 128


class Source(Protocol):
    """A file from which a confined process reads its messages, one message with each read(2).

    A source whose messages are not read by read(2) is a `Receiver`.
    """

    def fileno(self) -> int:
        """Return the descriptor to poll and to read."""

    def close(self) -> object:
        """Close the descriptor."""


@runtime_checkable
class Receiver(Protocol):
    """A source with a function of its own that receives a message when the descriptor is readable.

    Under a seccomp filter, the function must not allocate much memory.
    """

    def receive_at(self, address: int) -> int:
        """Write a message of at most `MESSAGE_SIZE` bytes to memory. Returns its size."""


class ConfinedError(RuntimeError):
    """A confined process failed to start, ended by itself, or did not receive or answer in time.

    If an exception ended the process, the text ends with the error and its traceback.
    """


class Message(ctypes.Structure):
    """The result of one read(2) of a confined process.

    ``size`` is the number of bytes that were read, or the negative errno. The first ``size`` bytes
    of ``data`` are the message.
    """

    _fields_ = (("size", ctypes.c_int32), ("data", ctypes.c_ubyte * MESSAGE_SIZE))


class Shared(ctypes.Structure):
    """The memory that a confined process shares with its parent, which only reads it.

    ``pid`` is the process id in the parent's pid namespace. ``state`` is STARTING, LISTENING or
    BROKEN. ``answered`` is the number of the parent's questions (`ConfinedProcess.drain`) that the
    process has answered. ``messages`` are the messages that the process has read, and ``count`` is
    their number; the process increments ``count`` after it has written a message. ``trouble`` is
    the end of the traceback of the error that ended the process.
    """

    _fields_ = (
        ("pid", ctypes.c_uint32),
        ("state", ctypes.c_uint32),
        ("answered", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("trouble", ctypes.c_char * 2048),
        ("messages", Message * MESSAGES),
    )


class ConfinedProcess(Closing):
    """A running confined process. A context manager.

    The process first confines itself as ``confined`` says, except for the seccomp filter. Then it
    calls ``register``, which registers for messages and returns the source from which they can be
    read. Then the process installs the filter, and reads the source. Of the parent's descriptors
    the process keeps those in ``handed`` and the reading end of a pipe. It ends when the parent
    closes the writing end, or when it has received `MESSAGES` messages.

    ConfinedError if the confinement fails, if ``register`` raises, or if the process does not begin
    to read within `SECONDS`.
    """

    def __init__(
        self,
        register: Callable[[], Source],
        confined: Confinement,
        *,
        handed: Iterable[int] = (),
    ) -> None:
        self._shared = Shared.from_buffer(mmap.mmap(-1, ctypes.sizeof(Shared)))
        theirs, self._control = os.pipe()
        self._asked = 0
        self._status: int | None = None
        self._child = os.fork()
        if self._child == 0:
            _live(self._shared, register, confined, theirs, {theirs, *handed})
        os.close(theirs)
        try:
            self._wait(self._started, "did not start")
            if self._shared.state == BROKEN:
                raise ConfinedError(f"the process did not start{self._cause()}")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id in the parent's pid namespace."""
        return int(self._shared.pid)

    @property
    def status(self) -> dict[str, str]:
        """The fields of the process's /proc/PID/status by name, as text; see proc(5)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def own_namespaces(self) -> set[str]:
        """The kinds of namespaces that the process does not share with its parent.

        A kind is a name in `confinement.NAMESPACES`, such as "net".
        """
        both = [
            {name: (folder / name).readlink() for name in confinement.NAMESPACES}
            for folder in (Path(f"/proc/{self.pid}/ns"), Path("/proc/self/ns"))
        ]
        return {name for name in confinement.NAMESPACES if both[0][name] != both[1][name]}

    @property
    def descriptors(self) -> list[str]:
        """The targets of the links in /proc/PID/fd: the open descriptors of the process, sorted."""
        return sorted(str(entry.readlink()) for entry in Path(f"/proc/{self.pid}/fd").iterdir())

    def messages(self, since: int = 0) -> list[bytes]:
        """Return the messages that the process has received so far, those from index ``since`` on.

        OSError with the errno of the read(2) if one of these failed.
        """
        got = self._shared.messages[since : self._shared.count]
        for message in got:
            if message.size < 0:
                raise OSError(-message.size, f"the process's read(2): {os.strerror(-message.size)}")
        return [bytes(message.data[: message.size]) for message in got]

    def drain(self) -> None:
        """Wait until the process has read everything that was readable at the time of the call.

        ConfinedError if the process has ended, or does not answer within `SECONDS`.
        """
        self._asked += 1
        with suppress(BrokenPipeError):  # the process has ended: _wait() raises ConfinedError
            os.write(self._control, b"?")
        self._wait(lambda: self._shared.answered >= self._asked, "does not answer")

    def wait_for(self, arrived: Callable[[list[bytes]], bool], since: int = 0) -> list[bytes]:
        """Wait until ``arrived`` returns True for the messages from index ``since`` on.

        Returns these messages. ConfinedError if the process ends before that, or if that takes
        longer than `SECONDS`; OSError if one of the messages is a failed read(2).
        """
        self._wait(lambda: arrived(self.messages(since)), "has not received what was waited for")
        return self.messages(since)

    def close(self) -> int:
        """End the process and return its exit status: SIGNALLED + N if the signal N ended it.

        Closes the pipe, which tells the process to end, and kills the process if it has not ended
        within `SECONDS`. A further call only returns the exit status again.
        """
        self._hang_up()
        end = time.monotonic() + SECONDS
        while not self._over() and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        if self._status is None:
            # The confined process is killed first. If it has a pid namespace of its own, it is a
            # child of the forked child, which waits for it.
            for pid in dict.fromkeys((self.pid or self._child, self._child)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._status = _exit_status(os.waitpid(self._child, 0)[1])
        return self._status

    def _cause(self) -> str:
        """Return ": " and the error that ended the process and its traceback, "" if none did."""
        trace = self._shared.trouble.decode(errors="replace").strip()
        return f": {trace.splitlines()[-1]}\n{trace}" if trace else ""

    def _hang_up(self) -> None:
        if self._control >= 0:
            os.close(self._control)
            self._control = -1

    def _started(self) -> bool:
        state = self._shared.state
        return bool(state == BROKEN or (state == LISTENING and self._shared.pid))

    def _over(self) -> bool:
        """Return whether the forked child has ended; if so, keep its exit status."""
        if self._status is None:
            pid, status = os.waitpid(self._child, os.WNOHANG)
            if pid:
                self._status = _exit_status(status)
        return self._status is not None

    def _wait(self, condition: Callable[[], bool], trouble: str) -> None:
        end = time.monotonic() + SECONDS
        while not condition():
            if self._over() and not condition():
                raise ConfinedError(
                    f"the process {trouble}: it ended with status {self._status}{self._cause()}"
                )
            if time.monotonic() > end:
                raise ConfinedError(f"the process {trouble} within {SECONDS:g} s")
            time.sleep(POLL_SECONDS)


def _live(
    shared: Shared,
    register: Callable[[], Source],
    confined: Confinement,
    control: int,
    kept: set[int],
) -> NoReturn:
    """Confine the forked process, have it receive messages, and end it. Never returns.

    ``register`` and ``confined`` are those of `ConfinedProcess`. ``control`` is the reading end of
    the pipe from the parent. ``kept`` are the descriptors that are not closed.
    """
    status = FAILED
    try:
        gc.disable()  # a collection might call munmap(2), which no filter of the suite allows
        close_all_but(kept)
        confinement.become_nobody()
        confinement.enter(confined.namespaces)
        if "pid" in confined.namespaces:
            _fork_into_namespace(shared)
        else:
            shared.pid = os.getpid()
        confinement.drop_capabilities()
        inbox = _Inbox(shared, register(), control)
        if confined.calls is not None:
            seccomp.allow_only(confined.calls)
        status = inbox.run()
    except BaseException:
        shared.trouble = traceback.format_exc().encode()[-2000:]
        shared.state = BROKEN
    finally:
        os._exit(status)


def close_all_but(kept: set[int]) -> None:
    """Close all descriptors of this process but those in ``kept``."""
    low = 0
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _fork_into_namespace(shared: Shared) -> None:
    """Fork, and return only in the child, which is process 1 of the new pid namespace.

    The parent stores the child's process id in ``shared``, waits for the child and ends with its
    exit status.
    """
    inner = os.fork()
    if inner:
        shared.pid = inner
        close_all_but(set())
        os._exit(_exit_status(os.waitpid(inner, 0)[1]))


class _Inbox:
    """Reads messages from ``source`` into the shared memory.

    ``control`` is the descriptor from which the parent's questions are read. All memory is
    allocated before `run`: under a seccomp filter `run` may call only read(2) and poll(2), so that
    the C library must not ask the kernel for memory.
    """

    def __init__(self, shared: Shared, source: Source, control: int) -> None:
        self._shared = shared
        self._source = source  # kept: a source may close its descriptor when it is collected
        self._watched = (libc.PollFd * 2)()
        self._here, self._asked = self._watched
        self._receive_at = source.receive_at if isinstance(source, Receiver) else self._read_at
        self._here.fd, self._asked.fd = source.fileno(), control
        self._here.events = self._asked.events = select.POLLIN
        self._address = ctypes.addressof(self._watched)
        self._question = ctypes.create_string_buffer(1)
        self._places = [ctypes.addressof(message.data) for message in shared.messages]

    def run(self) -> int:
        """Receive messages and answer the parent's questions until the parent closes the pipe.

        Returns the exit status for the process: 0, or `FAILED` if the shared memory is full.
        """
        self._shared.state = LISTENING
        while self._shared.count < MESSAGES:
            libc.poll(self._address, 2, -1)
            # Messages are received before a question is answered, since the answer means that
            # everything has been read.
            if self._here.revents:
                self._receive()
            elif self._asked.revents:
                if libc.read(self._asked.fd, ctypes.addressof(self._question), 1) == 0:
                    return 0
                self._shared.answered += 1
        return FAILED

    def _read_at(self, address: int) -> int:
        return int(libc.read(self._here.fd, address, MESSAGE_SIZE))

    def _receive(self) -> None:
        number = self._shared.count
        try:
            size = self._receive_at(self._places[number])
        except OSError as error:
            size = -(error.errno or 0)
        self._shared.messages[number].size = size
        self._shared.count = number + 1


def _exit_status(status: int) -> int:
    """Convert a status of waitpid(2) to an exit status: SIGNALLED + N if it is the signal N."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else SIGNALLED - code
