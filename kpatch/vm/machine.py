# SPDX-License-Identifier: GPL-2.0-only
"""Describe the test machine: QEMU options, firmware (ASL), and facts for the tests.

All three are made from one table, ``ktests/machine.toml``.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpatch.errors import HarnessError
from kpatch.lib import cache, process, template
from kpatch.lib.stage import Stage
from kpatch.tables.outcomes import ExitCode
from kpatch.tables.paths import KTESTS

TABLE = KTESTS / "machine.toml"
TEMPLATE = KTESTS / "firmware" / "ssdt.asl.j2"


@dataclass(frozen=True)
class Island:
    """An extra PCI root bus (pxb-pcie) with one port.

    QEMU's DSDT describes the bus, but no device on it.
    """

    name: str
    slot: int
    bus: int

    @property
    def inner(self) -> int:
        """Return the number of the bus behind the port, as firmware assigns it."""
        return self.bus + 1

    @property
    def options(self) -> tuple[str, ...]:
        """Return the values of the QEMU options ``-device`` for the bus and its port."""
        return (
            f"pxb-pcie,id={self.name}-root,bus=pcie.0,addr={self.slot:#x},bus_nr={self.bus:#x}",
            # No test plugs a device into it: without hot-plug the kernel has less to set up.
            f"pcie-root-port,id={self.name},bus={self.name}-root,addr=0,chassis=2,slot=2,hotplug=off",
        )


@dataclass(frozen=True)
class MachineDevice:
    """One PCI function, on the root bus or behind the port of the island.

    ``described`` tells whether QEMU's DSDT has an object for it: True, False, or "varies" (with
    QEMU's version). The test firmware notifies the devices with True.
    """

    name: str
    model: str
    slot: int
    function: int = 0
    multifunction: bool = False
    island: Island | None = None
    described: bool | str = True

    @property
    def devfn(self) -> int:
        """Return slot (bits 7:3) and function (bits 2:0) in one byte, as PCI_DEVFN does."""
        return self.slot << 3 | self.function

    @property
    def bdf(self) -> str:
        """Return the PCI address in the form of sysfs, "0000:01:00.0"."""
        bus = self.island.inner if self.island else 0
        return f"0000:{bus:02x}:{self.slot:02x}.{self.function}"

    @property
    def path(self) -> str:
        """Return the ACPI path of the device in QEMU's DSDT, "" if not every QEMU has one."""
        return f"\\_SB.PCI0.S{self.devfn:02X}" if self.described is True else ""

    @property
    def method(self) -> str:
        """Return the name of the test firmware's control method that notifies the device."""
        return f"N{self.devfn:03X}"

    @property
    def option(self) -> str:
        """Return the value of QEMU's ``-device`` option."""
        bus = self.island.name if self.island else "pcie.0"
        more = ",multifunction=on" if self.multifunction else ""
        return f"{self.model},id={self.name},bus={bus},addr={self.slot:#x}.{self.function}{more}"


@dataclass(frozen=True)
class Port:
    """An empty hot-plug port; ``model`` is the device model that the tests plug into it."""

    name: str
    slot: int
    model: str

    @property
    def bdf(self) -> str:
        """Return the port's own PCI address in the form of sysfs."""
        return f"0000:00:{self.slot:02x}.0"

    @property
    def path(self) -> str:
        """Return the ACPI path that QEMU's DSDT has for a device in this port."""
        return f"\\_SB.PCI0.S{self.slot << 3:02X}.S00"

    @property
    def option(self) -> str:
        """Return the value of QEMU's ``-device`` option."""
        return f"pcie-root-port,id={self.name},bus=pcie.0,addr={self.slot:#x},chassis=1,slot=1"


@dataclass(frozen=True)
class Unrelated:
    """An ACPI device that the test firmware adds (AC adapter, lid); no VMM owns its events.

    ``state`` is the method from which its driver reads the device's state; it returns 1.
    """

    name: str
    acpi_name: str
    hid: str
    uid: int
    state: str

    @property
    def path(self) -> str:
        """Return the ACPI path of the device in the test firmware."""
        return f"\\_SB.{self.acpi_name}"

    @property
    def method(self) -> str:
        """Return the name of the test firmware's control method that notifies the device."""
        return f"N{self.acpi_name[:3]}"


@dataclass(frozen=True)
class Machine:
    """The content of ktests/machine.toml."""

    devices: tuple[MachineDevice, ...]
    port: Port
    island: Island
    unrelated: tuple[Unrelated, ...]

    @property
    def sources(self) -> tuple[MachineDevice, ...]:
        """Return the devices that the firmware notifies: those that every QEMU's DSDT describes."""
        return tuple(device for device in self.devices if device.path)

    def options(self) -> list[str]:
        """Return QEMU's arguments for the machine, without the option for the firmware's table."""
        devices = [device.option for device in self.devices]
        options = [*self.island.options, *devices, self.port.option]
        return [
            "-machine",
            "kernel-irqchip=split",
            "-device",
            "intel-iommu,intremap=on",
            *(part for option in options for part in ("-device", option)),
        ]

    def facts(self) -> dict[str, Any]:
        """Return the facts for the tests as JSON data: addresses, ACPI paths, and methods.

        An empty path means that some QEMU versions do not describe the device; ``bare`` means that
        no version does.
        """
        return {
            "devices": {
                device.name: {
                    "bdf": device.bdf,
                    "path": device.path,
                    "method": device.method if device.path else "",
                    "bare": device.described is False,
                }
                for device in self.devices
            },
            "port": {"bdf": self.port.bdf, "path": self.port.path},
            "unrelated": {
                device.name: {"path": device.path, "method": device.method}
                for device in self.unrelated
            },
        }


def load(table: Path = TABLE) -> Machine:
    """Read the table; TypeError if it has an unknown key."""
    data = tomllib.loads(table.read_text())
    island = Island(**data["island"])
    return Machine(
        devices=tuple(
            MachineDevice(**row | {"island": island if row.get("island") else None})
            for row in data["device"]
        ),
        port=Port(**data["port"]),
        island=island,
        unrelated=tuple(Unrelated(**row) for row in data["unrelated"]),
    )


def asl(machine: Machine) -> str:
    """Return the source of the test firmware, in ASL."""
    sources, unrelated = list(machine.sources), list(machine.unrelated)
    return template.render(TEMPLATE, sources=sources, unrelated=unrelated)


def aml(machine: Machine, *, stage: Stage) -> Path:
    """Return the path of the compiled test firmware (AML); compile it with iasl if not cached.

    HarnessError: exit 7 if iasl fails, exit 2 if it is not installed.
    """
    key = cache.digest([TEMPLATE.read_text(), repr(machine)])

    def fill(folder: Path) -> None:
        source = folder / "ssdt.asl"
        source.write_text(asl(machine))
        argv = [
            process.require_tool("iasl", package="acpica-tools"),
            "-we",
            "-p",
            "ssdt",
            source.name,
        ]
        stage.command(argv, cwd=folder)
        status, output = process.capture(argv, cwd=folder)
        if status != 0:
            raise HarnessError(
                str(TEMPLATE),
                "iasl does not compile the test firmware",
                hint="see its messages above",
                code=ExitCode.LOST,
                details=output,
            )

    folder, _ = cache.entry("firmware", key, fill)
    return folder / "ssdt.aml"
