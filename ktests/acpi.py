# SPDX-License-Identifier: GPL-2.0-only
"""ACPI devices through sysfs, and the firmware that notifies them.

Source: Documentation/ABI/testing/sysfs-devices-firmware_node, drivers/acpi/device_sysfs.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ktests.debugger import Debugger
from ktests.pci import Device

BUS = Path("/sys/bus/acpi/devices")

# Notifications of one evaluation, half a second under emulation.
PIECE = 8192


@dataclass(frozen=True)
class Unrelated:
    """A device of the test firmware that is no VMM's: its path, and the method notifying it."""

    path: str
    method: str

    @property
    def folder(self) -> Path:
        """The ACPI device in sysfs; LookupError if the kernel has made none."""
        for folder in BUS.iterdir():
            path = folder / "path"
            if path.exists() and short(path.read_text().strip()) == self.path:
                return folder
        raise LookupError(f"no ACPI device has the path {self.path}")


class Firmware:
    """The test firmware's methods, run by the debugger; the SCI before them is simulated."""

    def __init__(self, debugger: Debugger, fence: Unrelated) -> None:
        self._debugger = debugger
        # Looked up once: sysfs is slow under emulation, and every test settles.
        device = fence.folder
        # The driver is bound to the platform device (seen in 6.12) or to the ACPI device (6.1).
        nodes = (device, device / "physical_node")
        bound = next(node for node in nodes if (node / "driver").exists())
        self._driver = (bound / "driver").resolve()
        self._fence = bound.resolve().name

    def notify(self, method: str, value: int, *, step: int = 0, count: int = 1) -> None:
        """Notify by ``method``, ``count`` times: value, value + step and so on.

        Returns when the AML has run; handlers may run later, since Linux 6.8 several at once.
        A long burst is several evaluations in a row: one alone would keep a CPU of a kernel that
        is not preemptible for longer than its watchdogs bear on a busy host.
        """
        for sent in range(0, count, PIECE):
            self._debugger.evaluate(method, value + sent * step, step, min(PIECE, count - sent))

    def notify_path(self, path: str, value: int) -> None:
        """Notify any object by the debugger's own command, without AML."""
        self._debugger.run(f"notify {path} {value:#x}")

    @contextmanager
    def left(self) -> Iterator[None]:
        """Leave the debugger, which one can have open at a time, to a program of the block."""
        with self._debugger.released():
            yield

    def flush_handlers(self) -> None:
        """Return when every Notify handler that was queued has run.

        acpi_remove_notify_handler() flushes the workqueues that handlers run on
        (acpi_os_wait_events_complete(), drivers/acpi/osl.c); taking the driver from an adapter
        that is never notified calls it.
        """
        for what in ("unbind", "bind"):
            _write(f"{self._driver}/{what}", self._fence)


def described(device: Device) -> str:
    """The object that the namespace has for a PCI device, "" for none.

    Found by what firmware says, _ADR below the object of the bus (ACPI 6.5, 6.1.1), and not by
    the link that the kernel has made of it.
    """
    above = device.upstream / "firmware_node" / "path"
    bus = short(above.read_text().strip()) if above.exists() else None
    for folder in BUS.iterdir():
        address, path = folder / "adr", folder / "path"
        if not address.exists() or int(address.read_text(), 16) != device.address:
            continue
        found = short(path.read_text().strip())
        if found.rpartition(".")[0] == bus:
            return found
    return ""


def _write(path: str, text: str) -> None:
    """Write a file of sysfs, without the objects that pathlib makes: every test does it twice."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def short(path: str) -> str:
    r"""Drop the padding of names in a path: ``\_SB_.PCI0.S80_`` becomes ``\_SB.PCI0.S80``."""
    root, _, names = path.partition("\\")
    return root + "\\" + ".".join(name.rstrip("_") for name in names.split("."))
