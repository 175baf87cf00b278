# SPDX-License-Identifier: GPL-2.0-only
"""PCI devices in sysfs: their ACPI companions and their drivers.

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
class PciDevice:
    """A PCI function of the test machine.

    ``path`` is the path of its companion in the ACPI namespace according to ktests/machine.toml; ""
    if the DSDT of some or of all versions of QEMU has no object for it. ``method`` is the name of
    the test firmware's method that notifies the device, "" if ``path`` is "" or the device is in
    the hot-plug port. ``bare`` is True if no version of QEMU has an object for it.
    """

    name: str
    bdf: str
    path: str
    method: str
    bare: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the device in sysfs."""
        return BUS / "devices" / self.bdf

    @property
    def companion(self) -> str:
        """The ACPI path of the companion that the kernel has found, with padding; "" for none."""
        node = self.folder / "firmware_node" / "path"
        return node.read_text().strip() if node.exists() else ""

    @property
    def address(self) -> int:
        """The device's _ADR: device number << 16 | function number (ACPI 6.5, table 6.2)."""
        slot, _, function = self.bdf.rpartition(":")[2].partition(".")
        return int(slot, 16) << 16 | int(function, 16)

    @property
    def upstream(self) -> Path:
        """The folder in sysfs of the bridge above the device: a port, or the host bridge."""
        return self.folder.resolve().parent

    @property
    def driver(self) -> str:
        """The name of the driver that the device is bound to, "" for none."""
        try:
            return (self.folder / "driver").readlink().name
        except FileNotFoundError:
            return ""

    def bind(self) -> None:
        """Bind the device to vfio-pci.

        OSError if sysfs refuses a write; RuntimeError if the device is not bound in `BIND_SECONDS`.
        """
        (self.folder / "driver_override").write_text(VFIO)
        (BUS / "drivers_probe").write_text(self.bdf)
        # If the device was just plugged in, a thread of the kernel may be binding it at the same
        # time. The write does not wait for this thread.
        end = time.monotonic() + BIND_SECONDS
        while (driver := self.driver) != VFIO:
            if time.monotonic() > end:
                raise RuntimeError(f"{self.bdf} is bound to {driver or 'no driver'}, not {VFIO}")
            time.sleep(POLL_SECONDS)

    def forgo_reset(self) -> None:
        """Disable the device's reset methods, so that opening the device does not reset it.

        A reset takes 0.1 s or longer (pcie_flr(), pci_reset_secondary_bus() in drivers/pci/pci.c).
        If the device is alone behind a port, vfio-pci still resets the bus when it is closed.
        """
        self._set_reset_method("\n")

    def permit_reset(self) -> None:
        """Enable the reset methods again. vfio-pci looks for one when the device is opened."""
        self._set_reset_method("default")

    def _set_reset_method(self, names: str) -> None:
        path = self.folder / "reset_method"
        if path.exists():
            path.write_text(names)

    def unbind(self) -> None:
        """Unbind the device from its driver, if it is bound to one. Waits until that is done."""
        if self.driver:
            (self.folder / "driver" / "unbind").write_text(self.bdf)


@dataclass(frozen=True)
class Port:
    """A hot-plug port.

    ``bdf`` is the port's own BDF. ``path`` is the ACPI path of the companion of any device that is
    plugged into it.
    """

    bdf: str
    path: str

    @property
    def plugged(self) -> PciDevice | None:
        """The device that the kernel has found in the port; None if it has found none."""
        for folder in (BUS / "devices" / self.bdf).glob("0000:*"):
            device = PciDevice("plugged", folder.name, self.path, method="")
            # The kernel creates the folder before its files.
            if (device.folder / "driver_override").exists():
                return device
        return None

    def wait(self, seconds: float = 10.0) -> PciDevice:
        """Wait until the kernel has found a device in the port, and return the device.

        TimeoutError after ``seconds``.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            device = self.plugged
            if device is not None:
                return device
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"no device in port {self.bdf} after {seconds:g} s")

    def wait_empty(self, seconds: float = 10.0) -> None:
        """Wait until the kernel has no device in the port; TimeoutError after ``seconds``."""
        end = time.monotonic() + seconds
        while self.plugged is not None:
            if time.monotonic() > end:
                raise TimeoutError(f"port {self.bdf} still has a device after {seconds:g} s")
            time.sleep(POLL_SECONDS)
