# SPDX-License-Identifier: GPL-2.0-only
"""A table of the firmware that is loaded, and unloaded, while the kernel runs.

It describes the device behind the island's port: ktests/firmware/later.asl.j2. Source:
Documentation/ABI/testing/configfs-acpi, drivers/acpi/acpi_configfs.c.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ktests.pci import BUS, POLL_SECONDS, PciDevice
from uapi.closing import Closing

CONFIGFS = Path("/sys/kernel/config")
TABLE = CONFIGFS / "acpi" / "table" / "later"
AML = Path(__file__).parents[1] / "later.aml"

# A generous limit: the kernel scans for devices while a file in sysfs is written.
SECONDS = 10.0


class LateTable(Closing):
    """The loaded table, and the device that has a companion in it. A context manager.

    ``bare`` is the device as it is without the table, ``port`` the BDF of the port above it, and
    ``path`` the ACPI path of the companion. ``device`` is the device with the companion. At the end
    the table is unloaded, and the device has no companion, as before.

    The kernel looks for a device's companion when it finds the device. So the port is removed, and
    the bus is scanned anew.
    """

    def __init__(self, bare: PciDevice, *, port: str, path: str) -> None:
        self._port = BUS / "devices" / port
        self._bare = bare
        self.device = replace(bare, path=path, bare=False)
        self._mount()
        bare.unbind()
        TABLE.mkdir()
        try:
            (TABLE / "aml").write_bytes(AML.read_bytes())
            self._find_again()
            assert self.device.companion, "the table does not describe the device"
        except BaseException:
            self.close()
            raise

    def unload(self) -> None:
        """Unload the table. The device keeps a companion of which the firmware knows nothing."""
        TABLE.rmdir()

    def close(self) -> None:
        """Unload the table if it is loaded, and find the device without a companion.

        The device is removed first. 7.3 frees the companion of an unloaded table, if nobody else
        has a reference, while it still holds the companion's lock (acpi_unbind_one()). Later a work
        item removes the companion; until then the kernel would bind the device to it again.
        """
        self.device.unbind()
        companion = (self.device.folder / "firmware_node").resolve()
        self._remove()
        if TABLE.exists():
            self.unload()
        self._wait(lambda: not companion.exists(), "its companion stays")
        self._scan()
        assert not self.device.companion, "the device still has a companion"

    def _find_again(self) -> None:
        self._remove()
        self._scan()

    def _remove(self) -> None:
        (self._port / "remove").write_text("1")

    def _scan(self) -> None:
        (BUS / "rescan").write_text("1")
        found = self._bare.folder / "driver_override"
        self._wait(found.exists, "is not found again")

    def _wait(self, ended: Callable[[], bool], fault: str) -> None:
        end = time.monotonic() + SECONDS
        while not ended():
            assert time.monotonic() < end, f"{self._bare.bdf}: {fault}"
            time.sleep(POLL_SECONDS)

    @staticmethod
    def _mount() -> None:
        if not (CONFIGFS / "acpi").exists():
            argv = ["mount", "-t", "configfs", "configfs", str(CONFIGFS)]
            subprocess.run(argv, check=True)
