# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Open a device and its notifications for another process, and keep nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .. import opening, support
from ..closing import Closing
from .message import Role
from .policy import Grant

_SPACES = {
    opening.CDEV: (Role.IOMMUFD,),
    opening.GROUP: (Role.GROUP, Role.CONTAINER),
}


class Handover(Protocol):
    """The descriptors that a VMM gets."""

    mechanism: str

    def descriptors(self) -> Sequence[tuple[Role, int]]:
        """Return each descriptor with its role."""

    def close(self) -> None:
        """Close them in this process. What the kernel was told stays as it is."""


class DeviceHandover(Closing):
    """The open device of ``grant`` and its stream of notifications.

    Raises the errors of `support.open_device` and `uapi.vfio.Device.notifications`.
    """

    def __init__(self, grant: Grant) -> None:
        self._device = support.open_device(grant.bdf)
        try:
            self._stream = self._device.notifications(grant.mechanism)
        except BaseException:
            self._device.close()
            raise
        self.mechanism = self._stream.mechanism

    def descriptors(self) -> list[tuple[Role, int]]:
        """Return those of the notifications, the device and its I/O address space."""
        method = self._device.open_method
        space = opening.space_fds(self._device.bdf, method)
        stream = zip((Role.EVENTS, Role.ACKNOWLEDGE), self._stream.fds(), strict=False)
        return [
            *stream,
            (Role.DEVICE, self._device.fileno()),
            *zip(_SPACES[method], space, strict=True),
        ]

    def close(self) -> None:
        """Close the device, then the stream.

        In the other order the stream would disarm the device, on which the VMM's copy relies.
        """
        self._device.close()
        self._stream.close()
