# SPDX-License-Identifier: GPL-2.0-only
"""What a relay has on its two sides, without a kernel and a guest: all of it is **simulated**.

`Host` is a device's queue, `Memory` the memory of a guest, and `Machine` a QEMU with it.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from uapi.eventq import EventQueue
from uapi.notification import VALID
from uapi.notifications import QueueNotifications
from uapi.vmm.guest_table import RING_FIRST, RING_WORDS
from uapi.vmm.ring import HEAD, TAIL

MASK = (1 << 32) - 1


def words(*values: int) -> list[int]:
    """Return the words of ``values``, before which nothing was lost."""
    return [VALID | value for value in values]


class Host:
    """The queue of a device, into which the test writes events as a host's kernel would."""

    def __init__(self) -> None:
        reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.stream = QueueNotifications(EventQueue(reader))
        self._sequence = 0

    def notify(self, values: Sequence[int], *, lost: int = 0, flags: int = 0) -> None:
        """Write an event for each of ``values``; ``lost`` events are missing before the first."""
        self._sequence += lost
        for value in values:
            os.write(self._writer, struct.pack("=IIII", flags, self._sequence, value, 0))
            self._sequence += 1

    def close(self) -> None:
        """Close the device: its queue hangs up."""
        os.close(self._writer)


class Memory:
    """The memory of a guest up to ``size``; a client of it as `uapi.vmm.ring.Memory`."""

    def __init__(self, size: int) -> None:
        self.bytes = bytearray(size)

    def write(self, address: int, data: bytes) -> None:
        """Write ``data``, which has to be within the memory."""
        assert 0 <= address <= len(self.bytes) - len(data)
        self.bytes[address : address + len(data)] = data

    def write32(self, address: int, number: int) -> None:
        """Write a number, as the guest's CPU does."""
        self.write(address, struct.pack("<I", number & MASK))

    def read32(self, address: int) -> int:
        """Return the number at ``address``."""
        number: int = struct.unpack_from("<I", self.bytes, address)[0]
        return number

    def pop(self, ring: int, count: int = RING_WORDS) -> list[int]:
        """Take up to ``count`` words of the ring at ``ring``, as the AML of `guest_table` does."""
        taken: list[int] = []
        while len(taken) < count and (tail := self.read32(ring + TAIL)) != self.read32(ring + HEAD):
            place = ring + RING_FIRST + tail % RING_WORDS * 8
            taken.append(struct.unpack_from("<Q", self.bytes, place)[0])
            self.write32(ring + TAIL, tail + 1)
        return taken


class Machine:
    """A process that stands for QEMU, and a thread that speaks qtest on ``path`` as QEMU does.

    ``commands`` are the first words of the commands, in order. If ``silent`` is set, it closes the
    connection instead of the next answer.
    """

    def __init__(self, path: Path, memory: Memory) -> None:
        self.memory = memory
        self.commands: list[str] = []
        self.silent = False
        self.process = subprocess.Popen(["sleep", "60"])
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(1)
        self._clients: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """End the process, as a VMM that crashes."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the process, and the thread."""
        self.kill()
        for one in (self._server, *self._clients):
            with suppress(OSError):  # shut down already
                one.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        try:
            client, _ = self._server.accept()
        except OSError:  # closed before anyone came
            return
        self._clients.append(client)
        with client.makefile("rw") as lines:
            for line in lines:
                if self.silent:
                    client.shutdown(socket.SHUT_RDWR)
                    return
                lines.write(f"OK{self._answer(line.split())}\n")
                lines.flush()

    def _answer(self, fields: list[str]) -> str:
        self.commands.append(fields[0])
        if fields[0] == "readl":
            return f" {self.memory.read32(int(fields[1], 16)):#018x}"
        if fields[0] == "write":
            self.memory.write(int(fields[1], 16), bytes.fromhex(fields[3][2:]))
        return ""


@contextmanager
def machine(path: Path, memory: Memory) -> Iterator[Machine]:
    """Yield a `Machine`, and close it."""
    made = Machine(path, memory)
    try:
        yield made
    finally:
        made.close()
