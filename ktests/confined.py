# SPDX-License-Identifier: GPL-2.0-only
"""A VMM in a cell: confined, handed its open device, and hearing what the mechanism lets it hear.

The mechanism's record has the same within the test's own process, where nothing is confined.
"""

from __future__ import annotations

from contextlib import ExitStack

from ktests.acpi import Firmware
from ktests.confined_process import Cell
from ktests.confinement import NOBODY, Confinement
from ktests.mechanism import Heard, Mechanism
from ktests.pci import Device
from uapi import probe, vfio
from uapi.closing import Closing


class ConfinedVmm(Closing):
    """A VMM of one device, confined; a context manager.

    The device is opened here, as a privileged broker does, and handed over; the VMM registers by
    itself. CellError if it cannot.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        device: Device,
        firmware: Firmware,
        family: probe.Family,
        confined: Confinement,
        *,
        via: str | None = None,
    ) -> None:
        self.device = device
        self._firmware = firmware
        self._mechanism = mechanism
        self._taken = 0
        with ExitStack() as stack:
            # Kept open here for the loopback alone, the sign that there is no more to read.
            self._vfio = stack.enter_context(vfio.Device.open(device.bdf, via))
            fd = self._vfio.fileno()
            register = mechanism.register(fd, family)
            self.confined_process = stack.enter_context(Cell(register, confined, handed=(fd,)))
            self._stack = stack.pop_all()

    def heard(self) -> list[Heard]:
        """All that reached the VMM since the last call, whoever it is about."""
        self._firmware.flush_handlers()
        messages = self._mechanism.received(self.confined_process, self._vfio, self._taken)
        self._taken += len(messages)
        return self._mechanism.heard(messages, self.device.bdf)

    def close(self) -> None:
        """End it, and let go of the device."""
        self._stack.close()


def privileges(confined_process: Cell) -> str:
    """In words what the kernel says that the cell's process has, for a test's record."""
    status = confined_process.status
    capabilities = any(int(status[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Bnd", "Amb"))
    own = ", ".join(sorted(confined_process.own_namespaces)) or "none"
    return (
        f"uid {status['Uid'].split()[1]}, {'some' if capabilities else 'no'} capability, "
        f"own namespaces: {own}, seccomp mode {status['Seccomp']}"
    )


def expected_privileges(confined: Confinement) -> str:
    """`privileges` of a cell that is confined like this."""
    own = ", ".join(sorted(confined.namespaces)) or "none"
    mode = 0 if confined.calls is None else 2
    return f"uid {NOBODY}, no capability, own namespaces: {own}, seccomp mode {mode}"
