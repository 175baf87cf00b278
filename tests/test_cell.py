# SPDX-License-Identifier: GPL-2.0-only
"""The cells of the isolation tests: they confine a process, and lose no message."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ktests import confined, confinement, seccomp
from ktests.cell import MESSAGES, SIGNALLED, Cell, CellError
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


@pytest.fixture
def eventfd() -> Iterator[EventFd]:
    with EventFd() as eventfd:
        yield eventfd


@ALL
def test_confined_as_told(eventfd: EventFd, how: Confinement) -> None:
    with Cell(lambda: eventfd, how, handed=[eventfd.fileno()]) as cell:
        assert confined.privileges(cell) == confined.expected_privileges(how)
        status = cell.status
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
        assert (status["Groups"], status["NoNewPrivs"]) == ("", "1")
        assert cell.own_namespaces == set(how.namespaces)
        assert [name.split(":")[0] for name in cell.descriptors] == ["anon_inode", "pipe"]
    assert cell.close() == 0
    assert not Path(f"/proc/{cell.pid}").exists()


@ALL
def test_everything_is_received(how: Confinement) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        with Cell(lambda: theirs, how, handed=[theirs.fileno()]) as cell:
            sent = [struct.pack("=Q", number) for number in range(MESSAGES - 1)]
            for message in sent[:200]:
                ours.send(message)
            cell.drain()
            assert cell.messages() == sent[:200]
            for message in sent[200:]:
                ours.send(message)
            assert cell.wait_for(lambda got: len(got) == len(sent) - 200, 200) == sent[200:]
        assert cell.close() == 0


def test_failing_read_is_told() -> None:
    with Cell(lambda: Handed(os.open("/", os.O_RDONLY)), confinement.FILTERED) as cell:
        with pytest.raises(OSError, match="the cell's read") as caught:
            cell.wait_for(lambda got: bool(got))
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
    """The cell dies if the filter lacks a call that it makes: no other call is allowed."""
    cell = Cell(lambda: eventfd, Confinement(calls=calls), handed=[eventfd.fileno()])
    assert cell.close() == status


@pytest.mark.parametrize("namespaces", [(), ("user", "net", "pid")], ids=["outside", "inside"])
def test_death_is_noticed(namespaces: tuple[str, ...]) -> None:
    cell = Cell(lambda: Handed(-1), Confinement(namespaces, calls=()))
    with pytest.raises(CellError, match=f"ended with status {SIGNALLED + SIGSYS}"):
        cell.drain()


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

    with pytest.raises(CellError, match=message):
        Cell(register, confinement.UNPRIVILEGED)


def test_network_of_its_own_has_no_events() -> None:
    """The namespace has only the loopback device, as every new network namespace."""

    def register() -> Handed:
        names = [name for _, name in socket.if_nameindex()]
        raise RuntimeError(f"interfaces {names}")

    with pytest.raises(CellError, match=r"interfaces \['lo'\]"):
        Cell(register, confinement.NAMESPACED)
