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

from ktests.debugger import Debugger
from ktests.pci import PciDevice

BUS = Path("/sys/bus/acpi/devices")

# The largest number of notifications of one evaluation. It takes half a second under emulation.
PIECE = 8192

# The longest time that the test firmware's state method waits, see `Firmware.busy_handler`: its
# timeout in ktests/firmware/ssdt.asl.j2.
BUSY_SECONDS = 30


@dataclass(frozen=True)
class Unrelated:
    """An ACPI device of the test firmware that belongs to no VMM.

    ``path`` is its path in the namespace, ``method`` the firmware's method that notifies it.
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
    """The test firmware. The debugger evaluates its methods; no SCI is raised.

    ``fence`` is an AC adapter that is never notified, see `flush_handlers`.
    """

    def __init__(self, debugger: Debugger, fence: Unrelated) -> None:
        self.debugger = debugger
        # The paths are looked up once: sysfs is slow under emulation, and every test flushes.
        device = fence.folder
        # The driver is bound to the platform device (seen in 6.12) or to the ACPI device (6.1).
        nodes = (device, device / "physical_node")
        bound = next(node for node in nodes if (node / "driver").exists())
        self._driver = (bound / "driver").resolve()
        self._fence = bound.resolve().name

    def notify(self, method: str, value: int, *, step: int = 0, count: int = 1) -> None:
        """Have ``method`` send ``count`` notifications: value, value + step and so on.

        Returns when the AML has run. The handlers may run later, and since Linux 6.8 several at
        once. A long burst is split into several evaluations: a single one would occupy a CPU of a
        non-preemptible kernel for longer than the kernel's watchdogs allow on a busy host.
        """
        for sent in range(0, count, PIECE):
            self.debugger.evaluate(method, value + sent * step, step, min(PIECE, count - sent))

    def notify_path(self, path: str, value: int) -> None:
        """Notify the object ``path`` with the debugger's command "notify", without AML."""
        self.debugger.run(f"notify {path} {value:#x}")

    @contextmanager
    def busy_handler(self, adapter: Unrelated) -> Iterator[None]:
        """Have the Notify handler of an AC adapter run as long as the ``with`` block does.

        The adapter's driver asks for its state in the handler, and the firmware's method waits for
        the end of the block, or for `BUSY_SECONDS`. Do not call `flush_handlers` in the block.
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

        Unbinds and binds the driver of the AC adapter ``fence``, which is never notified. Unbinding
        calls acpi_remove_notify_handler(), which flushes the workqueues on which handlers run
        (acpi_os_wait_events_complete(), drivers/acpi/osl.c).
        """
        for what in ("unbind", "bind"):
            _write(f"{self._driver}/{what}", self._fence)


def described(device: PciDevice) -> str:
    """Return the path of the ACPI object that firmware has for a PCI device, "" for none.

    The object is found by its _ADR below the object of the bus (ACPI 6.5, 6.1.1), and not by the
    kernel's link ``firmware_node`` of the device, which tests compare with the result.
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
    """Write ``text`` to a file in sysfs. Every test calls this twice; pathlib would be slower."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def short(path: str) -> str:
    r"""Return the path without the padding of its names: ``\_SB.PCI0.S80`` for ``\_SB_.PCI0.S80_``.

    A name in ACPI has 4 characters; shorter names are padded with underscores.
    """
    root, _, names = path.partition("\\")
    return root + "\\" + ".".join(name.rstrip("_") for name in names.split("."))
