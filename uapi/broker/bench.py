# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Measure the broker against what a VMM reads without it: ``python -m uapi.broker.bench``, as root.

That is a netlink socket of its own, the eventfd of a device, and the event queue of a device. The
broker hands over an eventfd or a queue once, and is not on the way of a notification then.

Notifications are simulated: they are sent by another protocol of netlink, whose multicast takes the
same way to a socket; they are written to an eventfd by this process, and to a pipe in the place of
the queue. The broker is a process of its own; the VMM's process also sends, so all else is read
without a switch of processes. Times are from sending to reading.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ..acpi_event import Notify
from ..closing import Closing
from ..eventfd import EventFd
from ..eventq import EVENT, EventQueue
from ..notification import VALID
from ..probe import Family, NotifyListener
from .client import Broker
from .listening import Listening
from .message import NETLINK, Role
from .outlet import KEPT, Outlet
from .policy import Grant
from .service import Service

GROUP = 7
FAMILY = Family(id=28, version=1, groups={NotifyListener.group: GROUP})
PROTOCOL = socket.NETLINK_USERSOCK
BDF = "0000:01:00.0"
COUNT = 2000
CLIENTS = 200


def message(number: int) -> bytes:
    """Return the netlink message of a notification of `BDF`."""
    name = BDF.encode() + b"\0"
    attributes = struct.pack("=HH", 4 + len(name), 1) + name + bytes(-len(name) % 4)
    attributes += struct.pack("=HHIHHI", 8, 2, 0xD1, 8, 3, number)
    body = struct.pack("=BBH", 2, 1, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), FAMILY.id, 0, 0, 0) + body


class _Process(Closing):
    """A forked process that runs ``action``, and is killed at the end of the block."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.pid = os.fork()
        if not self.pid:
            try:
                action()
            finally:
                os._exit(1)

    def close(self) -> None:
        """Kill it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def latency(send: Callable[[int], object], take: Callable[[], object]) -> float:
    """Return the median of the seconds from sending a notification until ``take`` returns it.

    ``send`` gets the number of the notification.
    """
    times = []
    for number in range(COUNT):
        begin = time.perf_counter()
        send(number)
        take()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def netlink_latency(take: Callable[[], object]) -> float:
    """Return the latency of notifications that are sent by netlink."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, PROTOCOL) as sender:

        def send(number: int) -> None:
            # The group receives it; port 0, which a send needs too, has no receiver.
            with contextlib.suppress(ConnectionRefusedError):
                sender.sendto(message(number), (0, 1 << GROUP - 1))

        return latency(send, take)


def direct() -> float:
    """Return the latency of a socket of the VMM's own."""
    with NotifyListener(known=FAMILY, protocol=PROTOCOL) as listener:
        return netlink_latency(lambda: listener.read(10.0))


def by_eventfd() -> float:
    """Return the latency of an eventfd."""
    with EventFd() as eventfd:

        def take() -> None:
            eventfd.wait(10.0)
            eventfd.read()

        return latency(lambda _: eventfd.write(VALID | 0xD1), take)


def by_queue() -> float:
    """Return the latency of a queue, for which a pipe stands in."""
    fd, there = os.pipe()
    with EventQueue(fd) as queue, os.fdopen(there, "wb", buffering=0) as kernel:

        def take() -> None:
            queue.wait(10.0)
            queue.read(1)

        return latency(lambda number: kernel.write(EVENT.pack(0, number, 0xD1, 0)), take)


def brokered() -> float:
    """Return the latency through a broker."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "socket")
        listening = Listening(path)
        policy = {BDF: Grant(BDF, os.geteuid(), NETLINK)}

        def serve() -> None:
            source = NotifyListener(known=FAMILY, protocol=PROTOCOL)
            Service(listening.socket, policy, source, write=lambda _: None).run()

        with _Process(serve), Broker(path) as connection, connection.open(BDF) as granted:
            queue = EventQueue(granted.take(Role.EVENTS))

            def take() -> None:
                queue.wait(10.0)
                queue.read(1)

            with queue:
                return netlink_latency(take)


def resident() -> int:
    """Return the resident memory of this process in bytes (proc(5))."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def memory(make: Callable[[], Closing]) -> float:
    """Return the resident bytes that each of many objects takes in this process.

    The memory of sockets is the kernel's, and not in it.
    """
    before = resident()
    kept = [make() for _ in range(CLIENTS)]
    used = resident() - before
    for one in kept:
        one.close()
    return max(used, 1) / CLIENTS


def full() -> Outlet:
    """Return an outlet whose VMM has never read."""
    outlet = Outlet()
    for number in range(4 * KEPT):
        outlet.put(Notify(BDF, 0xD1, number, ""))
    return outlet


def main() -> int:
    """Print the ratios, and the figures behind them. Returns the exit code."""
    if os.geteuid() != 0:
        print("error: joining the group takes root", file=sys.stderr)
        return 2
    here, there = direct(), brokered()
    alone = {"its eventfd": by_eventfd(), "its queue": by_queue()}
    mine = memory(lambda: NotifyListener(known=FAMILY, protocol=PROTOCOL))
    figures = [
        ("latency", there, here, "s"),
        ("memory of a VMM that reads", memory(Outlet), mine, "B"),
        ("memory of a VMM that never reads", memory(full), mine, "B"),
    ]
    for name, its, own, unit in figures:
        ratio = f"{its / own:.1f} times a socket of the VMM's own"
        print(f"{name}: {ratio} ({its:.3g} {unit}, {own:.3g} {unit})")
    for name, seconds in alone.items():
        print(f"latency: {there / seconds:.1f} times {name} ({there:.3g} s, {seconds:.3g} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
