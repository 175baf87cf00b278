# SPDX-License-Identifier: GPL-2.0-only
"""Have the test firmware send notifications on interrupts, which the host raises.

The interrupt is one of QEMU's I/O APIC. It belongs to a Generic Event Device, for which the kernel
evaluates the method _EVT of the test firmware. kpatch/vm/ring.py describes how the notifications
come to the firmware. A run by hand has no host, and no interrupts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ktests.acpi import Firmware, Unrelated
from ktests.channel import Channel
from ktests.contract import PIECE
from ktests.debugger import Debugger


@dataclass(frozen=True)
class Notifications:
    """``count`` notifications of one device: the values value, value + step and so on.

    ``method`` is the name of the test firmware's method that notifies the device.
    """

    method: str
    value: int
    step: int = 0
    count: int = 1


class InterruptedFirmware(Firmware):
    """The test firmware, which sends notifications on interrupts instead of by the debugger.

    Its `notify` does the same as that of `Firmware` to the VMM under test, so that every test can
    run with either. The debugger only waits for the firmware.
    """

    def __init__(self, debugger: Debugger, fence: Unrelated, host: Channel) -> None:
        super().__init__(debugger, fence)
        self._host = host

    def interrupt(self, *entries: Notifications) -> None:
        """Raise one interrupt, on which one evaluation sends the notifications of ``entries``.

        Does not wait for the firmware, which may still send those of earlier interrupts. It then
        sends these in the same or in the next evaluation. RuntimeError if the host refuses this:
        at most ENTRIES_LIMIT entries of `ktests.contract` may wait for the firmware, and one
        interrupt may have at most `PIECE` notifications.
        """
        self._host.interrupt([asdict(entry) for entry in entries])

    def wait(self) -> None:
        """Wait until the firmware has sent the notifications of all interrupts.

        The Notify handlers may run later (`flush_handlers`). DebuggerError after 30 seconds: an AML
        loop may not take longer.
        """
        self.debugger.evaluate("VFRW")

    def notify(self, method: str, value: int, *, step: int = 0, count: int = 1) -> None:
        """Send ``count`` notifications, as `Firmware.notify` does, on an interrupt for each piece.

        Returns when the firmware has sent all.
        """
        for sent in range(0, count, PIECE):
            values = Notifications(method, value + sent * step, step, min(PIECE, count - sent))
            self.interrupt(values)
            self.wait()
