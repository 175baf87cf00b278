# SPDX-License-Identifier: GPL-2.0-only
"""The broker with real sockets and users. What the host's firmware sends is simulated."""

from __future__ import annotations

import errno
import os
import random
import select
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import brokers
from tests.brokers import GROUP, Child, Running, as_user, notification, serving, until
from tests.netlink_group import Send, sending
from uapi import opening, support
from uapi.acpi_event import Notify
from uapi.broker import client, handover, message, outlet, service
from uapi.broker import opening as opening_of_broker
from uapi.broker.client import Broker, Numbers
from uapi.broker.message import NETLINK, Role
from uapi.broker.outlet import KEPT
from uapi.broker.policy import Grant, Policy
from uapi.broker.service import PER_USER, Log
from uapi.errors import FormatError, OpenError
from uapi.eventq import Event
from uapi.notification import Notification
from uapi.notifications import AckNotifications, Notifications, QueueNotifications

ROOT = Path(__file__).parent.parent
ALPHA, BETA, GAMMA, DELTA, MARK = (f"0000:00:{slot}.0" for slot in range(10, 15))
ANN, BOB, EVE = 61001, 61002, 61003
PATH = "\\_SB_.PCI0.S80_"
POLICY: Policy = {
    grant.bdf: grant
    for grant in (
        Grant(ALPHA, ANN, NETLINK),
        Grant(BETA, BOB, NETLINK),
        Grant(GAMMA, 0, NETLINK, PATH),
        Grant(DELTA, 0),
        Grant(MARK, 0, NETLINK),
    )
}
# More than every buffer on the way to a VMM holds.
MANY = 2000
SECONDS = brokers.SECONDS


@pytest.fixture(autouse=True)
def root() -> None:
    brokers.require_root()


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as folder:
        yield folder


@pytest.fixture
def broker(place: Path) -> Iterator[Running]:
    with serving(place / "socket", mine(POLICY)) as running:
        yield running


@pytest.fixture
def send() -> Iterator[Send]:
    with sending(GROUP) as function:
        yield function


def mine(policy: Policy) -> Policy:
    """Return the policy with GAMMA and DELTA for the user of the tests."""
    return {
        bdf: Grant(bdf, os.geteuid(), grant.mechanism, grant.companion) if grant.uid == 0 else grant
        for bdf, grant in policy.items()
    }


def listen(path: str, bdf: str, numbers: Numbers | None = None) -> QueueNotifications:
    with Broker(path) as connection, connection.open(bdf) as granted:
        assert granted.mechanism == NETLINK
        return granted.notifications(numbers)


def refusal(path: str, bdf: str) -> int | None:
    """Return the errno with which the broker refuses the device, None if it does not."""
    try:
        with Broker(path) as connection, connection.open(bdf):
            return None
    except OpenError as error:
        return error.errno


def await_byte(fd: int) -> None:
    """Read a byte from a pipe. AssertionError if none comes."""
    assert select.select([fd], [], [], SECONDS)[0], "the VMM has not started"
    os.read(fd, 1)


@contextmanager
def holding(path: str, bdf: str, uid: int) -> Iterator[int]:
    """Yield the pid of a VMM that has the notifications of the device, and never reads."""

    def hold() -> None:
        with listen(path, bdf):
            os.write(ready.write, b"+")
            signal.pause()

    with closing(Pipe()) as ready:
        child = Child(uid, hold)
        try:
            await_byte(ready.read)
            yield child.pid
        finally:
            brokers.kill(child.pid)


def read(stream: QueueNotifications, count: int) -> list[Notification]:
    """Return the next notifications. AssertionError if one does not come in time."""
    got: list[Notification] = []
    for _ in range(count):
        item = stream.read(SECONDS)
        assert item is not None, f"nothing after {got}"
        got.append(item)
    return got


# ---- a VMM sees its devices alone ----------------------------------------------------------------


def test_each_vmm_sees_its_device_alone(broker: Running, send: Send) -> None:
    with ExitStack() as stack:
        ready, go = stack.enter_context(closing(Pipe())), stack.enter_context(closing(Pipe()))

        def vmm(bdf: str) -> list[int]:
            with listen(broker.path, bdf) as stream:
                os.write(ready.write, b"+")
                os.read(go.read, 1)
                return [got.value for got in iter(lambda: stream.read(0.2), None)]

        users = {ALPHA: ANN, BETA: BOB}
        children = {bdf: Child(uid, partial(vmm, bdf)) for bdf, uid in users.items()}
        for _ in children:
            await_byte(ready.read)
        for number in range(8):
            send(notification(ALPHA, number, 0xA0 + number))
            send(notification(BETA, number, 0xB0 + number))
            send(notification(DELTA, number, 0xC0))
        os.write(go.write, b"++")
        got = {bdf: child.result() for bdf, child in children.items()}
    assert got == {ALPHA: [*range(0xA0, 0xA8)], BETA: [*range(0xB0, 0xB8)]}


class Pipe:
    """A pipe that is closed at the end of a block."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()

    def close(self) -> None:
        """Close both ends."""
        os.close(self.read)
        os.close(self.write)


@pytest.mark.parametrize(
    ("uid", "bdf", "number"),
    [
        (ANN, ALPHA, None),
        (ANN, BETA, errno.EACCES),
        (ANN, "0000:ff:1f.7", errno.EACCES),
        (ANN, "", errno.EACCES),
        (EVE, ALPHA, errno.ECONNRESET),
    ],
)
def test_the_policy_decides_by_the_uid(
    broker: Running, uid: int, bdf: str, number: int | None
) -> None:
    assert as_user(uid, lambda: refusal(broker.path, bdf)) == number


def test_another_companion_is_another_device(broker: Running, send: Send) -> None:
    with listen(broker.path, GAMMA) as stream:
        send(notification(GAMMA, 0, 0x81, "\\_SB_.PCI0.S81_"), notification(GAMMA, 1, 0x82, PATH))
        assert read(stream, 1) == [Notification(0x82)]


def test_a_vmm_cannot_write_to_its_socket(broker: Running, send: Send) -> None:
    with listen(broker.path, GAMMA) as stream:
        with pytest.raises(BrokenPipeError):
            os.write(stream.fileno(), b"?")
        send(notification(GAMMA, 0, 0x80, PATH))
        assert read(stream, 1) == [Notification(0x80)]


# ---- VMMs that never read, die, flood, reconnect -------------------------------------------------


def test_a_vmm_that_does_not_read_loses_the_oldest_and_is_told(broker: Running, send: Send) -> None:
    with listen(broker.path, GAMMA) as slow, listen(broker.path, MARK) as mark:
        for number in range(MANY):
            send(notification(GAMMA, number, 0x80 + number % 2, PATH))
        send(notification(MARK, 0))
        assert read(mark, 1), "the broker has read all that was sent before"
        got: list[Notification] = []
        while sum(item.lost + 1 for item in got) < MANY:
            got += read(slow, 1)
        assert KEPT <= len(got) <= KEPT + 64
        assert got[-1] == Notification(0x81)
        assert slow.read(0) is None


def test_a_vmm_that_does_not_read_disturbs_no_other(broker: Running, send: Send) -> None:
    with listen(broker.path, GAMMA) as quick, holding(broker.path, ALPHA, ANN):
        for number in range(MANY):
            send(notification(ALPHA, number))
        send(notification(GAMMA, 0, 0x85, PATH))
        assert read(quick, 1) == [Notification(0x85)]


def test_a_device_has_one_reader(broker: Running) -> None:
    with listen(broker.path, GAMMA):
        assert refusal(broker.path, GAMMA) == errno.EEXIST
    assert refusal(broker.path, GAMMA) is None


def test_a_vmm_that_dies_leaves_nothing(broker: Running) -> None:
    before = broker.descriptors
    with holding(broker.path, ALPHA, ANN):
        assert as_user(ANN, lambda: refusal(broker.path, ALPHA)) == errno.EEXIST
    assert as_user(ANN, lambda: refusal(broker.path, ALPHA)) is None
    until(lambda: broker.descriptors == before)


def test_reconnecting_leaves_nothing(broker: Running, send: Send) -> None:
    before = broker.descriptors
    for number in range(200):
        with listen(broker.path, GAMMA) as stream:
            send(notification(GAMMA, number, 0x80, PATH))
            assert read(stream, 1) == [Notification(0x80)]
    until(lambda: broker.descriptors == before)


def test_a_flood_of_requests_ends_the_connection(broker: Running, send: Send) -> None:
    with broker.connect() as flooding, listen(broker.path, GAMMA) as stream:
        with (
            closing(socket.socket(fileno=os.dup(flooding.fileno()))) as flood,
            pytest.raises((BrokenPipeError, ConnectionResetError)),
        ):
            flood.settimeout(SECONDS)
            while True:
                flood.send(message.request(ALPHA))
        send(notification(GAMMA, 0, 0x80, PATH))
        assert read(stream, 1) == [Notification(0x80)]


def test_a_user_has_few_connections(broker: Running) -> None:
    with ExitStack() as stack:
        some = [stack.enter_context(broker.connect()) for _ in range(PER_USER)]
        for connection in some:
            with pytest.raises(OpenError, match="not granted"):
                connection.open(ALPHA)
        assert refusal(broker.path, ALPHA) == errno.ECONNRESET
        assert as_user(ANN, lambda: refusal(broker.path, ALPHA)) is None
    until(lambda: refusal(broker.path, ALPHA) == errno.EACCES)


def test_descriptors_of_a_vmm_are_not_kept(broker: Running) -> None:
    with broker.connect() as connection, closing(Pipe()) as pipe:
        sender = socket.socket(fileno=os.dup(connection.fileno()))
        socket.send_fds(sender, [message.request(ALPHA)], [pipe.write] * 200)
        sender.settimeout(SECONDS)
        assert message.answered(sender.recv(64)).error == errno.EACCES
        sender.close()
        os.close(pipe.write)
        assert select.select([pipe.read], [], [], SECONDS)[0], "somebody has the other end"
        assert os.read(pipe.read, 1) == b""
        pipe.write = os.open("/dev/null", os.O_WRONLY)


GOOD = message.request(ALPHA)
BAD = [
    GOOD[:-1],
    GOOD + b"\0",
    bytes(message.SIZE),
    GOOD[:2] + b"\2" + GOOD[3:],
    GOOD[:4] + b"\1" + GOOD[5:],
    GOOD[:8] + b"x" * 24,
    GOOD[:8] + b"\xff" + GOOD[9:],
    *(random.Random(seed).randbytes(seed) for seed in range(1, 64)),  # noqa: S311 - repeatable
]


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_what_is_no_request_ends_the_connection(broker: Running, data: bytes) -> None:
    with broker.connect() as connection:
        raw = socket.socket(fileno=os.dup(connection.fileno()))
        raw.settimeout(SECONDS)
        raw.send(data)
        assert message.answered(raw.recv(64)).error in (errno.EPROTO, errno.EPROTONOSUPPORT)
        assert raw.recv(64) == b""
        raw.close()
    assert refusal(broker.path, ALPHA) == errno.EACCES


def test_another_version_is_told(broker: Running) -> None:
    with broker.connect() as connection:
        raw = socket.socket(fileno=os.dup(connection.fileno()))
        raw.settimeout(SECONDS)
        raw.send(b"\2" + GOOD[1:])
        assert raw.recv(64)[:8] == bytes.fromhex("0100 0300 5d000000")  # EPROTONOSUPPORT is 93
        raw.close()


# ---- a restart -----------------------------------------------------------------------------------


def test_a_vmm_learns_what_a_restart_lost(place: Path, send: Send) -> None:
    numbers = Numbers()
    with serving(place / "socket", mine(POLICY)) as first:
        stream = listen(first.path, GAMMA, numbers)
        send(notification(GAMMA, 5, 0x80, PATH))
        assert read(stream, 1) == [Notification(0x80)]
    assert stream.read(SECONDS) is None, "the end of the broker ends the stream"
    stream.close()
    send(notification(GAMMA, 6, 0x81, PATH), notification(GAMMA, 7, 0x82, PATH))
    with (
        serving(place / "socket", mine(POLICY)) as second,
        listen(second.path, GAMMA, numbers) as stream,
    ):
        send(notification(GAMMA, 8, 0x83, PATH))
        assert read(stream, 1) == [Notification(0x83, lost=2)]


def test_the_example_of_the_documentation(
    place: Path, send: Send, capsys: pytest.CaptureFixture[str]
) -> None:
    """It relays until the broker ends, and then needs another one."""
    text = (ROOT / "docs" / "python.md").read_text().partition("## From the broker")[2]
    names: dict[str, Any] = {}
    exec(text.partition("```python\n")[2].partition("```")[0], names)  # noqa: S102 - our own text
    path = str(place / "socket")
    ends: list[OSError] = []
    asked = threading.Event()

    class Asking(Broker):
        """A connection that tells when it was used."""

        def close(self) -> None:
            """Close it."""
            super().close()
            asked.set()

    names["Broker"] = Asking

    def relay() -> None:
        try:
            names["relay"](path, GAMMA)
        except OSError as error:
            ends.append(error)

    thread = threading.Thread(target=relay, daemon=True)
    with serving(place / "socket", mine(POLICY)) as running:
        thread.start()
        assert asked.wait(SECONDS)
        for number, value in ((0, 0xD1), (2, 3), (3, 0x180)):
            send(notification(GAMMA, number, value, PATH))
        with listen(running.path, MARK) as mark:
            send(notification(MARK, 0))
            assert read(mark, 1)
    thread.join(SECONDS)
    # The socket of a broker that ends takes a connection that it does not answer.
    assert [end.errno in (errno.ECONNREFUSED, errno.ECONNRESET) for end in ends] == [True]
    told = ["notify the guest of 0xd1", "1 notifications were lost", "notify the guest of 0x180"]
    assert capsys.readouterr().out.splitlines() == told


def test_a_loss_of_the_broker_itself_is_told(broker: Running, send: Send) -> None:
    """The number that the netlink socket lost is simulated: it was never sent."""
    with listen(broker.path, GAMMA) as stream:
        send(notification(GAMMA, 1, 0x80, PATH), notification(GAMMA, 4, 0x81, PATH))
        assert read(stream, 2) == [Notification(0x80), Notification(0x81, lost=2)]


@pytest.mark.parametrize(
    ("expected", "number", "lost", "then"),
    [
        (None, 7, 0, 8),
        (7, 7, 0, 8),
        (7, 9, 2, 10),
        (9, 0, 0, 1),  # bound anew
        (9, 2, 2, 3),
        (0xFFFF_FFFF, 0, 1, 1),
    ],
)
def test_numbers(expected: int | None, number: int, lost: int, then: int) -> None:
    numbers = Numbers(expected)
    assert numbers.take(Event(0, number, 0x80)) == Notification(0x80, lost=lost)
    assert numbers.expected == then


# ---- devices: simulated by a FIFO, whose reader sees its end when nobody has it open -------------


class Fifo:
    """Hands over the FIFO at ``path`` as the device, and nothing else."""

    mechanism = "simulated"

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY)

    def descriptors(self) -> list[tuple[Role, int]]:
        """Return the FIFO."""
        return [(Role.DEVICE, self._fd)]

    def close(self) -> None:
        """Close it here."""
        os.close(self._fd)


def ended(reader: int) -> bool:
    """Return whether nobody has the writing end open."""
    try:
        return os.read(reader, 1) == b""
    except BlockingIOError:
        return False


def test_the_broker_keeps_no_duplicate_of_a_device(place: Path) -> None:
    device = place / "device"
    os.mkfifo(device)
    reader = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    with serving(place / "socket", mine(POLICY), lambda _: Fifo(device)) as running:
        before = running.descriptors
        with running.connect() as connection:
            with connection.open(DELTA) as granted:
                assert granted.mechanism == "simulated"
                os.write(granted.fds[Role.DEVICE], b"+")
                assert os.read(reader, 1) == b"+"
                with pytest.raises(BlockingIOError):
                    os.read(reader, 1)
            until(lambda: ended(reader))
        until(lambda: running.descriptors == before)
    os.close(reader)


def test_an_error_of_opening_is_told(place: Path) -> None:
    def opener(_: Grant) -> Fifo:
        raise OpenError(errno.EBUSY, DELTA, "in use by somebody else")

    with serving(place / "socket", mine(POLICY), opener) as running:
        assert refusal(running.path, DELTA) == errno.EBUSY
    with serving(place / "socket", mine(POLICY)) as running:
        assert refusal(running.path, DELTA) == errno.ENODEV, "there is no such device"


@pytest.fixture
def slow(place: Path) -> Path:
    """A FIFO: open(2) of its writing end takes as long as nobody reads."""
    os.mkfifo(place / "slow")
    return place / "slow"


def opened_in_time(path: str, bdf: str, uid: int) -> bool:
    """Return whether a VMM of the user gets the device within half of the time of a test."""

    def ask() -> str:
        signal.alarm(int(SECONDS) // 2)
        with Broker(path) as connection, connection.open(bdf) as granted:
            return granted.mechanism

    try:
        return as_user(uid, ask) == Fifo.mechanism
    except EOFError:  # the alarm has ended the VMM
        return False


def test_a_device_that_opens_slowly_keeps_only_its_user_waiting(
    place: Path, send: Send, slow: Path
) -> None:
    quick = place / "quick"
    os.mkfifo(quick)
    reader = os.open(quick, os.O_RDONLY | os.O_NONBLOCK)
    policy = mine(POLICY) | {ALPHA: Grant(ALPHA, ANN)}

    def opener(grant: Grant) -> Fifo:
        return slowly(slow) if grant.bdf == DELTA else Fifo(quick)

    with (
        serving(place / "socket", policy, opener) as running,
        listen(running.path, GAMMA) as stream,
        ThreadPoolExecutor() as pool,
        running.connect() as connection,
    ):
        waiting = pool.submit(connection.open, DELTA)
        try:
            until((place / "begun").exists)
            send(notification(GAMMA, 0, 0x85, PATH))
            assert read(stream, 1) == [Notification(0x85)]
            assert opened_in_time(running.path, ALPHA, ANN)
            assert not waiting.done()
        finally:
            there = read_end(slow)
        with waiting.result(SECONDS) as granted:
            os.write(granted.fds[Role.DEVICE], b"+")
            assert os.read(there, 1) == b"+"
        until(lambda: ended(there))
    os.close(there)
    os.close(reader)


def slowly(slow: Path) -> Fifo:
    """Open the FIFO, and leave the file "begun" beside it before."""
    slow.with_name("begun").touch()
    return Fifo(slow)


def read_end(slow: Path) -> int:
    """Open the FIFO for reading, by which opening its writing end succeeds."""
    fd = os.open(slow, os.O_RDONLY)
    os.set_blocking(fd, False)
    return fd


def test_a_vmm_that_dies_while_its_device_opens_leaves_nothing(place: Path, slow: Path) -> None:
    with serving(place / "socket", mine(POLICY), lambda _: slowly(slow)) as running:
        before = running.descriptors
        with running.connect() as connection:
            raw = socket.socket(fileno=os.dup(connection.fileno()))
            raw.send(message.request(DELTA))
            raw.close()
            until((place / "begun").exists)
        there = read_end(slow)
        until(lambda: ended(there))
        until(lambda: running.descriptors == before)
        with running.connect() as connection, connection.open(DELTA) as granted:
            assert granted.mechanism == Fifo.mechanism
    os.close(there)


def test_a_broker_without_a_thread_for_a_user_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    with serving(place / "socket", mine(POLICY), lambda _: Fifo(place)) as running:
        assert refusal(running.path, DELTA) == errno.EAGAIN


def test_a_device_that_opens_after_the_end_is_closed(place: Path, slow: Path) -> None:
    with opening_of_broker.Opening(lambda _: slowly(slow)) as one:
        one.open(Grant(DELTA, 0), lambda _: None)
        until((place / "begun").exists)
    there = read_end(slow)
    until(lambda: ended(there))
    os.close(there)


class Simulated:
    """The methods of a device that a stream uses; the descriptor is an eventfd."""

    bdf = DELTA
    open_method = opening.GROUP

    def __init__(self) -> None:
        self.fd = os.eventfd(0)
        self.calls: list[str] = []

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self.fd < 0

    def fileno(self) -> int:
        """Return the eventfd."""
        return self.fd

    def close(self) -> None:
        """Close the eventfd."""
        os.close(self.fd)
        self.fd = -1

    def arm(self, fd: object) -> None:
        """Record the call."""
        self.calls.append("arm")

    def disarm(self) -> None:
        """Record the call."""
        self.calls.append("disarm")

    def unmask_by(self, fd: object) -> None:
        """Record the call."""
        self.calls.append("unmask_by")

    def notifications(self, mechanism: str | None) -> Notifications | AckNotifications:
        """Return a stream by the mechanism."""
        return AckNotifications(self) if mechanism == "ack" else Notifications(self)


@pytest.mark.parametrize(
    ("mechanism", "roles", "calls"),
    [
        ("eventfd", [Role.EVENTS], ["arm"]),
        ("ack", [Role.EVENTS, Role.ACKNOWLEDGE], ["disarm", "arm", "unmask_by"]),
    ],
)
def test_an_eventfd_stays_armed_when_it_is_handed_over(
    monkeypatch: pytest.MonkeyPatch, mechanism: str, roles: list[Role], calls: list[str]
) -> None:
    device = Simulated()
    monkeypatch.setattr(support, "open_device", lambda _: device)
    monkeypatch.setattr(opening, "space_fds", lambda *_: (0, 1))
    given = handover.DeviceHandover(Grant(DELTA, 0, mechanism))
    there = given.descriptors()
    assert [role for role, _ in there] == [*roles, Role.DEVICE, Role.GROUP, Role.CONTAINER]
    given.close()
    assert device.calls == calls
    for _, fd in there[:-2]:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


# ---- small parts ---------------------------------------------------------------------------------


def test_the_log_is_bounded() -> None:
    lines: list[str] = []
    log = Log(lines.append)
    for number in range(1000):
        log(str(number))
    assert lines == [str(number) for number in range(Log.LINES)]


def test_too_few_descriptors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = SimpleNamespace(
        RLIMIT_NOFILE=7, RLIM_INFINITY=-1, getrlimit=lambda _: (20, 20), setrlimit=None
    )
    monkeypatch.setattr(service, "resource", limits)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as unused,
        pytest.raises(OpenError, match="the limit of open files is 20"),
    ):
        service.Service(unused, POLICY)


def test_a_client_refuses_an_answer_that_lacks_descriptors(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as fake:
        fake.bind(str(place / "fake"))
        fake.listen(1)
        with Broker(str(place / "fake")) as connection:
            there, _ = fake.accept()
            there.send(message.answer(message.Answer(roles=(Role.EVENTS,), mechanism=NETLINK)))
            with pytest.raises(FormatError, match="0 descriptors"):
                connection.open(ALPHA)
            there.close()


def test_the_memory_of_an_outlet_is_bounded() -> None:
    with outlet.Outlet() as one:
        for number in range(10 * KEPT):
            one.put(Notify(ALPHA, 0x80, number, PATH))
        assert one.waiting == KEPT


def test_client_explains() -> None:
    assert client._CAUSES[errno.EACCES][1] == "see the broker's policy"
