# SPDX-License-Identifier: GPL-2.0-only
"""The confined processes of the isolation tests: they confine a process, and lose no message."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ktests import confined, confinement, seccomp
from ktests.confined_process import MESSAGES, SIGNALLED, ConfinedError, ConfinedProcess
from ktests.confinement import Confinement
from uapi.eventfd import EventFd

SIGSYS = 31

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="taking another uid takes root")

ALL = pytest.mark.parametrize(
    "how",
    [
        confinement.UNPRIVILEGED,
        confinement.FILTERED,
        confinement.NAMESPACED,
        confinement.SANDBOXED,
    ],
    ids=["unprivileged", "filtered", "namespaced", "sandboxed"],
)


class Handed:
    """A source that consists of a descriptor only."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


@pytest.fixture
def eventfd() -> Iterator[EventFd]:
    with EventFd() as eventfd:
        yield eventfd


@ALL
def test_confined_as_told(eventfd: EventFd, how: Confinement) -> None:
    with ConfinedProcess(lambda: eventfd, how, handed=[eventfd.fileno()]) as confined_process:
        assert confined.privileges(confined_process) == confined.expected_privileges(how)
        status = confined_process.status
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
        assert (status["Groups"], status["NoNewPrivs"]) == ("", "1")
        assert confined_process.own_namespaces == set(how.namespaces)
        assert [name.split(":")[0] for name in confined_process.descriptors] == [
            "anon_inode",
            "pipe",
        ]
    assert confined_process.close() == 0
    assert not Path(f"/proc/{confined_process.pid}").exists()


@ALL
def test_everything_is_received(how: Confinement) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        with ConfinedProcess(lambda: theirs, how, handed=[theirs.fileno()]) as confined_process:
            sent = [struct.pack("=Q", number) for number in range(MESSAGES - 1)]
            for message in sent[:200]:
                ours.send(message)
            confined_process.drain()
            assert confined_process.messages() == sent[:200]
            for message in sent[200:]:
                ours.send(message)
            assert (
                confined_process.wait_for(lambda got: len(got) == len(sent) - 200, 200)
                == sent[200:]
            )
        assert confined_process.close() == 0


class Listening(Handed):
    """A source with a method ``receive``, as `uapi.probe.Listener` has one."""

    def receive(self, seconds: float) -> None:
        """Fail: a confined process calls no method of this name."""
        raise AssertionError


def test_source_is_read_by_read(eventfd: EventFd) -> None:
    source = Listening(eventfd.fileno())
    with ConfinedProcess(
        lambda: source, confinement.FILTERED, handed=[eventfd.fileno()]
    ) as confined_process:
        eventfd.write(7)
        confined_process.drain()
        assert confined_process.messages() == [struct.pack("=Q", 7)]


class Raising(Handed):
    """A source whose messages are received by a method, which raises."""

    def receive_at(self, address: int) -> int:
        """Raise an error that is no failed read(2)."""
        raise RuntimeError(f"no memory at {address > 0}")


def test_error_while_it_receives_is_told(eventfd: EventFd) -> None:
    source = Raising(eventfd.fileno())
    with ConfinedProcess(
        lambda: source, confinement.UNPRIVILEGED, handed=[eventfd.fileno()]
    ) as confined_process:
        eventfd.write(1)
        with pytest.raises(ConfinedError, match="status 1: RuntimeError: no memory at True"):
            confined_process.drain()


def test_failing_read_is_told() -> None:
    with ConfinedProcess(
        lambda: Handed(os.open("/", os.O_RDONLY)), confinement.FILTERED
    ) as confined_process:
        with pytest.raises(OSError, match="the process's read") as caught:
            confined_process.wait_for(lambda got: bool(got))
        assert caught.value.errno == errno.EISDIR


@pytest.mark.parametrize(
    ("calls", "status"),
    [
        ((seccomp.READ, seccomp.POLL), 0),
        ((seccomp.READ,), SIGNALLED + SIGSYS),
        ((), SIGNALLED + SIGSYS),
    ],
)
def test_filter_kills(eventfd: EventFd, calls: tuple[int, ...], status: int) -> None:
    """The process dies if the filter lacks a call that it makes: no other call is allowed."""
    confined_process = ConfinedProcess(
        lambda: eventfd, Confinement(calls=calls), handed=[eventfd.fileno()]
    )
    assert confined_process.close() == status


@pytest.mark.parametrize("namespaces", [(), ("user", "net", "pid")], ids=["outside", "inside"])
def test_death_is_noticed(namespaces: tuple[str, ...]) -> None:
    confined_process = ConfinedProcess(lambda: Handed(-1), Confinement(namespaces, calls=()))
    with pytest.raises(ConfinedError, match=f"ended with status {SIGNALLED + SIGSYS}"):
        confined_process.drain()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: os.open("/etc/shadow", os.O_RDONLY), "Permission denied"),
        (lambda: os.setuid(0), "Operation not permitted"),
        (lambda: os.kill(os.getppid(), 0), "Operation not permitted"),
        (lambda: os.fstat(0), "Bad file descriptor"),
    ],
    ids=["open", "setuid", "kill", "stdin"],
)
def test_may_do_nothing(action: Callable[[], object], message: str) -> None:
    def register() -> Handed:
        action()
        return Handed(-1)

    with pytest.raises(ConfinedError, match=message):
        ConfinedProcess(register, confinement.UNPRIVILEGED)


def test_network_of_its_own_has_no_events() -> None:
    """The namespace has only the loopback device, as every new network namespace."""

    def register() -> Handed:
        names = [name for _, name in socket.if_nameindex()]
        raise RuntimeError(f"interfaces {names}")

    with pytest.raises(ConfinedError, match=r"interfaces \['lo'\]"):
        ConfinedProcess(register, confinement.NAMESPACED)
