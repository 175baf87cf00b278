# SPDX-License-Identifier: GPL-2.0-only
"""Send notifications in an order that is certain."""

from __future__ import annotations

from collections.abc import Iterable

from ktests.acpi import Firmware
from ktests.pci import PciDevice


def one_by_one(firmware: Firmware, device: PciDevice, values: Iterable[int]) -> None:
    """Send the notifications ``values`` to the device; each is handled before the next is sent.

    Otherwise handlers could run on several CPUs and change the order.
    """
    for value in values:
        firmware.notify(device.method, value)
        firmware.flush_handlers()
