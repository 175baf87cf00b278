# SPDX-License-Identifier: GPL-2.0-only
"""Which mechanism the running kernel has, by what a VMM can see of it.

A table holds one sign for each mechanism: a look at the machine, and the text that the look
returns if the kernel has the mechanism. The looks are ordered by how much they touch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ktests.acpi import Firmware, Unrelated
from ktests.contract import UNDETECTED, UNKNOWN
from ktests.debugger import Debugger
from ktests.pci import Device
from uapi import acpi_event, probe, vfio
from uapi.errors import UapiError
from uapi.eventfd import EventFd

# A loopback is readable at once; emulation may be slow.
LOOPBACK_SECONDS = 5.0

# What firmware sends to tell a driver to look at its device; device-specific, above 0x7f.
VALUE = 0x81


@dataclass(frozen=True)
class Detection:
    """The mechanism of the kernel: one of the table, or `UNDETECTED`, or `UNKNOWN`; and why."""

    mechanism: str
    how: str


@dataclass(frozen=True)
class Site:
    """What is looked at: a device with a companion, bound to vfio-pci, and the firmware."""

    device: Device
    firmware: Callable[[], Firmware]


@dataclass(frozen=True)
class Sign:
    """How a mechanism shows: ``look`` returns ``text`` if the kernel has it, "" if it has not.

    Anything else that ``look`` returns describes a uAPI that is not this mechanism's.
    """

    mechanism: str
    look: Callable[[Site], str]
    text: str
    absent: str


def look_at_index(site: Site) -> str:
    """Describe VFIO_PCI_ACPI_IRQ_INDEX (5): GET_IRQ_INFO, and the word that a loopback gives."""
    with vfio.Device.open(site.device.bdf) as device, EventFd() as eventfd:
        if device.info().num_irqs <= vfio.ACPI:
            return ""
        info = device.irq_info(vfio.ACPI)
        if info.count == 0:  # not implemented, by include/uapi/linux/vfio.h
            return ""
        seen = f"index {vfio.ACPI} has flags {info.flags:#x} and count {info.count}"
        try:
            device.arm(eventfd)
            device.loopback()
        except UapiError as error:
            return f"{seen}, and refuses an eventfd: {error}"
        if not eventfd.wait(LOOPBACK_SECONDS):
            return f"{seen}, and its loopback gives nothing"
        return f"{seen}, and its loopback reads {eventfd.read():#x}"


def look_at_family(site: Site) -> str:
    """Describe the event that a Notify of the device causes in the acpi_event family."""
    firmware = site.firmware()
    with probe.Listener() as listener:
        firmware.notify(site.device.method, VALUE)
        firmware.settle()
        events = [it.event for it in listener.pending() if isinstance(it, probe.Received)]
    mine = [event for event in events if event.bus_id == site.device.bdf]
    return "; ".join(
        f"acpi_event has class {event.device_class} and type {event.type:#x}" for event in mine
    )


SIGNS = (
    Sign(
        "eventfd",
        look_at_index,
        "index 5 has flags 0x9 and count 1, and its loopback reads 0x300000000",
        "index 5 is not there",
    ),
    Sign(
        "netlink",
        look_at_family,
        f"acpi_event has class {acpi_event.VFIO_CLASS} and type {VALUE:#x}",
        f"a Notify of {VALUE:#x} causes no event of the device",
    ),
)


def detect(site: Site, declared: str, signs: Sequence[Sign] = SIGNS) -> Detection:
    """Look for the signs of all mechanisms.

    If a mechanism is ``declared`` (else `UNDETECTED`), stop as soon as nothing can contradict it:
    a look may be what a broken kernel crashes at, and tests tell more of a crash.
    """
    seen: dict[str, str] = {}
    for number, sign in enumerate(signs):
        if declared != UNDETECTED and _settled(declared, seen, signs[:number], signs[number:]):
            break
        try:
            seen[sign.mechanism] = sign.look(site)
        except (OSError, RuntimeError) as error:  # of a device that a series has broken, say
            seen[sign.mechanism] = f"the look for {sign.mechanism} fails: {error}"
    return conclude(seen, signs)


def conclude(seen: Mapping[str, str], signs: Sequence[Sign] = SIGNS) -> Detection:
    """Return the mechanism that the looks of some signs amount to. Does no I/O."""
    looked = [sign for sign in signs if sign.mechanism in seen]
    found = [sign for sign in looked if seen[sign.mechanism]]
    if not found:
        return Detection(UNDETECTED, "; ".join(sign.absent for sign in looked))
    how = "; ".join(seen[sign.mechanism] for sign in found)
    if len(found) == 1 and seen[found[0].mechanism] == found[0].text:
        return Detection(found[0].mechanism, how)
    return Detection(UNKNOWN, how)


def _settled(
    declared: str, seen: Mapping[str, str], done: Sequence[Sign], left: Sequence[Sign]
) -> bool:
    """Return whether no further look can show another mechanism in the place of ``declared``."""
    shown = {sign.mechanism for sign in done if seen[sign.mechanism] == sign.text}
    return declared in shown or (not shown and {sign.mechanism for sign in left} <= {declared})


@contextmanager
def site(machine: Mapping[str, Any]) -> Iterator[Site]:
    """Bind a device that has a companion, for the length of the block; see ktests/machine.toml."""
    name, facts = next(item for item in machine["devices"].items() if item[1]["path"])
    device = Device(name, **facts)
    device.bind()
    opened: list[Debugger] = []

    def firmware() -> Firmware:
        opened.append(Debugger())
        return Firmware(opened[-1], Unrelated(**machine["unrelated"]["fence"]))

    try:
        yield Site(device, firmware)
    finally:
        for debugger in opened:
            debugger.close()
        device.unbind()
