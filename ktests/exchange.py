# SPDX-License-Identifier: GPL-2.0-only
"""Notifications in an order that is certain, and all that an eventfd has to give."""

from __future__ import annotations

from collections.abc import Iterable

from ktests.acpi import Firmware
from ktests.pci import Device
from uapi import vfio
from uapi.eventfd import EventFd
from uapi.notification import Notification, decode

# What is kept for a reader that does not read: the readable one, and those that are queued.
QUEUE = 256
KEPT = QUEUE + 1

# A limit, no figure: what is queued comes at once, and emulation may be slow.
READ_SECONDS = 10.0


def one_by_one(firmware: Firmware, device: Device, values: Iterable[int]) -> None:
    """Notify, and have each handled before the next: handlers run on several CPUs."""
    for value in values:
        firmware.notify(device.method, value)
        firmware.settle()


def overflow(firmware: Firmware, device: Device, count: int) -> None:
    """Notify 0x80 once, 0x81 often, then 0x100 to 0x1ff, these in any order: ``count`` times."""
    one_by_one(firmware, device, [0x80])
    firmware.notify(device.method, 0x81, count=count - KEPT)
    firmware.settle()
    firmware.notify(device.method, 0x100, step=1, count=QUEUE)
    firmware.settle()


def take(eventfd: EventFd) -> Notification:
    """Wait for the next notification; AssertionError if there is none."""
    assert eventfd.wait(READ_SECONDS), "nothing to read"
    word = eventfd.read()
    assert word is not None, "readable, and nothing to read"
    return decode(word)


def take_all(firmware: Firmware, device: vfio.Device, eventfd: EventFd) -> list[Notification]:
    """All that the eventfd, which has to be the one that is set, has to give up to now.

    The next notification becomes readable a moment after the previous one was read, so that
    an empty eventfd does not tell that there is no more. A loopback, which is queued behind
    everything else, does; it is left out.
    """
    firmware.settle()
    device.loopback()
    return list(iter(lambda: take(eventfd), Notification(0, loopback=True)))


def take_full(firmware: Firmware, device: vfio.Device, eventfd: EventFd) -> list[Notification]:
    """The same, of a queue that may be full: the loopback alone would push one out."""
    firmware.settle()
    first = take(eventfd)
    assert eventfd.wait(READ_SECONDS), "the second one does not come"
    return [first, *take_all(firmware, device, eventfd)]
