# SPDX-License-Identifier: GPL-2.0-only
"""The guest's table in a real guest, with its interrupt and driver, and the relay's program.

QEMU is unmodified, and its device is emulated. **Simulated**: nothing is passed through, the tests
write events into a pipe, as the kernel of a host would into the device's queue.
`ktests/test_guest.py` has a device that is really passed through.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kpatch.lib.progress import Progress
from kpatch.pipeline import Pipeline, RunRequest
from ktests.contract import INNER_MAILBOX
from ktests.inner_guest import DEVICE, EMPTY, PLUGGED, UP, InnerGuest
from tests.vmmguest import Host
from uapi.vmm import stock_qemu
from uapi.vmm.guest_table import RING_WORDS
from uapi.vmm.relay import Action, Deliver, Drop, Stop

pytestmark = pytest.mark.vm

D_NOTIFIER = [0xD1, 0xD2, 0xD3, 0xD4, 0xD5]


class Running:
    """A relay that runs in a thread, beside ``guest``; ``hosts`` are the devices by slot."""

    def __init__(self, guest: InnerGuest, *hosts: Host) -> None:
        self._hosts = hosts
        self._actions: list[Action] = []
        streams = {number: host.stream for number, host in enumerate(hosts)}
        self._program = stock_qemu.Program(streams, stock_qemu.connect(guest.qtest), INNER_MAILBOX)
        self._guest = os.pidfd_open(guest.qemu.pid)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._actions += [done.action for done in self._program.run(self._guest)]

    def join(self) -> list[Action]:
        """Wait for the end of the relay, and return what it did."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        for host in self._hosts:
            host.stream.close()
        os.close(self._guest)
        return self._actions


@pytest.fixture(scope="module")
def folder() -> Path:
    pipeline = Pipeline(RunRequest(series=("base",), jobs=2), Progress())
    return pipeline.inner()


Start = Callable[..., InnerGuest]


@pytest.fixture
def start(folder: Path, tmp_path: Path) -> Iterator[Start]:
    started: list[InnerGuest] = []

    def one(*, late: bool = False) -> InnerGuest:
        started.append(InnerGuest(folder, tmp_path, "edu", late=late))
        return started[-1]

    yield one
    for guest in started:
        guest.close()


def test_values_reach_the_driver_in_order(start: Start) -> None:
    guest = start()
    host = Host()
    relay = Running(guest, host)
    sent = [*D_NOTIFIER, 0x80, 0x81, 0x81, 0x181, 0xFFFF, 0xD1]
    host.notify(sent)
    assert guest.values(sent) == sent

    # More than the ring holds: the relay waits for the guest, and loses nothing.
    many = [0x80 + number % 0x70 for number in range(3 * RING_WORDS)]
    host.notify(many)
    sent += many
    assert guest.values(sent) == sent

    # What the guest must never see.
    host.notify([0x00, 0x03, 0x7F, 0x10003])
    host.notify([0xD2], flags=1)
    host.notify([0xD4])
    assert guest.values([*sent, 0xD4]) == [*sent, 0xD4]

    host.close()
    told = relay.join()
    assert told[len(sent) :] == [
        Drop(0, 0x00, "below"),
        Drop(0, 0x03, "below"),
        Drop(0, 0x7F, "below"),
        Drop(0, 0x10003, "wide"),
        Drop(0, 0xD2, "loopback"),
        Deliver(0, 0xD4),
        Stop(0, "the device was closed"),
    ]


def test_table_that_is_loaded_at_run_time(start: Start) -> None:
    guest = start(late=True)
    host = Host()
    relay = Running(guest, host)
    host.notify(D_NOTIFIER)
    assert guest.values(D_NOTIFIER) == D_NOTIFIER
    host.close()
    relay.join()


def test_stopped_guest_gets_everything_when_it_goes_on(start: Start) -> None:
    guest = start()
    host = Host()
    relay = Running(guest, host)
    guest.monitor("stop")
    # More than ring and mailbox hold: the relay must leave the rest to the kernel.
    sent = [0x80 + number % 0x70 for number in range(3 * RING_WORDS)]
    host.notify(sent)
    assert guest.values([0], seconds=1) == []
    guest.monitor("cont")
    assert guest.values(sent) == sent
    host.close()
    relay.join()


def test_rebooted_guest_gets_what_comes_later(start: Start) -> None:
    guest = start()
    host = Host()
    relay = Running(guest, host)
    host.notify([0xD1])
    assert guest.values([0xD1]) == [0xD1]
    guest.monitor("system_reset")
    guest.wait_for(UP, count=2)
    host.notify([0xD2, 0xD3])
    assert guest.values([0xD1, 0xD2, 0xD3]) == [0xD1, 0xD2, 0xD3]
    host.close()
    relay.join()


def test_slot_for_hot_plug_gets_its_values_alone(start: Start) -> None:
    guest = start()
    cold, plugged = Host(), Host()
    relay = Running(guest, cold, plugged)
    guest.monitor(f"device_add edu,id=late,bus={EMPTY}")
    guest.wait_for(f"acpi_inner {PLUGGED}: listens")
    cold.notify([0xD1, 0xD2])
    plugged.notify([0xD5, 0xD5])
    assert guest.values([0xD5, 0xD5], PLUGGED) == [0xD5, 0xD5]
    assert guest.values([0xD1, 0xD2], DEVICE) == [0xD1, 0xD2]
    cold.close()
    plugged.close()
    relay.join()


def test_killed_guest_ends_the_relay(start: Start) -> None:
    guest = start()
    host = Host()
    relay = Running(guest, host)
    guest.qemu.kill()
    assert relay.join() == [Stop(0, "the VMM has ended")]
    host.close()
