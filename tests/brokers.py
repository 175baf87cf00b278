# SPDX-License-Identifier: GPL-2.0-only
"""A broker in a process of its own, and VMMs of other users, for tests on the host.

The sockets, the users and the netlink socket are real. The notifications are simulated: the tests
send the netlink messages by another protocol than generic netlink (`tests.netlink_group`).
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from tests.netlink_group import PROTOCOL, in_namespace
from uapi.broker.client import Broker
from uapi.broker.handover import DeviceHandover
from uapi.broker.listening import Listening
from uapi.broker.opening import Opener
from uapi.broker.policy import Policy
from uapi.broker.service import Service
from uapi.probe import Family, NotifyListener

GROUP = 9
FAMILY = Family(id=28, version=1, groups={"acpi_notify": GROUP})
SECONDS = 10.0

Result = TypeVar("Result")


def require_root() -> None:
    """Skip the test without the privileges to change users and to join a group."""
    if os.geteuid() != 0:
        pytest.skip("becoming other users takes root")


@contextmanager
def folder() -> Iterator[Path]:
    """Yield a folder that every user may enter, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="broker-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def notification(bdf: str, number: int, value: int = 0xD1, path: str = "\\_SB_.PCI0") -> bytes:
    """Return the message of a notification, as the kernel sends it."""
    body = struct.pack("=BBH", 2, 1, 0) + b"".join(
        (
            _attribute(1, bdf.encode() + b"\0"),
            _attribute(2, struct.pack("=I", value)),
            _attribute(3, struct.pack("=I", number)),
            _attribute(4, path.encode() + b"\0"),
        )
    )
    return struct.pack("=IHHII", 16 + len(body), FAMILY.id, 0, 0, 0) + body


class Running:
    """A broker in the process ``pid``, on the socket at ``path``."""

    def __init__(self, pid: int, path: str) -> None:
        self.pid = pid
        self.path = path

    @property
    def descriptors(self) -> int:
        """The number of its open descriptors."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def connect(self) -> Broker:
        """Return a new connection."""
        return Broker(self.path)


@contextmanager
def serving(path: Path, policy: Policy, opener: Opener = DeviceHandover) -> Iterator[Running]:
    """Yield a broker at ``path``. AssertionError if it has ended by itself at the end."""
    ready, told = os.pipe()
    # The broker is where the socket of the sender is.
    with in_namespace():
        pid = os.fork()
        if not pid:
            _serve(str(path), policy, opener, told)
    os.close(told)
    try:
        assert os.read(ready, 1), "the broker did not start"
        yield Running(pid, str(path))
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the broker has ended"
    finally:
        os.close(ready)
        kill(pid)


def kill(pid: int) -> None:
    """End a process as a crash would, and wait for its end."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def _serve(path: str, policy: Policy, opener: Opener, told: int) -> None:
    try:
        source = NotifyListener(buffer=4 << 20, known=FAMILY, protocol=PROTOCOL)
        listening = Listening(path)
        service = Service(listening.socket, policy, source, opener=opener, write=lambda _: None)
        os.write(told, b"+")
        service.run()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


class Child:
    """A process of the user ``uid`` that runs ``action``."""

    def __init__(self, uid: int, action: Callable[[], object]) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._read)
            _act(uid, action, write)
        os.close(write)

    def result(self) -> Any:
        """Wait for the end. Returns what ``action`` has returned, or raises its exception."""
        with os.fdopen(self._read, "rb") as file:
            data = file.read()
        os.waitpid(self.pid, 0)
        result, error = pickle.loads(data)  # noqa: S301 - of our own child
        if error is not None:
            raise error
        return result


def _act(uid: int, action: Callable[[], object], write: int) -> NoReturn:
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        outcome: object = (action(), None)
    except BaseException as error:
        outcome = (None, error)
    with os.fdopen(write, "wb") as file:
        file.write(pickle.dumps(outcome))
    os._exit(0)


def as_user(uid: int, action: Callable[[], Result]) -> Result:
    """Return what ``action`` returns in a process of the user ``uid``, or raise its exception."""
    result: Result = Child(uid, action).result()
    return result


def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` returns True; AssertionError after `SECONDS`."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)
