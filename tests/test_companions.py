# SPDX-License-Identifier: GPL-2.0-only
"""The companion of a device, found by the firmware's addresses, on a simulated sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ktests import acpi, conftest, pci
from ktests.pci import PciDevice

ROOT = r"\_SB_.PCI0"


class Sysfs:
    """Folders as in /sys: PCI devices, ACPI devices, and the links between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pci" / "devices").mkdir(parents=True)
        (folder / "acpi").mkdir()
        self.host = self._device("pci0000:00")
        self.link(self.host, self.acpi(ROOT))

    def _device(self, name: str, above: Path | None = None) -> Path:
        made = (above or self.folder / "devices") / name
        made.mkdir(parents=True)
        return made

    def acpi(self, path: str, address: int | None = None) -> Path:
        """Make the folder of an ACPI device."""
        made = self.folder / "acpi" / path.replace("\\", "")
        made.mkdir()
        (made / "path").write_text(f"{path}\n")
        if address is not None:
            (made / "adr").write_text(f"{address:#018x}\n")
        return made

    def pci(self, bdf: str, above: Path | None = None) -> Path:
        """Make a PCI device below a bridge, by default below the host bridge."""
        made = self._device(bdf, above or self.host)
        (self.folder / "pci" / "devices" / bdf).symlink_to(made)
        return made

    @staticmethod
    def link(device: Path, companion: Path) -> None:
        """Make the kernel's link to the companion."""
        (device / "firmware_node").symlink_to(companion)


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysfs:
    monkeypatch.setattr(pci, "BUS", tmp_path / "pci")
    monkeypatch.setattr(acpi, "BUS", tmp_path / "acpi")
    return Sysfs(tmp_path)


def device(bdf: str, path: str = "", *, bare: bool = False) -> PciDevice:
    return PciDevice("it", bdf, path, method="", bare=bare)


@pytest.mark.parametrize(
    ("bdf", "expected"),
    [
        ("0000:00:10.0", r"\_SB.PCI0.S80"),
        ("0000:00:12.0", r"\_SB.PCI0.S90"),
        ("0000:00:12.1", r"\_SB.PCI0.S91"),
        ("0000:00:12.2", ""),
        ("0000:00:00.0", ""),
    ],
)
def test_address_on_the_root_bus(sysfs: Sysfs, bdf: str, expected: str) -> None:
    for name, address in (("S80", 0x100000), ("S90", 0x120000), ("S91", 0x120001)):
        sysfs.acpi(rf"{ROOT}.{name}_", address)
    sysfs.acpi(rf"{ROOT}.S80_.S00_", 0)  # the companion of a device behind a port
    sysfs.pci(bdf)
    assert acpi.described(device(bdf)) == expected


def test_same_address_on_other_buses(sysfs: Sysfs) -> None:
    port = sysfs.pci("0000:00:13.0")
    sysfs.link(port, sysfs.acpi(rf"{ROOT}.S98_", 0x130000))
    sysfs.pci("0000:01:00.0", port)
    island = sysfs.pci("0000:40:00.0")  # a bridge that firmware does not describe
    sysfs.pci("0000:41:00.0", island)
    sysfs.acpi(rf"{ROOT}.S00_", 0)
    sysfs.acpi(rf"{ROOT}.S98_.S00_", 0)
    assert acpi.described(device("0000:01:00.0")) == r"\_SB.PCI0.S98.S00"
    assert acpi.described(device("0000:41:00.0")) == ""


def test_machine_as_its_table_says(sysfs: Sysfs) -> None:
    sysfs.link(sysfs.pci("0000:00:10.0"), sysfs.acpi(rf"{ROOT}.S80_", 0x100000))
    sysfs.pci("0000:00:11.0")
    conftest.check_description(device("0000:00:10.0", r"\_SB.PCI0.S80"))
    conftest.check_description(device("0000:00:11.0", bare=True))


def test_machine_that_differs(sysfs: Sysfs) -> None:
    sysfs.link(sysfs.pci("0000:00:10.0"), sysfs.acpi(rf"{ROOT}.X80_", 0x100000))
    sysfs.pci("0000:00:11.0")
    with pytest.raises(RuntimeError, match=r"QEMU describes it .* as \\_SB.PCI0.X80, and .*S80"):
        conftest.check_description(device("0000:00:10.0", r"\_SB.PCI0.S80"))
    with pytest.raises(RuntimeError, match=r"as \\_SB.PCI0.X80, and .* says nothing"):
        conftest.check_description(device("0000:00:10.0", bare=True))
    with pytest.raises(RuntimeError, match=r"as nothing, and .* says \\_SB.PCI0.S88"):
        conftest.check_description(device("0000:00:11.0", r"\_SB.PCI0.S88"))
    conftest.check_description(device("0000:00:10.0"))  # its companion varies; both ways are right


def test_kernel_that_differs_is_for_the_tests(sysfs: Sysfs) -> None:
    """If the kernel lost a companion or gave it to another device, the machine is not at fault."""
    sysfs.pci("0000:00:10.0")
    described = sysfs.acpi(rf"{ROOT}.S80_", 0x100000)
    conftest.check_description(device("0000:00:10.0", r"\_SB.PCI0.S80"))
    sysfs.link(sysfs.pci("0000:00:11.0"), described)
    conftest.check_description(device("0000:00:11.0", bare=True))
