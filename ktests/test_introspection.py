# SPDX-License-Identifier: GPL-2.0-only
"""Introspection: the queries by which a VMM learns about the mechanism before it registers.

The expected flags and counts are literals here, not constants of the library under test.
"""

from __future__ import annotations

import errno
import fcntl
import struct
from collections.abc import Callable

import pytest

from ktests import bad_input, release
from ktests.acpi import Firmware, described, short
from ktests.conftest import OpenEventfdVmm
from ktests.pci import PciDevice
from uapi import probe, vfio
from uapi.errors import UapiError

Bind = Callable[[str], PciDevice]

GET_INFO = 0x3B6B
GET_IRQ_INFO = 0x3B6D

INTX, MSI, MSIX, ERR, REQ, ACPI = range(6)
# Values of the member flags of struct vfio_irq_info. Each includes EVENTFD (1).
MASKABLE_AUTOMASKED = 7
NORESIZE = 9
RESIZE = 1

# The number of a VFIO_DEVICE_FEATURE that every base has for devices with power management.
LOW_POWER_ENTRY = 3

GUARD = b"\xa5"
ROOM = 256  # size in bytes of the buffer for an ioctl, larger than each of the structures

# The size in bytes of each ioctl's structure in Linux `release.NEWEST`. A newer kernel may have
# further members.
LARGEST = {GET_INFO: 24, GET_IRQ_INFO: 16} if release.known() else {}


def answer(device: vfio.Device, index: int) -> tuple[int, int] | str:
    """Call VFIO_DEVICE_GET_IRQ_INFO. Returns flags and count of the index, or the errno's name."""
    try:
        info = device.irq_info(index)
    except UapiError as error:
        return errno.errorcode[error.errno or 0]
    return info.flags, info.count


# ---- the family, and companions ------------------------------------------------------------------


@pytest.mark.requirement("REQ-INT-01")
def test_family() -> None:
    family = probe.family()
    assert family.version == 1
    assert "acpi_mc_group" in family.groups


@pytest.mark.requirement("REQ-INT-02")
@pytest.mark.parametrize("name", ["alpha", "beta", "carrier", "second", "bare", "express"])
def test_companion(devices: dict[str, PciDevice], name: str) -> None:
    companion = devices[name].companion
    assert (short(companion) if companion else "") == described(devices[name])


# ---- the ACPI index of the device's descriptor ---------------------------------------------------


@pytest.mark.requirement("REQ-INT-03")
@pytest.mark.parametrize("name", ["alpha", "bare"])
def test_num_irqs(bind: Bind, name: str) -> None:
    with vfio.Device.open(bind(name).bdf) as device:
        assert answer(device, ACPI) != "EINVAL"
        assert device.info().num_irqs > ACPI


@pytest.mark.requirement("REQ-INT-04")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alpha", (NORESIZE, 1)),
        ("beta", (NORESIZE, 1)),
        ("carrier", (NORESIZE, 1)),
        ("bare", (0, 0)),
    ],
    ids=["alpha", "beta", "carrier", "bare"],
)
def test_irq_info(bind: Bind, name: str, expected: tuple[int, int]) -> None:
    with vfio.Device.open(bind(name).bdf) as device:
        assert answer(device, ACPI) == expected


# QEMU's version decides whether the second function has a companion. The answer has to match.
@pytest.mark.requirement("REQ-INT-04")
def test_irq_info_of_second_function(bind: Bind) -> None:
    device = bind("second")
    with vfio.Device.open(device.bdf) as opened:
        assert answer(opened, ACPI) == ((NORESIZE, 1) if described(device) else (0, 0))


def open_methods(device: PciDevice) -> tuple[str, ...]:
    """Return the methods that can open the device: "cdev" and "group", or "group" alone.

    AssertionError if these are not the methods that the running kernel's release has to offer.
    """
    names = vfio.open_methods(device.bdf)
    # Since v6.6 a device has a character device of its own.
    assert set(names) == ({"cdev", "group"} if release.running() >= (6, 6) else {"group"})
    return names


@pytest.mark.requirement("REQ-INT-05")
@pytest.mark.parametrize(
    ("name", "expected"), [("beta", (NORESIZE, 1)), ("bare", (0, 0))], ids=["beta", "bare"]
)
def test_open_methods_agree(bind: Bind, name: str, expected: tuple[int, int]) -> None:
    device = bind(name)
    answers = {}
    for open_method in open_methods(device):
        with vfio.Device.open(device.bdf, open_method) as opened:
            answers[open_method] = (opened.info(), *(answer(opened, index) for index in range(7)))
    first = next(iter(answers.values()))
    assert answers == dict.fromkeys(answers, first)
    assert first[1 + ACPI] == expected


@pytest.mark.requirement("REQ-INT-05")
def test_open_methods_deliver(bind: Bind, eventfd_vmm: OpenEventfdVmm, firmware: Firmware) -> None:
    for open_method in open_methods(bind("beta")):
        vmm = eventfd_vmm("beta", open_method=open_method)
        assert vmm.vfio.open_method == open_method
        firmware.notify(vmm.device.method, 0x93)
        assert vmm.values() == [0x93], open_method
        vmm.close()


# ---- argsz ---------------------------------------------------------------------------------------


def ask(device: vfio.Device, request: int, fields: bytes, size: int) -> bytes:
    """Call the ioctl ``request``. Returns the first 16 bytes of its structure after the call.

    ``fields`` are the first bytes of the structure before the call: argsz and any members after it.
    The rest of the buffer is filled with `GUARD`. AssertionError if the kernel has written beyond
    the first ``size`` bytes, or beyond the structure where its size is known (`LARGEST`), or has
    changed argsz.
    """
    size = min(size, LARGEST.get(request, ROOM))
    buffer = bytearray(fields.ljust(ROOM, GUARD))
    fcntl.ioctl(device.fileno(), request, buffer)
    assert buffer[size:] == GUARD * (ROOM - size)
    assert buffer[:4] == fields[:4], "argsz is left alone where nothing wants more"
    return bytes(buffer[:16])


# struct vfio_device_info has 20 bytes in v6.1 and 24 later. The kernel accepts argsz from 16 on.
@pytest.mark.requirement("REQ-INT-06")
@pytest.mark.parametrize("argsz", [17, 20, 21, 24, 25, 128, 4096, 0xFFFF_FFFF])
def test_info_argsz(bind: Bind, argsz: int) -> None:
    with vfio.Device.open(bind("alpha").bdf) as device:
        least = ask(device, GET_INFO, struct.pack("=I", 16), 16)
        got = ask(device, GET_INFO, struct.pack("=I", argsz), argsz)
    assert got[4:] == least[4:]


@pytest.mark.requirement("REQ-INT-06")
@pytest.mark.parametrize("argsz", [17, 20, 32, 128, 4096, 0xFFFF_FFFF])
def test_irq_info_argsz(bind: Bind, argsz: int) -> None:
    with vfio.Device.open(bind("alpha").bdf) as device:
        offered = [n for n in range(device.info().num_irqs) if answer(device, n) != "EINVAL"]
        assert {INTX, MSI, MSIX, REQ} <= set(offered)
        for index in offered:
            least = ask(device, GET_IRQ_INFO, struct.pack("=III", 16, 0, index), 16)
            got = ask(device, GET_IRQ_INFO, struct.pack("=III", argsz, 0, index), argsz)
            assert got[4:] == least[4:], index


# ---- the other indices, and features -------------------------------------------------------------


@pytest.mark.requirement("REQ-INT-07")
@pytest.mark.parametrize("name", ["alpha", "bare"])
def test_index_beyond(bind: Bind, name: str) -> None:
    with vfio.Device.open(bind(name).bdf) as device:
        first = device.info().num_irqs
        beyond = [first, first + 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]
        assert {answer(device, index) for index in beyond} == {"EINVAL"}
        for index in beyond:
            with pytest.raises(UapiError) as caught:
                device.disarm(index)
            assert caught.value.errno == errno.EINVAL, index


@pytest.mark.requirement("REQ-INT-07")
def test_feature(bind: Bind) -> None:
    with vfio.Device.open(bind("alpha").bdf) as device:
        assert device.has_feature(LOW_POWER_ENTRY), "probing tells something"
        for number in (100, 0x7FFF, 0xFFFF):
            with pytest.raises(UapiError) as caught:
                device.feature(1 << 18 | number)
            assert caught.value.errno == errno.ENOTTY, number
            assert not device.has_feature(number)


# QEMU's edu device has an interrupt pin, one MSI vector and no MSI-X. It is no PCI Express device.
@pytest.mark.requirement("REQ-INT-08")
@pytest.mark.parametrize("name", ["alpha", "bare"])
def test_other_indices(bind: Bind, name: str) -> None:
    with vfio.Device.open(bind(name).bdf) as device:
        got = {index: answer(device, index) for index in (INTX, MSI, MSIX, ERR, REQ)}
    assert got == {
        INTX: (MASKABLE_AUTOMASKED, 1),
        MSI: (NORESIZE, 1),
        MSIX: (NORESIZE, 0),
        ERR: "EINVAL" if bad_input.ERR_NEEDS_EXPRESS else (NORESIZE, 1),
        REQ: (NORESIZE, 1),
    }


# QEMU's xHCI has an interrupt pin and 16 MSI-X vectors. Since v6.5 vfio-pci can add MSI-X vectors
# one by one.
@pytest.mark.requirement("REQ-INT-08")
def test_other_indices_of_express(bind: Bind) -> None:
    with vfio.Device.open(bind("express").bdf) as device:
        got = {index: answer(device, index) for index in (INTX, MSI, MSIX, ERR, REQ)}
    assert got == {
        INTX: (MASKABLE_AUTOMASKED, 1),
        MSI: (NORESIZE, 0),
        MSIX: (RESIZE if release.running() >= (6, 5) else NORESIZE, 16),
        ERR: (NORESIZE, 1),
        REQ: (NORESIZE, 1),
    }
