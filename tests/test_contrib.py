# SPDX-License-Identifier: GPL-2.0-only
"""The sample for libvirt: its options are those of the relay, and the system's QEMU takes them."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.commandline import ROOT
from uapi.errors import OpenError
from uapi.vmm import stock_qemu
from uapi.vmm.guest_table import Access, Doorbell, GuestTable, Slot

FOLDER = ROOT / "contrib" / "libvirt"
DOMAIN = FOLDER / "relay.xml"
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
SECONDS = 20.0

XML = ElementTree.parse(DOMAIN).getroot()  # noqa: S314 (our own)
ARGUMENTS = [arg.attrib["value"] for arg in XML.iter(f"{QEMU}arg")]


def number(path: str, name: str) -> int:
    """Return the number in an attribute of an element of the domain."""
    element = XML.find(path)
    assert element is not None
    return int(element.attrib[name], 16)


def test_device_is_where_the_table_says() -> None:
    """QEMU's DSDT names a device by its slot and function: the byte of both, in hex."""
    address = "devices/hostdev/address"
    devfn = number(address, "slot") << 3 | number(address, "function")
    assert number(address, "bus") == 0
    readme = (FOLDER / "README.md").read_text()
    assert rf"--slot '\_SB.PCI0.S{devfn:02X}'" in readme
    source = "devices/hostdev/source/address"
    host = [number(source, name) for name in ("domain", "bus", "slot", "function")]
    assert "--slot 0={:04x}:{:02x}:{:02x}.{:x}".format(*host) in readme


def test_files_are_those_of_the_commands() -> None:
    readme = (FOLDER / "README.md").read_text()
    cmdline = XML.findtext("os/cmdline")
    assert cmdline is not None
    assert cmdline.endswith("memmap=64K$0x8000000")
    assert readme.count("--mailbox 0x8000000") == 2
    assert ARGUMENTS[1] == "file=/etc/vfio-acpi/relay.aml"
    assert "--output /etc/vfio-acpi/relay.aml" in readme
    assert ARGUMENTS[3] == "unix:/run/vfio-acpi/guest.qtest,server=on,wait=off"
    assert "--qtest /run/vfio-acpi/guest.qtest" in readme


def test_qemu_takes_the_options(tmp_path: Path) -> None:
    places = {"/etc/vfio-acpi": str(tmp_path), "/run/vfio-acpi": str(tmp_path)}
    slots = (Slot(r"\_SB.PCI0.S80"),)
    table = GuestTable(slots, 0x800_0000, Access.RING, Doorbell.GED, 7)
    (tmp_path / "relay.aml").write_bytes(table.aml())
    arguments = ARGUMENTS
    for path, place in places.items():
        arguments = [argument.replace(path, place) for argument in arguments]
    machine = ["-M", "q35", "-accel", "tcg", "-m", "256M", "-S", "-nodefaults", "-display", "none"]
    with subprocess.Popen(["qemu-system-x86_64", *machine, *arguments]) as qemu:
        try:
            end = time.monotonic() + SECONDS
            while True:
                try:
                    client = stock_qemu.connect(tmp_path / "guest.qtest")
                    break
                except OpenError:
                    assert qemu.poll() is None and time.monotonic() < end
                    time.sleep(0.05)
            client.write(0x800_0000, b"\x01\x02\x03\x04")
            assert client.read32(0x800_0000) == 0x04030201
        finally:
            qemu.kill()


def test_libvirt_s_schema_accepts_it() -> None:
    xmllint = shutil.which("xmllint")
    if xmllint is None or not SCHEMA.is_file():
        pytest.skip("xmllint or libvirt is not installed: the domain was NOT checked by its schema")
    checked = subprocess.run(
        [xmllint, "--noout", "--relaxng", SCHEMA, DOMAIN],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
