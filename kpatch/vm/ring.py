# SPDX-License-Identifier: GPL-2.0-only
"""The interrupt source of the test machine: a ring of notifications in memory, and an interrupt.

The host writes entries into the ring and raises an interrupt. It is the interrupt of a Generic
Event Device (ACPI 6.5, 5.6.9) that the test firmware declares: the kernel evaluates the device's
method _EVT, which takes the entries from the ring and sends their notifications
(ktests/firmware/ssdt.asl.j2). In this way an embedded controller or a service processor would have
the firmware notify devices.

The ring is in the guest's memory, all numbers are little-endian and have 32 bits:

    0    head: the number of entries that the host has written, modulo 2**32
    4    tail: the number of entries that the firmware has taken, modulo 2**32
    16   entry 0, `SLOTS` entries of 16 bytes each: source, value, step, count

Entry N is in slot N modulo `SLOTS`. ``source`` is an index in `Machine.notified`; the firmware
sends ``count`` notifications with the values value, value + step and so on.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from kpatch.errors import HarnessError
from kpatch.tables.outcomes import ExitCode
from kpatch.vm.qtest import QTest
from ktests.contract import ENTRIES_LIMIT

# The ring is in the middle of the VM's memory (kpatch.vm.virtme.MEMORY): far above the place to
# which QEMU loads the kernel, and far below the end, where QEMU's firmware has its tables. The
# kernel leaves this memory alone because its command line declares it as reserved (ARGUMENT). A
# PCI device with memory would need no reservation, but has no fixed address that AML could use.
ADDRESS = 0x2000_0000
SIZE = 4096
ARGUMENT = f"memmap={SIZE}${ADDRESS:#x}"

HEAD, TAIL, ENTRIES = ADDRESS, ADDRESS + 4, ADDRESS + 16
ENTRY = struct.Struct("<IIII")
NUMBER = struct.Struct("<I")

# A power of two, so that the slots follow each other also when head and tail wrap around.
SLOTS = ENTRIES_LIMIT

# The I/O APIC of QEMU's machine q35, and the interrupt's input pin. It is an ISA interrupt that no
# device of this machine has. Pins 5, 9, 10 and 11, and those above 15, are wired to PCI devices.
CONTROLLER = "/machine/q35/ioapic"
PIN = 7


@dataclass(frozen=True)
class Entry:
    """An entry of the ring, see the module's docstring. Each field has 32 bits."""

    source: int
    value: int
    step: int
    count: int


class Ring:
    """The host's end of the ring. It has the only copy of the head that counts.

    The guest can write anything to the memory of the ring: it is its own memory, and this class
    reads only the tail from there.
    """

    def __init__(self, qtest: QTest) -> None:
        self._qtest = qtest
        self._head = 0

    def put(self, entries: Sequence[Entry]) -> None:
        """Write ``entries`` into the ring, then raise the interrupt once.

        Does not wait for the firmware. HarnessError (exit 7): the firmware has not taken enough of
        the earlier entries, or QEMU does not answer (`QTest`).
        """
        waiting = self._head - self._qtest.read32(TAIL) & 0xFFFF_FFFF
        if waiting + len(entries) > SLOTS:
            raise HarnessError(
                "the ring of notifications",
                f"has no room for {len(entries)} entries: {waiting} of {SLOTS} slots are in use",
                hint="wait until the firmware has taken them",
                code=ExitCode.LOST,
            )
        for number, entry in enumerate(entries, self._head):
            data = ENTRY.pack(entry.source, entry.value, entry.step, entry.count)
            self._qtest.write(ENTRIES + number % SLOTS * ENTRY.size, data)
        self._head = self._head + len(entries) & 0xFFFF_FFFF
        self._qtest.write(HEAD, NUMBER.pack(self._head))
        self._qtest.pulse(CONTROLLER, PIN)
