# SPDX-License-Identifier: GPL-2.0-only
"""The ring of notifications and the qtest client, with a real QEMU whose CPUs never start."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from kpatch.errors import HarnessError
from kpatch.tables.outcomes import ExitCode
from kpatch.vm import qemu, ring
from kpatch.vm.qtest import QTest
from kpatch.vm.ring import Entry, Ring

U32 = (1 << 32) - 1


def stopped_machine(fds: Mapping[str, int]) -> list[str]:
    return [
        *("qemu-system-x86_64", "-S", "-machine", "q35", "-nodefaults", "-display", "none"),
        *("-m", "1G", "-chardev", f"socket,id=qtest,fd={fds['qtest']}"),
        *("-object", "qtest,id=interrupts,chardev=qtest,log=none"),
        *("-chardev", f"socket,id=qmp,fd={fds['qmp']}", "-mon", "chardev=qmp,mode=control"),
    ]


@pytest.fixture
def machine() -> Iterator[qemu.VM]:
    with qemu.started(stopped_machine) as started:
        yield started


def memory(machine: qemu.VM, folder: Path) -> tuple[int, int, list[Entry]]:
    """Return the head, the tail and all slots of the ring, as the guest sees them."""
    path = folder / "memory"
    machine.qmp("pmemsave", val=ring.ADDRESS, size=ring.SIZE, filename=str(path))
    data = path.read_bytes()
    head, tail = struct.unpack_from("<II", data)
    slots = ring.ENTRY.iter_unpack(data[16 : 16 + ring.SLOTS * ring.ENTRY.size])
    assert not any(data[16 + ring.SLOTS * ring.ENTRY.size :]), "written beyond the ring"
    return head, tail, [Entry(*slot) for slot in slots]


def test_entries_are_in_the_guests_memory(machine: qemu.VM, tmp_path: Path) -> None:
    first, second = Entry(0, 0xD1, 0, 1), Entry(3, U32, 7, 8192)
    machine.interrupt([first])
    machine.interrupt([second, first])
    head, tail, slots = memory(machine, tmp_path)
    assert (head, tail) == (3, 0)
    assert slots[:4] == [first, second, first, Entry(0, 0, 0, 0)]


def test_full_ring_is_refused(machine: qemu.VM, tmp_path: Path) -> None:
    entry = Entry(1, 0x80, 0, 1)
    machine.interrupt([entry] * (ring.SLOTS - 1))
    with pytest.raises(HarnessError, match="no room for 2 entries: 63 of 64 slots") as full:
        machine.interrupt([entry] * 2)
    assert full.value.code is ExitCode.LOST
    machine.interrupt([entry])
    assert memory(machine, tmp_path) == (ring.SLOTS, 0, [entry] * ring.SLOTS)


@pytest.fixture
def client() -> Iterator[QTest]:
    """A client of a stopped machine, beside which no `Ring` uses the channel."""
    with qemu.started(stopped_machine) as started:
        yield QTest(started._channels["qtest"])


def test_head_wraps_around(client: QTest) -> None:
    one = Ring(client)
    one._head = U32 - 1
    client.write(ring.TAIL, struct.pack("<I", U32 - 1))
    one.put([Entry(number, 0x80, 0, 1) for number in range(4)])
    assert client.read32(ring.HEAD) == 2
    slots = [client.read32(ring.ENTRIES + slot * ring.ENTRY.size) for slot in (62, 63, 0, 1)]
    assert slots == [0, 1, 2, 3]


@pytest.mark.parametrize("tail", [1, 1 << 31, U32])
def test_forged_tail_leads_nowhere_else(client: QTest, tail: int) -> None:
    """The guest can write the tail: then the host refuses, or writes to the ring."""
    one = Ring(client)
    client.write(ring.TAIL, struct.pack("<I", tail))
    client.write(ring.ADDRESS + ring.SIZE, b"\xaa" * 16)
    refused = 0
    for _ in range(3):
        try:
            one.put([Entry(0, 0x80, 0, 1)])
        except HarnessError:
            refused += 1
    # A tail of U32 says that one entry waits; the others, that too many do.
    assert refused == (0 if tail == U32 else 3)
    assert client.read32(ring.ADDRESS + ring.SIZE) == 0xAAAAAAAA


def test_failure_of_qemu(client: QTest) -> None:
    with pytest.raises(HarnessError, match="qtest set_irq_in /nowhere: answer 'FAIL") as failed:
        client.pulse("/nowhere", 7)
    assert failed.value.code is ExitCode.LOST
    assert client.read32(ring.HEAD) == 0, "the next command works"


# ---- a simulated QEMU --------------------------------------------------------------------------


def answering(peer: socket.socket, answers: list[bytes], heard: list[bytes]) -> threading.Thread:
    """Answer each command that comes on ``peer``, then close it."""

    def answer() -> None:
        with peer:
            for one in answers:
                heard.append(peer.recv(4096))
                peer.sendall(one)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    return thread


def test_interrupt_comes_after_the_head(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []
    thread = answering(theirs, [b"OK 0x0000000000000000\n", *[b"OK\n"] * 4], heard)
    Ring(QTest(ours)).put([Entry(2, 0xD1, 1, 3)])
    thread.join(10)
    assert [line.decode() for line in heard] == [
        "readl 0x20000004\n",
        "write 0x20000010 0x10 0x02000000d10000000100000003000000\n",
        "write 0x20000000 0x4 0x01000000\n",
        "set_irq_in /machine/q35/ioapic unnamed-gpio-in 7 1\n",
        "set_irq_in /machine/q35/ioapic unnamed-gpio-in 7 0\n",
    ]
    ours.close()


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"FAIL Unknown command\n", "qtest readl 0x0: answer 'FAIL Unknown command'"),
        (b"\xff\n", "qtest readl 0x0: answer '"),
        (b"OK\n", "qtest readl 0x0: answer '' is no number"),
        (b"OK 7\n", "qtest readl 0x0: answer '7' is no number"),
        (b"OK 0x" + b"1" * 9000 + b"\n", "qtest readl 0x0: an answer of more than 4096 bytes"),
        (b"O", "qtest readl 0x0: QEMU has closed the connection"),
    ],
)
def test_wrong_answer(answer: bytes, cause: str) -> None:
    ours, theirs = socket.socketpair()
    answering(theirs, [answer], [])
    with pytest.raises(HarnessError) as refused:
        QTest(ours).read32(0)
    assert str(refused.value).startswith(cause)
    assert refused.value.code is ExitCode.LOST
    ours.close()


def test_silent_qemu_is_waited_for_once() -> None:
    ours, theirs = socket.socketpair()
    client = QTest(ours, seconds=0.3)
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(HarnessError, match="qtest readl 0x0: timed out"):
            client.read32(0)
    assert time.monotonic() - began < 5
    ours.close()
    theirs.close()
