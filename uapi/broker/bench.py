# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Measure the broker against a VMM's own netlink socket: ``python -m uapi.broker.bench``, as root.

Notifications are simulated: they are sent by another protocol of netlink, whose multicast takes the
same way to a socket. The broker is a process of its own; the VMM's process also sends, so a socket
of its own is read without a switch of processes. Times are from sending to reading.
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
from ..eventq import EventQueue
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


def latency(take: Callable[[], object]) -> float:
    """Return the median of the seconds from sending a notification until ``take`` returns it."""
    times = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, PROTOCOL) as sender:
        for number in range(COUNT):
            begin = time.perf_counter()
            # The group receives it; port 0, which a send needs too, has no receiver.
            with contextlib.suppress(ConnectionRefusedError):
                sender.sendto(message(number), (0, 1 << GROUP - 1))
            take()
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def direct() -> float:
    """Return the latency of a socket of the VMM's own."""
    with NotifyListener(known=FAMILY, protocol=PROTOCOL) as listener:
        return latency(lambda: listener.read(10.0))


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
                return latency(take)


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
    mine = memory(lambda: NotifyListener(known=FAMILY, protocol=PROTOCOL))
    figures = [
        ("latency", there, here, "s"),
        ("memory of a VMM that reads", memory(Outlet), mine, "B"),
        ("memory of a VMM that never reads", memory(full), mine, "B"),
    ]
    for name, its, own, unit in figures:
        ratio = f"{its / own:.1f} times a socket of the VMM's own"
        print(f"{name}: {ratio} ({its:.3g} {unit}, {own:.3g} {unit})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
