# SPDX-License-Identifier: GPL-2.0-only
"""The broker (`uapi.broker`) in a process without privileges, and the VMMs' side of it."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import NoReturn

from ktests import confinement
from ktests.confined_process import Source
from uapi import probe
from uapi.broker.client import Broker
from uapi.broker.listening import Listening
from uapi.broker.message import Role
from uapi.broker.policy import Grant
from uapi.broker.service import Service
from uapi.closing import Closing
from uapi.eventq import EventQueue

# In a folder that every user may enter: a tmpfs of ktests/init.sh.
PATH = "/mnt/broker"
# Room for every notification of a test.
BUFFER = 1 << 20


class BrokerProcess(Closing):
    """A broker in a forked process, on the socket `PATH`. A context manager, which kills it.

    It joins acpi_notify of ``family`` and makes its socket. Then it becomes uid 65534 and drops all
    capabilities. ``grants`` are its policy. RuntimeError if it does not start, for instance because
    the kernel does not have the group.
    """

    def __init__(self, family: probe.Family, *grants: Grant) -> None:
        ready, told = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            _live(family, grants, told)
        os.close(told)
        answer = os.read(ready, 1000).decode(errors="replace")
        os.close(ready)
        if answer != "+":
            self.close()
            raise RuntimeError(f"the broker did not start: {answer}")

    def close(self) -> None:
        """Kill the broker, as a crash would, and wait for its end."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def asking(bdf: str) -> Callable[[], Source]:
    """Return a function that asks the broker for the device and returns the socket to read from.

    It raises OpenError if the broker refuses.
    """

    def ask() -> Source:
        with Broker(PATH) as connection, connection.open(bdf) as granted:
            return EventQueue(granted.take(Role.EVENTS))

    return ask


def _live(family: probe.Family, grants: tuple[Grant, ...], told: int) -> NoReturn:
    try:
        source = probe.NotifyListener(buffer=BUFFER, known=family)
        listening = Listening(PATH)
        confinement.become_nobody()
        confinement.drop_capabilities()
        policy = {grant.bdf: grant for grant in grants}
        service = Service(listening.socket, policy, source, write=lambda _: None)
        os.write(told, b"+")
        os.close(told)
        service.run()
    except BaseException:
        os.write(told, traceback.format_exc().encode()[-900:])
    finally:
        os._exit(1)
