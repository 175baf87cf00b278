# SPDX-License-Identifier: GPL-2.0-only
"""Notifications in an order that is certain."""

from __future__ import annotations

from collections.abc import Iterable

from ktests.acpi import Firmware
from ktests.pci import Device


def one_by_one(firmware: Firmware, device: Device, values: Iterable[int]) -> None:
    """Notify, and have each handled before the next: handlers run on several CPUs."""
    for value in values:
        firmware.notify(device.method, value)
        firmware.flush_handlers()
