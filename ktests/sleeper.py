# SPDX-License-Identifier: GPL-2.0-only
"""The device of the test machine that can sleep."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ktests.pci import PciDevice
from ktests.task import SECONDS

# The device of ktests/machine.toml that has a PM capability.
SLEEPER = "sleeper"
# The sleeper is asleep for at least this time before it counts as asleep: it may be on its way out.
ASLEEP_SECONDS = 0.02


class Sleeper(PciDevice):
    """A PCI device with a PM capability, by its files in sysfs: reading them does not wake it.

    Source: Documentation/ABI/testing/sysfs-devices-power, sysfs-bus-pci (power_state).
    """

    @property
    def state(self) -> str:
        """The device's power state: "D0", "D3hot" and so on."""
        return (self.folder / "power_state").read_text().strip()

    @property
    def active_milliseconds(self) -> int:
        """The time for which the device has been awake. It stands still while the device sleeps."""
        return int((self.folder / "power" / "runtime_active_time").read_text())

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Keep the device in D0 in the block."""
        control = self.folder / "power" / "control"
        control.write_text("on")
        try:
            assert self.state == "D0", f"{self.bdf} is in {self.state}"
            yield
        finally:
            control.write_text("auto")

    def wait_asleep(self) -> None:
        """Wait until the device sleeps in D3hot; AssertionError if it does not in `SECONDS`."""
        end = time.monotonic() + SECONDS
        while True:
            before = self.active_milliseconds
            time.sleep(ASLEEP_SECONDS)
            if self.state == "D3hot" and self.active_milliseconds == before:
                return
            assert time.monotonic() < end, f"{self.bdf} stays in {self.state}"
