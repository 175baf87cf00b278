# SPDX-License-Identifier: GPL-2.0-only
"""PCI devices through sysfs: companions and drivers.

Source: Documentation/ABI/testing/sysfs-bus-pci (driver_override, drivers_probe, unbind).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

BUS = Path("/sys/bus/pci")
VFIO = "vfio-pci"

POLL_SECONDS = 0.05
BIND_SECONDS = 5.0


@dataclass(frozen=True)
class Device:
    """A PCI function of the test machine.

    ``path`` is the companion's object in the ACPI namespace as the machine's table has it, "" if
    not every QEMU has one; ``method`` is the test firmware's method that notifies it; ``bare``
    tells that no QEMU has an object for it.
    """

    name: str
    bdf: str
    path: str
    method: str
    bare: bool = False

    @property
    def folder(self) -> Path:
        """The device in sysfs."""
        return BUS / "devices" / self.bdf

    @property
    def companion(self) -> str:
        """The companion's path as the kernel knows it, "" for none."""
        node = self.folder / "firmware_node" / "path"
        return node.read_text().strip() if node.exists() else ""

    @property
    def address(self) -> int:
        """Device and function as _ADR has them (ACPI 6.5, table 6.2)."""
        slot, _, function = self.bdf.rpartition(":")[2].partition(".")
        return int(slot, 16) << 16 | int(function, 16)

    @property
    def upstream(self) -> Path:
        """The bridge or host bridge above the device, in sysfs."""
        return self.folder.resolve().parent

    @property
    def driver(self) -> str:
        """The name of the driver that the device is bound to, "" for none."""
        try:
            return (self.folder / "driver").readlink().name
        except FileNotFoundError:
            return ""

    def bind(self) -> None:
        """Bind the device to vfio-pci; OSError, or RuntimeError if the driver does not take it."""
        (self.folder / "driver_override").write_text(VFIO)
        (BUS / "drivers_probe").write_text(self.bdf)
        # A device that was just plugged in may be in the middle of being bound by the kernel's
        # own thread, which the write does not wait for.
        end = time.monotonic() + BIND_SECONDS
        while (driver := self.driver) != VFIO:
            if time.monotonic() > end:
                raise RuntimeError(f"{self.bdf} is bound to {driver or 'no driver'}, not {VFIO}")
            time.sleep(POLL_SECONDS)

    def forgo_reset(self) -> None:
        """Have the kernel open the device without a reset, if it knows how to reset it.

        Of the machine's devices only the one behind a port of its own can be reset: by its bus,
        which takes 0.2 s under emulation (pci_reset_secondary_bus(), drivers/pci/pci.c).
        vfio-pci resets it once more when it is closed, and that stays.
        """
        path = self.folder / "reset_method"
        if path.exists():
            path.write_text("\n")

    def unbind(self) -> None:
        """Take the device from its driver, if it has one."""
        if self.driver:
            (self.folder / "driver" / "unbind").write_text(self.bdf)


@dataclass(frozen=True)
class Port:
    """A hot-plug port: its own BDF, and the companion's path of a device plugged into it."""

    bdf: str
    path: str

    @property
    def plugged(self) -> Device | None:
        """The device in the port, as far as the kernel knows."""
        for folder in (BUS / "devices" / self.bdf).glob("0000:*"):
            device = Device("plugged", folder.name, self.path, method="")
            # The folder is there before its files are.
            if (device.folder / "driver_override").exists():
                return device
        return None

    def wait(self, seconds: float = 10.0) -> Device:
        """Wait until the kernel has found a device in the port; TimeoutError if it does not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            device = self.plugged
            if device is not None:
                return device
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"no device in port {self.bdf} after {seconds:g} s")

    def wait_empty(self, seconds: float = 10.0) -> None:
        """Wait until the kernel has let go of the device; TimeoutError if it does not."""
        end = time.monotonic() + seconds
        while self.plugged is not None:
            if time.monotonic() > end:
                raise TimeoutError(f"port {self.bdf} still has a device after {seconds:g} s")
            time.sleep(POLL_SECONDS)
