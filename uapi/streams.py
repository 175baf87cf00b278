# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Choose the mechanism by which a device's notifications are read.

A kernel may have more than one mechanism. The order of `MECHANISMS` is the order of preference: a
queue tells values, losses and the end; a feature that fetches comes next, then an eventfd that is
acknowledged. Of the eventfds, one whose counter is the value comes last, because it cannot be told
from one that only counts. A family of generic netlink takes a privilege, and looking for it takes
time.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from . import mirror
from .errors import OpenError
from .eventq import EventQueue
from .notifications import (
    AckNotifications,
    DoorbellNotifications,
    Fetchable,
    Maskable,
    Notifications,
    QueueNotifications,
    Stream,
)

ACPI: int = mirror.VFIO_PCI_ACPI_IRQ_INDEX
ACPI_NOTIFY: int = mirror.VFIO_DEVICE_FEATURE_ACPI_NOTIFY
ACPI_PENDING: int = mirror.VFIO_DEVICE_FEATURE_ACPI_PENDING


class Device(Fetchable, Maskable, Protocol):
    """The methods of `uapi.vfio.Device` that the choice of a mechanism uses."""

    @property
    def bdf(self) -> str:
        """The name of the device in sysfs."""

    def has_feature(self, number: int) -> bool:
        """Return whether the device has the feature ``number``."""

    def interrupts(self, index: int) -> int | None:
        """Return the number of interrupts of the index, None if the kernel lacks the index."""

    def automasked(self, index: int) -> bool:
        """Return whether each signal masks the index. False if the kernel or device lacks it."""

    def notify_queue(self) -> EventQueue:
        """Return a new queue of the device's notifications."""


@dataclass(frozen=True)
class Mechanism:
    """How user space finds out whether the kernel has a mechanism, and uses it for a device.

    ``has`` asks the kernel and changes nothing. ``open`` returns a new stream. ``needs`` names what
    ``has`` asks for, the index or the feature as in the kernel's headers. ``privileged`` is whether
    a process needs more than the open device to listen.
    """

    has: Callable[[Device], bool]
    open: Callable[[Device], Stream]
    needs: str
    privileged: bool = False


def _with_companion(device: Device) -> Device:
    """Return ``device``. Raises OpenError (ENOTSUP) if firmware does not describe it."""
    if not device.interrupts(ACPI):
        raise OpenError(
            errno.ENOTSUP,
            device.bdf,
            "firmware does not describe this device (it has no ACPI companion)",
            "a device that it describes has firmware_node in its folder in /sys/bus/pci/devices",
        )
    return device


def _has_family(device: Device) -> bool:
    from . import device_family

    return device_family.has(device.bdf)


def _join_family(device: Device) -> Stream:
    from .device_family import FamilyNotifications

    return FamilyNotifications.join(device.bdf)


MECHANISMS: dict[str, Mechanism] = {
    QueueNotifications.mechanism: Mechanism(
        has=lambda device: device.has_feature(ACPI_NOTIFY),
        open=lambda device: QueueNotifications(device.notify_queue()),
        needs="VFIO_DEVICE_FEATURE_ACPI_NOTIFY",
    ),
    DoorbellNotifications.mechanism: Mechanism(
        has=lambda device: device.has_feature(ACPI_PENDING),
        open=lambda device: DoorbellNotifications(_with_companion(device)),
        needs="VFIO_DEVICE_FEATURE_ACPI_PENDING",
    ),
    AckNotifications.mechanism: Mechanism(
        # Without a companion the index has no flags: no kernel can be told from another then.
        has=lambda device: device.automasked(ACPI) or device.interrupts(ACPI) == 0,
        open=lambda device: AckNotifications(_with_companion(device)),
        needs="VFIO_PCI_ACPI_IRQ_INDEX with VFIO_IRQ_INFO_AUTOMASKED",
    ),
    Notifications.mechanism: Mechanism(
        has=lambda device: device.interrupts(ACPI) is not None and not device.automasked(ACPI),
        open=lambda device: Notifications(_with_companion(device)),
        needs="VFIO_PCI_ACPI_IRQ_INDEX without VFIO_IRQ_INFO_AUTOMASKED",
    ),
    # The name is that of `uapi.device_family.FamilyNotifications`, which takes long to import.
    "netlink-device": Mechanism(
        has=_has_family,
        open=_join_family,
        needs="generic netlink family of the device (only the initial network namespace has them)",
        privileged=True,
    ),
}
"""The mechanisms by name, the preferred one first."""


def open_stream(device: Device, mechanism: str | None = None) -> Stream:
    """Return a stream of the notifications of ``device``.

    ``mechanism`` is a name in `MECHANISMS`; None takes the first one that the kernel has. Raises
    ValueError if there is no such name, OpenError (ENOTSUP) if the kernel has no such mechanism or,
    by an eventfd, if the device has no ACPI companion, (EPERM) if the process may not join the
    device's family, and UapiError if an ioctl fails: ENODEV if a queue is asked for and the device
    has no companion.
    """
    if mechanism is not None and mechanism not in MECHANISMS:
        raise ValueError(f"mechanism {mechanism!r} is not one of {', '.join(MECHANISMS)}")
    wanted = MECHANISMS if mechanism is None else {mechanism: MECHANISMS[mechanism]}
    for offered in wanted.values():
        if offered.has(device):
            return offered.open(device)
    missing = " and no ".join(offered.needs for offered in wanted.values())
    raise OpenError(
        errno.ENOTSUP,
        device.bdf,
        f"this kernel has no {missing}",
        f"boot one with the {' or '.join(wanted)} series",
    )
