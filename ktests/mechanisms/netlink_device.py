# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism "netlink-device": vfio-pci registers a generic netlink family for each device.

The family has the device's BDF as its name, and one multicast group, which takes CAP_NET_ADMIN to
join. A message has the whole value and the number of the notification. Registering is not finished
when the device is bound, so a VMM has to wait for the family.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ktests.acpi import Firmware
from ktests.confined_process import ConfinedProcess, Source
from ktests.mechanism import Heard, Mechanism, Sign, Site, Vmm
from ktests.mechanisms.netlink import BUFFER, NetlinkBurstSource
from ktests.pci import PciDevice
from uapi import device_family, mirror, probe, vfio
from uapi.device_family import DeviceListener

# A message. Unpacks to the value and the number of the notification.
MESSAGE = struct.Struct("=24xI4xI")

# The line of /proc/self/fdinfo with the path of an open device in sysfs, on Linux 7.3:
# vfio_device_show_fdinfo() in drivers/vfio/vfio_main.c.
SYSPATH = re.compile(r"^vfio-device-syspath:\s*(\S+)$", re.MULTILINE)


def look(site: Site) -> str:
    """Describe the family that has the device's name, for `Sign.look`; "" if there is none."""
    try:
        groups = device_family.family(site.device.bdf).groups
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return ""
    return f"a family has the device's name, and the group {', '.join(groups)}"


# ---- a VMM -------------------------------------------------------------------------------------


def drained(listener: DeviceListener) -> Iterator[bytes | probe.Overrun]:
    """Yield each message and overrun that the socket has. Does not block."""
    while (got := listener.message()) is not None:
        yield got


class NetlinkDeviceVmm(Vmm):
    """A VMM that listens to the family of its device. OSError if the device has none."""

    def __init__(self, device: PciDevice, firmware: Firmware) -> None:
        self.device = device
        self._firmware = firmware
        self.listener = DeviceListener(buffer=BUFFER, known=device_family.family(device.bdf))
        # The number that the next notification has to have; of the first one it is not known.
        self._next: int | None = None

    def fileno(self) -> int:
        """Return the descriptor of the netlink socket."""
        return self.listener.fileno()

    def values(self) -> list[int]:
        """Return the values since the last call.

        Waits first until all queued Notify handlers have run. AssertionError if the socket's buffer
        overran, or a number is missing, since a notification was lost.
        """
        self._firmware.flush_handlers()
        got = list(drained(self.listener))
        messages = [MESSAGE.unpack(message) for message in got if isinstance(message, bytes)]
        assert len(messages) == len(got), "the listener's buffer overran"
        for _, number in messages:
            assert self._next in (None, number), "notifications were lost"
            self._next = number + 1
        return [value for value, _ in messages]

    def close(self) -> None:
        """Close the socket, which leaves the multicast group."""
        self.listener.close()


class NetlinkDeviceBurstSource(NetlinkBurstSource):
    """A burst source that distinguishes notifications by their numbers."""

    def _event(self, raw: bytes) -> tuple[int, int]:
        """Return the number and the value of the notification in a message."""
        value, number = MESSAGE.unpack(raw)
        return number, value


class NetlinkDevice(Mechanism):
    """The mechanism in which a VMM joins the multicast group of a family for its device."""

    sign = Sign(
        look,
        text=f"a family has the device's name, and the group {mirror.VFIO_ACPI_GENL_GROUP_NAME}",
        absent="no generic netlink family has the device's name",
        rank=1,
    )
    registered_by_binding = True
    refusal = None
    kept = "what fits into the socket's buffer"
    shared = True

    def vmm(
        self,
        device: PciDevice,
        firmware: Firmware,
        family: probe.Family | None = None,
        *,
        open_method: str | None = None,
    ) -> NetlinkDeviceVmm:
        """Open a socket, join the multicast group and return the VMM.

        ``family`` and ``open_method`` are not used: the VMM does not open the device.
        """
        return NetlinkDeviceVmm(device, firmware)

    def burst_source(
        self, device: PciDevice, firmware: Firmware, *, buffer: int | None = None
    ) -> NetlinkDeviceBurstSource:
        """Return a burst source that distinguishes notifications by their numbers."""
        listener = DeviceListener(buffer=buffer, known=device_family.family(device.bdf))
        return NetlinkDeviceBurstSource(device, firmware, listener)

    def listen(self, devices: Sequence[PciDevice]) -> tuple[str, ...]:
        """Return the mechanism and each device as options of ``python -m uapi listen``."""
        names = (word for device in devices for word in ("--device", device.bdf))
        return ("--mechanism", "netlink-device", *names)

    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Return a function that joins the group of the device whose descriptor is ``fd``.

        A process without CAP_NET_ADMIN is refused (REQ-ISO-43). For it, the function returns
        a socket that is in no group: the VMM receives nothing. ``family`` is not used. OSError
        (ENOENT) if the device has no family.
        """
        found = SYSPATH.search(Path(f"/proc/self/fdinfo/{fd}").read_text())
        assert found is not None, "the kernel does not tell which device it is"
        known = device_family.family(Path(found[1]).name)

        def join() -> Source:
            try:
                return DeviceListener(known=known)
            except PermissionError:
                return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, probe.NETLINK_GENERIC)

        return join

    def received(
        self, confined_process: ConfinedProcess, device: vfio.Device, since: int
    ) -> list[bytes]:
        """Wait until the confined process has emptied its socket.

        Returns the messages from index ``since`` on. ``device`` is not used.
        """
        confined_process.drain()
        return confined_process.messages(since)

    def heard(self, messages: list[bytes], bdf: str) -> list[Heard]:
        """Decode the messages, all of which are of the device ``bdf``."""
        return [Heard(bdf, MESSAGE.unpack(message)[0]) for message in messages]


RECORD = NetlinkDevice()
