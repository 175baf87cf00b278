# SPDX-License-Identifier: GPL-2.0-only
"""Send notifications so that they are handled in the order in which they are sent."""

from __future__ import annotations

from collections.abc import Iterable

from ktests.acpi import Firmware
from ktests.pci import PciDevice


def one_by_one(firmware: Firmware, device: PciDevice, values: Iterable[int]) -> None:
    """Have firmware notify ``device`` of each of ``values``, in this order.

    After each notification, also the last one, wait until its handler has run. Otherwise handlers
    could run on several CPUs at once and change the order.
    """
    for value in values:
        firmware.notify(device.method, value)
        firmware.flush_handlers()
