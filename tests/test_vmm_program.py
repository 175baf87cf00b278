# SPDX-License-Identifier: GPL-2.0-only
"""The relay's program beside a process that is no QEMU, but speaks its test interface.

**Simulated**: the devices' queues, the guest's memory and QEMU (`tests.vmmguest`). What a guest's
kernel makes of it is in tests/test_inner_guest.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from queue import Empty, Queue

import pytest

from tests.commandline import ROOT
from tests.vmmguest import Host, Machine, Memory, machine, words
from uapi.vmm import stock_qemu
from uapi.vmm.guest_table import RING_WORDS, STRIDES, Access
from uapi.vmm.qtest import QTestError
from uapi.vmm.relay import Deliver, Drop, Stop
from uapi.vmm.stock_qemu import Done

MAILBOX = STRIDES[Access.RING]
SLOTS = 2
SECONDS = 10.0
LOOPBACK = 1  # the flag of an event
RINGS = [MAILBOX + slot * STRIDES[Access.RING] for slot in range(SLOTS)]


@pytest.fixture
def vmm(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path / "qtest", Memory(MAILBOX + SLOTS * STRIDES[Access.RING])) as made:
        yield made


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    made = [Host() for _ in range(SLOTS)]
    yield made
    for host in made:
        host.stream.close()


class Running:
    """A relay that runs in a thread, so that one that waits for ever is seen."""

    def __init__(self, program: stock_qemu.Program, pid: int) -> None:
        self._program = program
        self._process = os.pidfd_open(pid)
        self._done: Queue[Done | Exception | None] = Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take(self, count: int = 1) -> list[Done]:
        """Return the next ``count`` actions. Raises the error that the relay has ended with."""
        return list(islice(self.rest(), count))

    def rest(self) -> Iterator[Done]:
        """Yield the actions until the relay ends. AssertionError if the next one does not come."""
        while True:
            try:
                got = self._done.get(timeout=SECONDS)
            except Empty:
                raise AssertionError(f"no action within {SECONDS:g} s") from None
            if isinstance(got, Exception):
                raise got
            if got is None:
                return
            yield got

    def join(self) -> None:
        """Wait for the end of the relay, whose VMM has ended."""
        self._thread.join(SECONDS)
        os.close(self._process)

    def _run(self) -> None:
        try:
            for done in self._program.run(self._process):
                self._done.put(done)
        except Exception as error:
            self._done.put(error)
        self._done.put(None)


@pytest.fixture
def start(tmp_path: Path, vmm: Machine, hosts: Sequence[Host]) -> Iterator[Callable[[], Running]]:
    """Yield a function that starts a relay of two devices."""
    started = []

    def one() -> Running:
        streams = dict(enumerate(host.stream for host in hosts))
        program = stock_qemu.Program(streams, stock_qemu.connect(tmp_path / "qtest"), MAILBOX)
        started.append(Running(program, vmm.process.pid))
        return started[-1]

    yield one
    vmm.kill()
    for relay in started:
        relay.join()


@pytest.mark.requirement("REQ-VMM-60")
def test_flood_of_a_device_stays_in_the_kernel(
    vmm: Machine, hosts: Sequence[Host], start: Callable[[], Running]
) -> None:
    flood, other = hosts
    sent = [0x90 + number % 0x30 for number in range(2 * RING_WORDS)]
    flood.notify(sent)
    relay = start()
    relay.take(RING_WORDS + 1)  # fills the ring, and one word waits for room
    other.notify([0x90])
    (done,) = relay.take()
    assert done.action == Deliver(1, 0x90)
    assert vmm.memory.pop(RINGS[1]) == words(0x90)
    # The guest takes its words: the rest comes, and nothing was lost.
    taken: list[int] = []
    end = time.monotonic() + SECONDS
    while len(taken) < len(sent) and time.monotonic() < end:
        taken += vmm.memory.pop(RINGS[0])
        time.sleep(0.01)
    assert taken == words(*sent)


@pytest.mark.requirement("REQ-VMM-61")
def test_interrupt_comes_after_the_words_and_stands_for_several(
    vmm: Machine, hosts: Sequence[Host], start: Callable[[], Running]
) -> None:
    hosts[0].notify([0x90, 0x91])
    hosts[1].notify([0x92])
    start().take(3)
    assert vmm.commands.count("set_irq_in") == 2  # up and down
    assert vmm.commands[-2:] == ["set_irq_in"] * 2
    assert [vmm.memory.pop(ring) for ring in RINGS] == [words(0x90, 0x91), words(0x92)]


@pytest.mark.requirement("REQ-VMM-61")
def test_what_is_dropped_raises_no_interrupt(
    vmm: Machine, hosts: Sequence[Host], start: Callable[[], Running]
) -> None:
    hosts[0].notify([0x03], flags=LOOPBACK)
    (done,) = start().take()
    assert done.action == Drop(0, 0x03, "loopback")
    assert "set_irq_in" not in vmm.commands


@pytest.mark.requirement("REQ-VMM-62")
def test_end_of_the_vmm_is_told_for_each_device(vmm: Machine, start: Callable[[], Running]) -> None:
    relay = start()
    vmm.kill()
    told = [done.action for done in relay.rest()]
    assert told == [Stop(slot, "the VMM has ended") for slot in range(SLOTS)]


@pytest.mark.requirement("REQ-VMM-63")
def test_vmm_that_does_not_answer_is_an_error(
    vmm: Machine, hosts: Sequence[Host], start: Callable[[], Running]
) -> None:
    """It has closed the connection, and still runs."""
    relay = start()
    vmm.silent = True
    hosts[0].notify([0x90])
    with pytest.raises(QTestError, match=r"qtest readl .*: QEMU has closed the connection"):
        relay.take()


@pytest.mark.requirement("REQ-VMM-64")
def test_second_relay_is_refused(tmp_path: Path, vmm: Machine) -> None:
    pid = vmm.process.pid
    where = ["--pid", str(pid), "--qtest", str(tmp_path / "qtest"), "--mailbox", f"{MAILBOX:#x}"]
    argv = [sys.executable, "-m", "uapi", "relay", *where, "--slot=0=0000:01:00.0"]
    with stock_qemu.alone(pid):
        ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    told = f"error: process {pid}: another relay runs beside it; end that one"
    assert ended.stderr.startswith(told)
    assert len(ended.stderr.splitlines()) == 1
    assert vmm.commands == []


@pytest.mark.requirement("REQ-VMM-64")
def test_relay_after_a_relay_is_not_refused() -> None:
    for _ in range(2):
        with stock_qemu.alone(os.getpid()):
            pass


@pytest.mark.requirement("REQ-VMM-66")
def test_each_stage_has_its_time(hosts: Sequence[Host], start: Callable[[], Running]) -> None:
    began = time.monotonic()
    hosts[0].notify([0x90])
    hosts[0].notify([0x03], flags=LOOPBACK)
    delivered, dropped = start().take(2)
    assert delivered.rung is not None
    assert began <= delivered.read < delivered.rung <= time.monotonic()
    assert (delivered.action, dropped.action) == (Deliver(0, 0x90), Drop(0, 0x03, "loopback"))
    assert dropped.rung is None
    facts = stock_qemu.line("0000:01:00.0", delivered).facts
    assert (facts["read"], facts["rung"]) == (delivered.read, delivered.rung)
