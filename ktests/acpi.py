# SPDX-License-Identifier: GPL-2.0-only
"""ACPI devices in sysfs, and the test firmware, which notifies them.

Source: Documentation/ABI/testing/sysfs-devices-firmware_node, drivers/acpi/device_sysfs.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ktests.contract import PIECE
from ktests.debugger import Debugger
from ktests.pci import PciDevice

BUS = Path("/sys/bus/acpi/devices")

# The longest time that a method _PSR or _LID of the test firmware waits for the end of
# `Firmware.busy_handler`: the timeout of Wait in ktests/firmware/ssdt.asl.j2.
BUSY_SECONDS = 30


@dataclass(frozen=True)
class Unrelated:
    """An ACPI device that the test firmware adds, and that belongs to no VMM: AC adapter or lid.

    ``path`` is its path in the ACPI namespace without padding (`short`). ``method`` is the name of
    the firmware's method that notifies the device.
    """

    path: str
    method: str

    @property
    def folder(self) -> Path:
        """The folder of the ACPI device in sysfs; LookupError if the kernel has no such device."""
        for folder in BUS.iterdir():
            path = folder / "path"
            if path.exists() and short(path.read_text().strip()) == self.path:
                return folder
        raise LookupError(f"no ACPI device has the path {self.path}")


class Firmware:
    """The test firmware, whose methods the kernel's ACPI debugger evaluates. No SCI is raised.

    `ktests.interrupt.InterruptedFirmware` sends notifications on interrupts.

    ``fence`` is an AC adapter that is never notified, see `flush_handlers`. LookupError if the
    kernel has no such device.
    """

    def __init__(self, debugger: Debugger, fence: Unrelated) -> None:
        self.debugger = debugger
        # The paths are looked up once: sysfs is slow under emulation, and every test flushes.
        device = fence.folder
        # In Linux 6.1 the AC adapter's driver is bound to the ACPI device, in 6.12 to the platform
        # device that belongs to it.
        nodes = (device, device / "physical_node")
        bound = next(node for node in nodes if (node / "driver").exists())
        self._driver = (bound / "driver").resolve()
        self._fence = bound.resolve().name

    def notify(self, method: str, value: int, *, step: int = 0, count: int = 1) -> None:
        """Have ``method`` send ``count`` notifications: value, value + step and so on.

        Returns when the AML has run. The Notify handlers may run later, and since Linux 6.8 several
        at once. A burst of more than `PIECE` notifications is split into several evaluations.
        DebuggerError if an evaluation fails.
        """
        for sent in range(0, count, PIECE):
            self.debugger.evaluate(method, value + sent * step, step, min(PIECE, count - sent))

    def notify_in_turn(self, value: int, count: int) -> None:
        """Notify the machine's first two devices of ``value`` in turn, ``count`` times each.

        This is one evaluation, whatever ``count`` is. For the rest see `notify`.
        """
        self.debugger.evaluate("VFTN", value, count)

    def notify_path(self, path: str, value: int) -> None:
        """Notify the ACPI object ``path`` by the debugger's command "notify", without AML."""
        self.debugger.run(f"notify {path} {value:#x}")

    @contextmanager
    def busy_handler(self, adapter: Unrelated) -> Iterator[None]:
        """Keep the Notify handler of ``adapter`` running for the length of the ``with`` block.

        ``adapter`` has to be the first of the machine's devices that belong to no VMM.

        The handler is that of the kernel's driver for AC adapters, which evaluates the method _PSR.
        This method of the test firmware waits until the block ends, but not longer than
        `BUSY_SECONDS`. Do not call `flush_handlers` in the block: it would wait for the handler.
        """
        self.debugger.evaluate("VFHB")
        self.notify(adapter.method, 0x80)
        self.debugger.evaluate("VFHW")
        try:
            yield
        finally:
            self.debugger.evaluate("VFHE")
            self.flush_handlers()

    def flush_handlers(self) -> None:
        """Wait until every queued Notify handler has run.

        Unbinds the AC adapter ``fence`` from its driver and binds it again. Unbinding calls
        acpi_remove_notify_handler(), which flushes the workqueues on which all handlers run
        (acpi_os_wait_events_complete(), drivers/acpi/osl.c).
        """
        for what in ("unbind", "bind"):
            _write(f"{self._driver}/{what}", self._fence)


def described(device: PciDevice) -> str:
    """Return the path (`short`) of the ACPI object that describes a PCI device, "" for none.

    This is the child of the bus's ACPI object that has the device's _ADR (ACPI 6.5, 6.1.1). The
    device's own link ``firmware_node`` is not used: tests compare it with the result.
    """
    above = device.upstream / "firmware_node" / "path"
    bus = short(above.read_text().strip()) if above.exists() else None
    for folder in BUS.iterdir():
        address, path = folder / "adr", folder / "path"
        if not address.exists() or int(address.read_text(), 16) != device.address:
            continue
        object_path = short(path.read_text().strip())
        if object_path.rpartition(".")[0] == bus:
            return object_path
    return ""


def _write(path: str, text: str) -> None:
    """Write ``text`` to a file in sysfs. pathlib is slower, and most tests call this twice."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def short(path: str) -> str:
    r"""Return an ACPI path without padding: ``\_SB.PCI0.S80`` for ``\_SB_.PCI0.S80_``.

    A name in an ACPI path has 4 characters; shorter names are padded with underscores.
    """
    root, _, names = path.partition("\\")
    return root + "\\" + ".".join(name.rstrip("_") for name in names.split("."))
