# SPDX-License-Identifier: GPL-2.0-only
"""The look at VFIO_PCI_ACPI_IRQ_INDEX (5), which several mechanisms have.

They differ by the index's flags, by the word that a loopback makes readable, and by the feature
that fetches values. `look` describes all three, so that one text is the sign of one mechanism.
"""

from __future__ import annotations

import errno

from ktests.mechanism import Site
from uapi import vfio
from uapi.errors import UapiError
from uapi.eventfd import EventFd

# A loopback is readable at once; emulation may be slow.
LOOPBACK_SECONDS = 5.0

# The number of VFIO_DEVICE_FEATURE_ACPI_PENDING, and the data of its GET: four times 32 bits.
PENDING = 15
PENDING_DATA = bytes(16)
GET = 1 << 16

ABSENT = "index 5 is not there"


def look(site: Site) -> str:
    """Describe VFIO_PCI_ACPI_IRQ_INDEX of the device and the feature 15, for `Sign.look`.

    Returns a text with the flags and the count of VFIO_DEVICE_GET_IRQ_INFO and the word that a
    loopback makes readable, or the error of arming or loopback. If the device has the feature, the
    text ends with the result of its GET after the loopback. Returns "" if the device has neither.
    """
    with vfio.Device.open(site.device.bdf) as device, EventFd() as eventfd:
        parts = (_index(device, eventfd), _pending(device))
    return ", and ".join(filter(None, parts))


def _index(device: vfio.Device, eventfd: EventFd) -> str:
    if device.info().num_irqs <= vfio.ACPI:
        return ""
    info = device.irq_info(vfio.ACPI)
    if info.count == 0:  # include/uapi/linux/vfio.h: the device does not implement the index
        return ""
    seen = f"index {vfio.ACPI} has flags {info.flags:#x} and count {info.count}"
    try:
        device.arm(eventfd)
        device.loopback()
    except UapiError as error:
        return f"{seen}, and refuses an eventfd: {error}"
    if not eventfd.wakes_up(LOOPBACK_SECONDS):
        return f"{seen}, and its loopback gives nothing"
    return f"{seen}, and its loopback reads {eventfd.read():#x}"


def _pending(device: vfio.Device) -> str:
    if not device.has_feature(PENDING):
        return ""
    try:
        got = device.feature(GET | PENDING, PENDING_DATA)
    except UapiError as error:
        return f"feature {PENDING} ends with {errno.errorcode[error.errno or 0]}"
    return f"feature {PENDING} gives {got.hex()}"
