# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The word that read(2) of the eventfd of VFIO_PCI_ACPI_IRQ_INDEX returns.

A word of 64 bits in the byte order of the host::

    bits
     0-31  value that firmware passed to Notify; ACPICA keeps its lowest 16 bits
     32    VALID, always set, so that a notification of 0 makes the eventfd readable too
     33    LOOPBACK: caused by VFIO_DEVICE_SET_IRQS with DATA_NONE or DATA_BOOL; value 0
    34-47  reserved, 0
    48-63  number of notifications lost just before this one; 0xffff means that many or more

Source: include/uapi/linux/vfio.h of the eventfd series.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import mirror
from .errors import FormatError

VALUE_MASK: int = mirror.VFIO_PCI_ACPI_NOTIFY_VALUE_MASK
VALID: int = mirror.VFIO_PCI_ACPI_NOTIFY_VALID
LOOPBACK: int = mirror.VFIO_PCI_ACPI_NOTIFY_LOOPBACK
LOST_SHIFT: int = mirror.VFIO_PCI_ACPI_NOTIFY_LOST_SHIFT
LOST_MAX: int = mirror.VFIO_PCI_ACPI_NOTIFY_LOST_MAX

# The number of notifications that the kernel queues behind the readable one.
QUEUE: int = mirror.VFIO_PCI_ACPI_NOTIFY_QUEUE

WORD_MASK = (1 << 64) - 1

# The first value that the device's driver handles. The operating system handles smaller ones (ACPI
# specification, 5.6.6 Device Object Notifications).
FIRST_OF_DEVICE = 0x80
RESERVED = WORD_MASK & ~(VALUE_MASK | VALID | LOOPBACK | LOST_MAX << LOST_SHIFT)


@dataclass(frozen=True)
class Notification:
    """One notification, as the kernel delivered it.

    ``value`` is the value that firmware passed to Notify. ``loopback`` is True if user space caused
    the notification: the value is then 0 (eventfd) or the one that user space chose (eventq).
    ``lost`` is the number of notifications lost between the previously read one and this one; by an
    eventfd, `LOST_MAX` means that many or more.
    """

    value: int
    loopback: bool = False
    lost: int = 0

    @property
    def relayable(self) -> bool:
        """Whether a VMM may relay the value to its guest.

        False for a loopback and for a value below 0x80. The guest's kernel would take such a value
        as a request to itself (ACPI specification, 5.6.6 Device Object Notifications): 0 is a bus
        check, 3 an eject request. The kernel can deliver such a value because ACPICA cuts values to
        16 bits: 0x10003 arrives as 3.
        """
        return not self.loopback and self.value >= FIRST_OF_DEVICE


def decode(word: int, *, strict: bool = True) -> Notification:
    """Decode a 64-bit word that was read from the eventfd.

    Raises FormatError if ``word`` has more than 64 bits, if VALID is not set or, with ``strict``,
    if a reserved bit is set. The last two can happen if another process writes to the eventfd. A
    VMM has to use ``strict=False``: a later
    kernel may give the reserved bits a meaning, which a VMM has to ignore.
    """
    if not 0 <= word <= WORD_MASK:
        raise FormatError(f"{word:#x} has more than 64 bits")
    if not word & VALID:
        raise FormatError(f"{word:#018x} lacks VALID (bit 32)")
    if strict and word & RESERVED:
        raise FormatError(f"{word:#018x} has reserved bits set: {word & RESERVED:#x}")
    return Notification(
        value=word & VALUE_MASK,
        loopback=bool(word & LOOPBACK),
        lost=word >> LOST_SHIFT & LOST_MAX,
    )


def encode(notification: Notification) -> int:
    """Return the 64-bit word that `decode` turns into ``notification``, for tests of a VMM.

    Raises FormatError if the value (32 bits) or the number of lost notifications (16 bits) does not
    fit.
    """
    if not 0 <= notification.value <= VALUE_MASK or not 0 <= notification.lost <= LOST_MAX:
        raise FormatError(f"{notification} does not fit into a word")
    word = notification.value | VALID | notification.lost << LOST_SHIFT
    return word | LOOPBACK if notification.loopback else word
