# SPDX-License-Identifier: GPL-2.0-only
"""Format: the bytes that user space reads for a notification, and the values that arrive.

The expected bytes are literals here on purpose: a test that took them from the library under test
could not find an error of the library.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import Counter
from collections.abc import Callable

import pytest

from ktests import libc
from ktests.acpi import Firmware
from ktests.conftest import OpenEventfdVmm, OpenVmm, Watch
from ktests.mechanism import Mechanism
from ktests.ordered_notify import one_by_one
from ktests.pci import PciDevice
from uapi import probe
from uapi.eventfd import EventFd

Bind = Callable[[str], PciDevice]

VALUES = (0x80, 0x81, 0xBF, 0xC0, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xFF)
WIDE_VALUES = (0x100, 0x181, 0x1FF, 0xFFFF)

VALID = 1 << 32
LOOPBACK = VALID | 1 << 33
WAIT_SECONDS = 10.0


def hexadecimal(value: int) -> str:
    """Return the value in hexadecimal ("0x80"), as the name of a test case."""
    return f"{value:#x}"


def read(eventfd: EventFd, room: int = 8) -> bytes:
    """Wait until the eventfd is readable, then read at most ``room`` bytes and return them.

    AssertionError if it is not readable within `WAIT_SECONDS`; OSError if read(2) fails.
    """
    assert eventfd.wakes_up(WAIT_SECONDS), "nothing to read"
    return os.read(eventfd.fileno(), room)


def word(number: int) -> bytes:
    """Return the number as 8 bytes in the CPU's byte order."""
    return struct.pack("=Q", number)


# ---- netlink: the message ------------------------------------------------------------------------


@pytest.mark.requirement("REQ-EVT-01")
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_headers(bind: Bind, firmware: Firmware, watch: Watch, name: str) -> None:
    firmware.notify(bind(name).method, 0x81)
    [got] = watch.received()
    assert len(got.raw) == 68
    length, family, flags, _, port = struct.unpack_from("=IHHII", got.raw, 0)
    assert (length, family, flags, port) == (68, probe.family().id, 0, 0)
    assert got.raw[16:20] == bytes([1, 1, 0, 0]), "command, version, reserved"
    assert struct.unpack_from("=HH", got.raw, 20) == (48, 1), "length and type of the attribute"


@pytest.mark.requirement("REQ-EVT-02")
@pytest.mark.parametrize("name", ["alpha", "beta"])
@pytest.mark.parametrize("value", [0x80, 0xD1, 0xFF], ids=hexadecimal)
def test_payload(bind: Bind, firmware: Firmware, watch: Watch, name: str, value: int) -> None:
    device = bind(name)
    firmware.notify(device.method, value)
    [got] = watch.received()
    assert got.raw[24:44] == b"vfio_pci".ljust(20, b"\0")
    assert got.raw[44:60] == device.bdf.encode().ljust(16, b"\0")
    assert got.raw[60:68] == struct.pack("=II", value, 0)


# Since v6.8 Linux runs the handlers of a burst on several CPUs at once, so that two of them could
# take the same number.
@pytest.mark.requirement("REQ-EVT-03")
@pytest.mark.parametrize("count", [16, 512])
def test_sequence(bind: Bind, firmware: Firmware, watch: Watch, count: int) -> None:
    device = bind("alpha")
    firmware.notify(device.method, 0x80, count=count)
    numbers = [event.sequence for event in watch.events()]
    assert sorted(numbers) == list(range(min(numbers), min(numbers) + count))


# A mechanism may take the notifications of one device one after another.
@pytest.mark.requirement("REQ-EVT-03")
def test_sequence_of_two_devices(bind: Bind, firmware: Firmware, watch: Watch) -> None:
    devices, count = {bind(name).bdf for name in ("alpha", "beta")}, 512
    firmware.notify_in_turn(0x80, count)
    events = watch.events()
    assert Counter(event.bus_id for event in events) == dict.fromkeys(devices, count)
    numbers = [event.sequence for event in events]
    assert sorted(numbers) == list(range(min(numbers), min(numbers) + 2 * count))


# ---- eventfd: the word ---------------------------------------------------------------------------


@pytest.mark.requirement("REQ-EVT-04")
@pytest.mark.parametrize("name", ["alpha", "beta"])
@pytest.mark.parametrize("value", [0x80, 0xD1, 0xFF, 0x181, 0xFFFF], ids=hexadecimal)
def test_word(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, name: str, value: int) -> None:
    vmm = eventfd_vmm(name)
    firmware.notify(vmm.device.method, value)
    assert read(vmm.eventfd) == word(VALID | value)
    assert vmm.read_all() == [], "and nothing else"


@pytest.mark.requirement("REQ-EVT-04")
def test_word_and_no_more(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    vmm = eventfd_vmm("alpha")
    firmware.notify(vmm.device.method, 0xD3, count=2)
    got = [read(vmm.eventfd, room=64) for _ in range(2)]
    assert got == [word(VALID | 0xD3)] * 2


@pytest.mark.requirement("REQ-EVT-05")
def test_loopback(eventfd_vmm: OpenEventfdVmm) -> None:
    vmm = eventfd_vmm("alpha")
    vmm.vfio.loopback()
    assert vmm.eventfd.read() == LOOPBACK, "readable when the ioctl is done"
    assert vmm.eventfd.read() is None


@pytest.mark.requirement("REQ-EVT-05")
@pytest.mark.parametrize("value", [1, 0x80, 0xFF], ids=hexadecimal)
def test_loopback_by_bool(eventfd_vmm: OpenEventfdVmm, value: int) -> None:
    vmm = eventfd_vmm("alpha")
    vmm.vfio.loopback_bool(0)
    assert vmm.eventfd.read() is None, "0 fires nothing"
    vmm.vfio.loopback_bool(value)
    assert read(vmm.eventfd) == word(LOOPBACK)


@pytest.mark.requirement("REQ-EVT-05")
def test_loopback_between(eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    vmm = eventfd_vmm("alpha")
    firmware.notify(vmm.device.method, 0x91)
    assert vmm.eventfd.wakes_up(WAIT_SECONDS)
    vmm.vfio.loopback()
    got = [read(vmm.eventfd) for _ in range(2)]
    assert got == [word(VALID | 0x91), word(LOOPBACK)], "not added up"


@pytest.mark.requirement("REQ-EVT-06")
@pytest.mark.parametrize("room", [0, 1, 4, 7])
def test_short_read(eventfd_vmm: OpenEventfdVmm, firmware: Firmware, room: int) -> None:
    vmm = eventfd_vmm("alpha")
    firmware.notify(vmm.device.method, 0x82)
    with pytest.raises(OSError) as caught:
        read(vmm.eventfd, room)
    assert caught.value.errno == errno.EINVAL
    assert read(vmm.eventfd) == word(VALID | 0x82)


# ---- all mechanisms: the values, and the device --------------------------------------------------


@pytest.mark.requirement("REQ-EVT-07")
@pytest.mark.parametrize("value", VALUES, ids=hexadecimal)
def test_value(vmm: OpenVmm, firmware: Firmware, value: int) -> None:
    alpha = vmm("alpha")
    firmware.notify(alpha.device.method, value)
    assert alpha.values() == [value]


@pytest.mark.requirement("REQ-EVT-08")
@pytest.mark.parametrize("value", WIDE_VALUES, ids=hexadecimal)
def test_wide_value(vmm: OpenVmm, firmware: Firmware, value: int) -> None:
    alpha = vmm("alpha")
    firmware.notify(alpha.device.method, value)
    assert alpha.values() == [value]


# ACPICA selects the handler by the whole value and passes only the low 16 bits to it, so that a
# handler for device notifications receives 0x10000 as 0. Each case sends 0x10000 and another value:
# 0x10000 alone would not distinguish truncation to 16 bits from truncation to 8.
@pytest.mark.requirement("REQ-EVT-09")
@pytest.mark.parametrize("value", [0x10181, 0xABCDEF, 0x8000_D1D2, 0xFFFF_FFFF], ids=hexadecimal)
def test_value_of_32_bits(vmm: OpenVmm, firmware: Firmware, value: int) -> None:
    alpha = vmm("alpha")
    firmware.notify(alpha.device.method, value)
    firmware.notify(alpha.device.method, 0x10000)
    assert Counter(alpha.values()) == Counter([value & 0xFFFF, 0])


@pytest.mark.requirement("REQ-EVT-10")
@pytest.mark.parametrize("value", [*WIDE_VALUES, 0x10000, 0x10181], ids=hexadecimal)
def test_truncation(bind: Bind, firmware: Firmware, watch: Watch, value: int) -> None:
    device = bind("alpha")
    firmware.notify(device.method, value)
    assert watch.vfio() == [(device.bdf, value & 0xFF)]


@pytest.mark.requirement("REQ-EVT-11")
@pytest.mark.parametrize("value", [0x02, 0x40, 0x7F], ids=hexadecimal)
def test_system_value(mechanism: Mechanism, vmm: OpenVmm, firmware: Firmware, value: int) -> None:
    alpha = vmm("alpha")
    firmware.notify(alpha.device.method, value)
    firmware.notify(alpha.device.method, 0x80)
    assert alpha.values() == mechanism.seen([0x80])


# An address at which no process has memory.
NOWHERE = 8


@pytest.mark.requirement("REQ-EVT-16")
def test_bad_buffer(vmm: OpenVmm, firmware: Firmware) -> None:
    alpha = vmm("alpha")
    one_by_one(firmware, alpha.device, [0x81, 0x82])
    os.set_blocking(alpha.fileno(), False)
    with pytest.raises(OSError) as caught:
        libc.read(alpha.fileno(), NOWHERE, 4096)
    assert caught.value.errno == errno.EFAULT
    assert alpha.values() == [0x81, 0x82]


@pytest.mark.requirement("REQ-EVT-12")
@pytest.mark.parametrize("name", ["alpha", "beta", "carrier"])
def test_identity(mechanism: Mechanism, vmm: OpenVmm, firmware: Firmware, name: str) -> None:
    all_of_them = {each: vmm(each) for each in ("alpha", "beta", "carrier")}
    firmware.notify(all_of_them[name].device.method, 0xC0)
    got = {each: owner.values() for each, owner in all_of_them.items()}
    assert got == {"alpha": [], "beta": [], "carrier": []} | {name: mechanism.seen([0xC0])}
