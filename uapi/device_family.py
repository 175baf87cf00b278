# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The generic netlink family that the netlink-device series registers for each device.

Its name is the BDF, and its only group ``notify``, which takes CAP_NET_ADMIN to join. A message is
a notification. It has the command 1 (VFIO_ACPI_GENL_CMD_NOTIFY), nlmsg_seq 0, and two attributes::

    type
       1   u32 value that firmware passed to Notify; ACPICA keeps its lowest 16 bits
       2   u32 sequence number: 0 for the first one since the device was bound, and so on

This module is only imported when it is needed, because it needs pyroute2, which takes long to
import.

Source: include/uapi/linux/vfio.h of the netlink-device series.
"""

from __future__ import annotations

import errno
import time

from . import genl, mirror, probe
from .errors import OpenError
from .gaps import MASK
from .notification import Notification
from .notifications import Stream

GROUP = mirror.VFIO_ACPI_GENL_GROUP_NAME

# The longest time from binding a device until its family is there: a workqueue registers it.
SECONDS = 1.0

# The family of generic netlink itself, two of its commands, and the attribute with the name of the
# family that they are about (linux/genetlink.h).
CONTROL = "nlctrl"
NEWFAMILY, DELFAMILY = 1, 2
FAMILY_NAME = 2

# The offset of the command in a message of generic netlink.
COMMAND = genl.GENL_OFFSET


class Announcements(probe.Membership):
    """A member of the group in which generic netlink announces families that come and go."""

    group = "notify"

    def __init__(self) -> None:
        super().__init__(known=probe.family(CONTROL))

    def wait_for(self, command: int, name: str, seconds: float = SECONDS) -> bool:
        """Wait until ``command`` is announced of the family ``name``; False if that takes longer.

        Source: net/netlink/genetlink.c, genl_ctrl_event().
        """
        end = time.monotonic() + seconds
        while self.wait(max(0.0, end - time.monotonic())):
            got = self.message()
            if isinstance(got, bytes) and _announced(got) == (command, name):
                return True
        return False


def _announced(message: bytes) -> tuple[int, str]:
    """Return the command of an announcement, and the name of the family."""
    name = dict(genl.attributes_of(message))[FAMILY_NAME]
    return message[COMMAND], name.rstrip(b"\0").decode()


def family(bdf: str) -> probe.Family:
    """Return the family of the device ``bdf``, after `SECONDS` at most.

    Raises OSError (ENOENT) if it gets none. Asks twice at most: to ask for a family that is not
    there makes the kernel look for a module.
    """
    with Announcements() as announcements:
        try:
            return probe.family(bdf)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        announcements.wait_for(NEWFAMILY, bdf)
    return probe.family(bdf)


def has(bdf: str) -> bool:
    """Return whether the device has a family in this network namespace. False for the name ""."""
    try:
        return bool(bdf) and GROUP in family(bdf).groups
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise


def decode(message: bytes) -> tuple[int, int]:
    """Return the value and the sequence number of a message that was received from the family.

    Attributes of unknown types are ignored. Raises FormatError if the length or the command is not
    that of a notification, or an attribute is missing or has another size.
    """
    genl.header(message, mirror.VFIO_ACPI_GENL_CMD_NOTIFY, "VFIO_ACPI_GENL_CMD_NOTIFY")
    attributes = dict(genl.attributes_of(message))
    return (
        genl.u32(attributes, mirror.VFIO_ACPI_GENL_ATTR_VALUE),
        genl.u32(attributes, mirror.VFIO_ACPI_GENL_ATTR_SEQUENCE),
    )


class DeviceListener(probe.Membership):
    """A member of the multicast group of a device's family, the argument ``known``."""

    group = GROUP


class FamilyNotifications(Stream):
    """A stream by ``listener``, which `close` closes.

    The family outlives the open device, and the socket the family: the stream does not end by
    itself, and is silent after the device was unbound. Notifications that were lost before the
    first one that is read are not counted.
    """

    mechanism = "netlink-device"

    def __init__(self, listener: DeviceListener) -> None:
        super().__init__(listener)
        self._listener = listener
        self._expected: int | None = None

    @classmethod
    def join(cls, bdf: str) -> FamilyNotifications:
        """Join the group of the device ``bdf``, and return a stream of its notifications.

        Raises OpenError (EPERM) without CAP_NET_ADMIN, and OSError (ENOENT) if the device has no
        family.
        """
        try:
            return cls(DeviceListener(known=family(bdf)))
        except PermissionError:
            raise OpenError(
                errno.EPERM,
                bdf,
                "joining the group of its family takes CAP_NET_ADMIN",
                "be root in the host's network namespace",
            ) from None

    def close(self) -> None:
        """Close the socket, which leaves the group. Unread notifications are lost."""
        self._listener.close()

    def _take(self) -> Notification | None:
        message = self._listener.message()
        # An overrun needs no action: the next notification's number tells what was lost.
        if not isinstance(message, bytes):
            return None
        value, sequence = decode(message)
        lost = 0 if self._expected is None else (sequence - self._expected) & MASK
        self._expected = (sequence + 1) & MASK
        return Notification(value, lost=lost)
