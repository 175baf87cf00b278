# SPDX-License-Identifier: GPL-2.0-only
"""A VMM in a confined process, which inherits the open device and receives its notifications.

`Mechanism.vmm` returns the unconfined counterpart, a VMM in the test's own process.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from ktests.acpi import Firmware
from ktests.confined_process import ConfinedProcess
from ktests.confinement import NOBODY, Confinement
from ktests.mechanism import Heard, Mechanism
from ktests.pci import PciDevice
from uapi import probe, vfio
from uapi.closing import Closing


class ConfinedVmm(Closing):
    """A confined VMM that has one device. A context manager.

    The test opens ``device``, as a privileged broker does, and the confined process inherits the
    descriptor. The confined process then registers for notifications by itself. ``family`` and
    ``open_method`` are those of `Mechanism.vmm`. OSError if the device cannot be opened;
    ConfinedError if the process does not start, since its confinement or registration fails.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        device: PciDevice,
        firmware: Firmware,
        family: probe.Family,
        confined: Confinement,
        *,
        open_method: str | None = None,
    ) -> None:
        self.device = device
        self._firmware = firmware
        self._mechanism = mechanism
        self._taken = 0
        with ExitStack() as stack:
            # The test keeps the device open only for `Mechanism.received`, which may cause a
            # loopback on it.
            self._vfio = stack.enter_context(vfio.Device.open(device.bdf, open_method))
            fd = self._vfio.fileno()
            register = mechanism.register(fd, family)
            self.confined_process = stack.enter_context(
                ConfinedProcess(register, confined, handed=(fd,))
            )
            self._stack = stack.pop_all()

    def seen(self, values: Sequence[int]) -> list[Heard]:
        """Return the notifications that `heard` has to return for notifications with ``values``."""
        return [Heard(self.device.bdf, value) for value in self._mechanism.seen(values)]

    def heard(self) -> list[Heard]:
        """Return all notifications, of any device, that reached the VMM since the last call.

        Waits first until all queued Notify handlers have run, and the VMM has read its messages.
        AssertionError like `Mechanism.heard`; ConfinedError or OSError if the VMM fails to read.
        """
        self._firmware.flush_handlers()
        messages = self._mechanism.received(self.confined_process, self._vfio, self._taken)
        self._taken += len(messages)
        return self._mechanism.heard(messages, self.device.bdf)

    def close(self) -> None:
        """End the confined process, and close the device in the test's own process."""
        self._stack.close()


def privileges(confined_process: ConfinedProcess) -> str:
    """Describe the privileges of the confined process in words, for a test's record.

    These are its effective uid, whether it has a capability, the namespaces of its own and its
    seccomp mode, all read from procfs.
    """
    status = confined_process.status
    capabilities = any(int(status[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Bnd", "Amb"))
    own = ", ".join(sorted(confined_process.own_namespaces)) or "none"
    return (
        f"uid {status['Uid'].split()[1]}, {'some' if capabilities else 'no'} capability, "
        f"own namespaces: {own}, seccomp mode {status['Seccomp']}"
    )


def expected_privileges(confined: Confinement) -> str:
    """Return the text that `privileges` has to return for a process confined by ``confined``."""
    own = ", ".join(sorted(confined.namespaces)) or "none"
    mode = 0 if confined.calls is None else 2
    return f"uid {NOBODY}, no capability, own namespaces: {own}, seccomp mode {mode}"
