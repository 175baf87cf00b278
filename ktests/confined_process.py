# SPDX-License-Identifier: GPL-2.0-only
"""A cell: a process that is confined, is handed descriptors, and tells what it received.

It tells through memory that it shares with its parent, so that no system call is needed for it:
under a filter it reads and polls, and nothing else.
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
from typing import NoReturn, Protocol

from ktests import confinement, libc, seccomp
from ktests.confinement import Confinement
from uapi.closing import Closing

# A limit, no figure: forking an interpreter under emulation takes a while.
SECONDS = 10.0
POLL_SECONDS = 0.002

MESSAGES = 512
MESSAGE_SIZE = 124

STARTING, LISTENING, BROKEN = range(3)

# The exit status of a cell that could not start, or whose memory is full.
FAILED = 1
# A process that a signal ended has this plus the signal's number, as in a shell.
SIGNALLED = 128


class Source(Protocol):
    """Where a cell's messages come from."""

    def fileno(self) -> int:
        """The descriptor to poll and to read."""


class CellError(RuntimeError):
    """The cell did not start, or ended by itself; the text is what it left behind."""


class Message(ctypes.Structure):
    """One read(2): what it returned, or minus its errno; and the bytes."""

    _fields_ = (("size", ctypes.c_int32), ("data", ctypes.c_ubyte * MESSAGE_SIZE))


class Shared(ctypes.Structure):
    """The memory that a cell and its parent share. Only the cell's side writes to it.

    ``messages`` holds the messages that the cell has read, and ``count`` is their number; the cell
    raises ``count`` after it has written a message. ``answered`` counts the
    answered questions of the parent, each of which asks whether the cell has read everything.
    ``pid`` is the cell's process id as the parent sees it. ``trouble`` is the traceback of the
    error that ended the cell.
    """

    _fields_ = (
        ("pid", ctypes.c_uint32),
        ("state", ctypes.c_uint32),
        ("answered", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("trouble", ctypes.c_char * 2048),
        ("messages", Message * MESSAGES),
    )


class Cell(Closing):
    """A running cell; a context manager.

    ``register`` runs in it, when it is confined but for the filter: it registers for whatever is
    to be received and returns the source. Of the parent's descriptors the cell has those that it
    is ``handed``, and a pipe whose end is the sign to end.

    CellError if it cannot be confined or ``register`` raises: the error, and then its traceback.
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
                trace = self._shared.trouble.decode(errors="replace").strip()
                raise CellError(f"{trace.splitlines()[-1]}\n{trace}")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process, as everybody outside its pid namespace knows it."""
        return int(self._shared.pid)

    @property
    def status(self) -> dict[str, str]:
        """What the kernel says of it, see proc(5) on /proc/PID/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def own_namespaces(self) -> set[str]:
        """Those of confinement.NAMESPACES that are not its parent's."""
        both = [
            {name: (folder / name).readlink() for name in confinement.NAMESPACES}
            for folder in (Path(f"/proc/{self.pid}/ns"), Path("/proc/self/ns"))
        ]
        return {name for name in confinement.NAMESPACES if both[0][name] != both[1][name]}

    @property
    def descriptors(self) -> list[str]:
        """What it has open, as /proc/PID/fd shows it."""
        return sorted(str(entry.readlink()) for entry in Path(f"/proc/{self.pid}/fd").iterdir())

    def messages(self, since: int = 0) -> list[bytes]:
        """What it has received so far, from the message number ``since`` on.

        OSError if a read(2) failed, with its errno.
        """
        got = self._shared.messages[since : self._shared.count]
        for message in got:
            if message.size < 0:
                raise OSError(-message.size, f"the cell's read(2): {os.strerror(-message.size)}")
        return [bytes(message.data[: message.size]) for message in got]

    def drain(self) -> None:
        """Return when it has read all that was readable when this was called."""
        self._asked += 1
        with suppress(BrokenPipeError):  # it is gone, and why is told below
            os.write(self._control, b"?")
        self._wait(lambda: self._shared.answered >= self._asked, "does not answer")

    def wait_for(self, arrived: Callable[[list[bytes]], bool], since: int = 0) -> list[bytes]:
        """Wait until the messages from ``since`` on are as wanted; CellError if they never are."""
        self._wait(lambda: arrived(self.messages(since)), "has not received what was waited for")
        return self.messages(since)

    def close(self) -> int:
        """End it; its exit status, SIGNALLED plus the signal's number if one ended it."""
        self._hang_up()
        end = time.monotonic() + SECONDS
        while not self._over() and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        if self._status is None:
            # The first process of a pid namespace, and then the one that waits for it.
            for pid in dict.fromkeys((self.pid or self._child, self._child)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._status = _exit_status(os.waitpid(self._child, 0)[1])
        return self._status

    def _hang_up(self) -> None:
        if self._control >= 0:
            os.close(self._control)
            self._control = -1

    def _started(self) -> bool:
        state = self._shared.state
        return bool(state == BROKEN or (state == LISTENING and self._shared.pid))

    def _over(self) -> bool:
        """Whether the process is gone."""
        if self._status is None:
            pid, status = os.waitpid(self._child, os.WNOHANG)
            if pid:
                self._status = _exit_status(status)
        return self._status is not None

    def _wait(self, condition: Callable[[], bool], trouble: str) -> None:
        end = time.monotonic() + SECONDS
        while not condition():
            if self._over() and not condition():
                raise CellError(f"the cell {trouble}: it ended with status {self._status}")
            if time.monotonic() > end:
                raise CellError(f"the cell {trouble} within {SECONDS:g} s")
            time.sleep(POLL_SECONDS)


def _live(
    shared: Shared,
    register: Callable[[], Source],
    confined: Confinement,
    control: int,
    kept: set[int],
) -> NoReturn:
    """The whole life of the forked process. Whatever happens it does not return."""
    status = FAILED
    try:
        gc.disable()  # a collection might unmap memory, which no filter here allows
        _close_all_but(kept)
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


def _close_all_but(kept: set[int]) -> None:
    low = 0
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _fork_into_namespace(shared: Shared) -> None:
    """Go on as the first process of the new pid namespace; what is left behind waits for it."""
    inner = os.fork()
    if inner:
        shared.pid = inner
        _close_all_but(set())
        os._exit(_exit_status(os.waitpid(inner, 0)[1]))


class _Inbox:
    """Moves messages from a source to the shared memory.

    Whatever takes memory is done before `run`, which may be under a filter: it calls read(2) and
    poll(2), and must not have the C library ask for memory.
    """

    def __init__(self, shared: Shared, source: Source, control: int) -> None:
        self._shared = shared
        self._source = source  # it may close its descriptor when it goes
        self._watched = (libc.PollFd * 2)()
        self._here, self._asked = self._watched
        self._here.fd, self._asked.fd = source.fileno(), control
        self._here.events = self._asked.events = select.POLLIN
        self._address = ctypes.addressof(self._watched)
        self._question = ctypes.create_string_buffer(1)
        self._places = [ctypes.addressof(message.data) for message in shared.messages]

    def run(self) -> int:
        """Go on until the other end of the pipe is closed; the exit status."""
        self._shared.state = LISTENING
        while self._shared.count < MESSAGES:
            libc.poll(self._address, 2, -1)
            # What there is comes before the question whether there is more.
            if self._here.revents:
                self._receive()
            elif self._asked.revents:
                if libc.read(self._asked.fd, ctypes.addressof(self._question), 1) == 0:
                    return 0
                self._shared.answered += 1
        return FAILED

    def _receive(self) -> None:
        number = self._shared.count
        try:
            size = libc.read(self._here.fd, self._places[number], MESSAGE_SIZE)
        except OSError as error:
            size = -(error.errno or 0)
        self._shared.messages[number].size = size
        self._shared.count = number + 1


def _exit_status(status: int) -> int:
    """The exit status of a waitpid(2) status, also of a process that a signal ended."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else SIGNALLED - code
