# SPDX-License-Identifier: GPL-2.0-only
"""A guest of an unmodified QEMU: it gets the notifications of a device that is passed through.

It is the "inner" guest, since QEMU usually runs in the guest that runs the suite. Its kernel is the
unpatched base with a driver for QEMU's device edu, which prints the notifications of the device's
ACPI companion (kpatch/vm/inner/driver.patch). Its firmware is QEMU's, and the table that
`uapi.vmm.guest_table` makes. Its CPU is emulated: what it needs is passed through, so no KVM.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ktests.contract import INNER_MAILBOX

# What kpatch/vm/inner/image.py puts into the guest's folder.
KERNEL, ROOT, TABLE = "bzImage", "root.erofs", "relay.aml"

# Where the passed-through device is, as the table has it: \_SB.PCI0.S80.
DEVICE = "0000:00:10.0"
# The device in the port EMPTY: \_SB.PCI0.S98.S00.
PLUGGED = "0000:01:00.0"
EMPTY = "empty"

ARGUMENTS = (
    "console=ttyS0",
    "init=/init",
    f"memmap=64K${INNER_MAILBOX:#x}",  # of the rings; nothing else may use it
    "mitigations=off",
    "no_timer_check",
    "nokaslr",
    "panic=-1",
    "quiet",
    "ro",
    "root=/dev/vda",
    "rootfstype=erofs",
    "tsc=reliable",
)

# Without it the firmware has the table; with it the init loads it (kpatch/vm/inner/init.sh).
LATE = "relay_table=late"

# The guest's time advances with its instructions, 64 ns for each. An emulator inside of another one
# is so slow that by the time of the host timer interrupts would come faster than the guest handles
# them: they nested until its stack was full.
ICOUNT = "shift=6,sleep=on"

UP = "vfio-acpi: up"
_NOTIFIED = re.compile(r"acpi_inner (\S+): notified (0x[0-9a-f]+)")

BOOT_SECONDS = 400.0
SECONDS = 30.0
CHUNK = 1 << 16


class InnerGuest:
    """A running guest. ``device`` is the value of QEMU's option -device for its device.

    ``folder`` has the files of the guest, ``scratch`` gets QEMU's sockets. With ``late``, the guest
    loads the table at run time. QEMU is killed by `close`. TimeoutError if the guest is not up in
    time.
    """

    def __init__(self, folder: Path, scratch: Path, device: str, *, late: bool = False) -> None:
        self.qtest = scratch / "qtest"
        self._monitor = scratch / "monitor"
        for path in (self.qtest, self._monitor):
            path.unlink(missing_ok=True)
        self.qemu = subprocess.Popen(
            self._argv(folder, device, late=late),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self.qemu.stdout is not None
        self._output = self.qemu.stdout
        os.set_blocking(self._output.fileno(), False)
        self.console = ""
        # The time of CLOCK_MONOTONIC, in seconds, at which the last line was complete.
        self.seen = 0.0
        try:
            self.wait_for(UP, BOOT_SECONDS)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kill QEMU, and wait for its end."""
        self.qemu.kill()
        self.qemu.wait()
        self._output.close()

    def _argv(self, folder: Path, device: str, *, late: bool) -> list[str]:
        def listening(path: Path) -> str:
            return f"unix:{path},server=on,wait=off"

        arguments = [*ARGUMENTS, *((LATE,) if late else ())]
        table = () if late else ("-acpitable", f"file={folder / TABLE}")
        return [
            *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "qemu64", "-M", "q35", "-m", "256M"),
            *("-icount", ICOUNT),
            *("-nodefaults", "-display", "none", "-serial", "stdio"),
            *("-kernel", str(folder / KERNEL), "-append", " ".join(arguments)),
            *("-drive", f"file={folder / ROOT},format=raw,if=none,id=root,readonly=on"),
            *("-device", "virtio-blk-pci,drive=root,addr=0x5"),
            *("-device", f"pcie-root-port,id={EMPTY},addr=0x13,chassis=1,slot=1"),
            *("-device", f"{device},addr=0x10"),
            *table,
            *("-monitor", listening(self._monitor)),
            *("-qtest", listening(self.qtest), "-qtest-log", "none"),
        ]

    def monitor(self, command: str) -> str:
        """Run a command of QEMU's monitor, and return what it prints."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(SECONDS)
            channel.connect(str(self._monitor))
            self._answer(channel)
            channel.sendall(command.encode() + b"\n")
            return self._answer(channel)

    @staticmethod
    def _answer(channel: socket.socket) -> str:
        data = b""
        while not data.endswith(b"(qemu) "):
            chunk = channel.recv(CHUNK)
            if not chunk:
                break
            data += chunk
        return data.decode(errors="replace")

    def read(self, seconds: float) -> None:
        """Add to ``console`` what the guest prints, and wait up to ``seconds`` for something."""
        if select.select([self._output], [], [], seconds)[0]:
            data = self._output.read(CHUNK) or b""
            self.console += data.decode(errors="replace")
            if b"\n" in data:
                self.seen = time.monotonic()
            if not data:
                raise EOFError(f"QEMU has ended: {self.console[-500:]}")

    def wait_for(self, text: str, seconds: float = SECONDS, *, count: int = 1) -> None:
        """Wait until ``text`` is on the console ``count`` times. TimeoutError if it is not."""
        end = time.monotonic() + seconds
        while self.console.count(text) < count:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no {text!r} on the console: {self.console[-1000:]}")
            self.read(left)

    def forget(self) -> None:
        """Forget what the guest has printed so far."""
        self.read(0)
        self.console = ""

    def wait_for_values(
        self, expected: Sequence[int], device: str = DEVICE, seconds: float = SECONDS
    ) -> None:
        """Wait until the guest's driver has as many values as ``expected``, or ``seconds``."""
        end = time.monotonic() + seconds
        while len(self.notified(device)) < len(expected) and time.monotonic() < end:
            self.read(0.2)

    def notified(self, device: str = DEVICE) -> list[int]:
        """Return the values that the guest's driver got for ``device`` since boot, in order."""
        return [int(value, 16) for name, value in _NOTIFIED.findall(self.console) if name == device]

    def values(
        self, expected: Sequence[int], device: str = DEVICE, seconds: float = SECONDS
    ) -> list[int]:
        """Return `notified` a moment after it has as many values as ``expected``.

        In this moment values would come that should not. It waits no longer than ``seconds`` for
        those that should.
        """
        self.wait_for_values(expected, device, seconds)
        self.read(0.3)
        return self.notified(device)
