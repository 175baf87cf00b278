# SPDX-License-Identifier: GPL-2.0-only
"""The test machine: its devices as QEMU options, as firmware, and as facts for the tests.

All three come from one table, ``ktests/machine.toml``.
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
    """A root bus of its own with one port; QEMU's DSDT describes the bus, and nothing on it."""

    name: str
    slot: int
    bus: int

    @property
    def inner(self) -> int:
        """The number of the bus behind the port, as firmware hands them out."""
        return self.bus + 1

    @property
    def options(self) -> tuple[str, ...]:
        """The values of QEMU's ``-device``."""
        return (
            f"pxb-pcie,id={self.name}-root,bus=pcie.0,addr={self.slot:#x},bus_nr={self.bus:#x}",
            # Nothing is ever plugged into it: without a slot the kernel has less to set up.
            f"pcie-root-port,id={self.name},bus={self.name}-root,addr=0,chassis=2,slot=2,hotplug=off",
        )


@dataclass(frozen=True)
class Device:
    """One PCI function of the machine, on the root bus or behind the port of the island.

    ``described``: whether QEMU's DSDT has an object for it: True, False, or "varies" with QEMU's
    version. The test firmware notifies the devices that are described by every version.
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
        """Slot and function in one byte, as in PCI configuration requests."""
        return self.slot << 3 | self.function

    @property
    def bdf(self) -> str:
        """The address as sysfs spells it."""
        bus = self.island.inner if self.island else 0
        return f"0000:{bus:02x}:{self.slot:02x}.{self.function}"

    @property
    def path(self) -> str:
        """The object that every QEMU's DSDT has for the device, "" where there is none."""
        return f"\\_SB.PCI0.S{self.devfn:02X}" if self.described is True else ""

    @property
    def method(self) -> str:
        """The control method of the test firmware that notifies the device."""
        return f"N{self.devfn:03X}"

    @property
    def option(self) -> str:
        """The value of QEMU's ``-device``."""
        bus = self.island.name if self.island else "pcie.0"
        more = ",multifunction=on" if self.multifunction else ""
        return f"{self.model},id={self.name},bus={bus},addr={self.slot:#x}.{self.function}{more}"


@dataclass(frozen=True)
class Port:
    """An empty hot-plug port; ``model`` is what the tests may plug into it."""

    name: str
    slot: int
    model: str

    @property
    def bdf(self) -> str:
        """The port's own address as sysfs spells it."""
        return f"0000:00:{self.slot:02x}.0"

    @property
    def path(self) -> str:
        """The object that a device plugged here has in QEMU's DSDT."""
        return f"\\_SB.PCI0.S{self.slot << 3:02X}.S00"

    @property
    def option(self) -> str:
        """The value of QEMU's ``-device``."""
        return f"pcie-root-port,id={self.name},bus=pcie.0,addr={self.slot:#x},chassis=1,slot=1"


@dataclass(frozen=True)
class Unrelated:
    """A device that the test firmware adds, an AC adapter or a lid; its events are no VMM's.

    ``state`` is the method that its driver evaluates for its state; it returns one.
    """

    name: str
    acpi_name: str
    hid: str
    uid: int
    state: str

    @property
    def path(self) -> str:
        """The object in the test firmware."""
        return f"\\_SB.{self.acpi_name}"

    @property
    def method(self) -> str:
        """The control method of the test firmware that notifies the device."""
        return f"N{self.acpi_name[:3]}"


@dataclass(frozen=True)
class Machine:
    """The whole table."""

    devices: tuple[Device, ...]
    port: Port
    island: Island
    unrelated: tuple[Unrelated, ...]

    @property
    def sources(self) -> tuple[Device, ...]:
        """The devices that the firmware notifies: those with a companion on every QEMU."""
        return tuple(device for device in self.devices if device.path)

    def options(self) -> list[str]:
        """QEMU's arguments for the machine, the firmware's table excepted."""
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
        """What the tests get to know, as JSON-able data.

        An empty path means that not every QEMU describes the device, ``bare`` that none does.
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
    """Read the table; a key that is not known there raises TypeError."""
    data = tomllib.loads(table.read_text())
    island = Island(**data["island"])
    return Machine(
        devices=tuple(
            Device(**row | {"island": island if row.get("island") else None})
            for row in data["device"]
        ),
        port=Port(**data["port"]),
        island=island,
        unrelated=tuple(Unrelated(**row) for row in data["unrelated"]),
    )


def asl(machine: Machine) -> str:
    """The test firmware's source."""
    sources, unrelated = list(machine.sources), list(machine.unrelated)
    return template.render(TEMPLATE, sources=sources, unrelated=unrelated)


def aml(machine: Machine, *, stage: Stage) -> Path:
    """The test firmware, compiled by iasl, from the cache when it is there."""
    key = cache.digest([TEMPLATE.read_text(), repr(machine)])

    def fill(folder: Path) -> None:
        source = folder / "ssdt.asl"
        source.write_text(asl(machine))
        argv = [process.need("iasl", package="acpica-tools"), "-we", "-p", "ssdt", source.name]
        stage.command(argv, cwd=folder)
        status, output = process.capture(argv, cwd=folder)
        if status != 0:
            raise HarnessError(
                str(TEMPLATE),
                "iasl does not compile the test firmware",
                mend="see its messages above",
                code=ExitCode.LOST,
                details=output,
            )

    folder, _ = cache.entry("firmware", key, fill)
    return folder / "ssdt.aml"
