# SPDX-License-Identifier: GPL-2.0-only
"""Read the table of the test machine, ktests/machine.toml, and make three things of it.

They are QEMU's options, the test firmware (an SSDT in ASL), and the facts that the tests need:
addresses and ACPI paths.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpatch.errors import HarnessError
from kpatch.lib import cache, process, template
from kpatch.lib.stage import Stage
from kpatch.tables.outcomes import ExitCode
from kpatch.tables.paths import KTESTS
from kpatch.vm import ring

TABLE = KTESTS / "machine.toml"
TEMPLATE = KTESTS / "firmware" / "ssdt.asl.j2"
LATER = KTESTS / "firmware" / "later.asl.j2"


@dataclass(frozen=True)
class Island:
    """A second PCI root bus (QEMU's pxb-pcie) with one root port.

    QEMU's DSDT describes the bus, but no device on it. ``slot`` is the slot of pxb-pcie on the
    first root bus; ``bus`` is the number of the second root bus.
    """

    name: str
    slot: int
    bus: int

    @property
    def inner(self) -> int:
        """Return the number of the bus behind the port, as QEMU's firmware assigns it."""
        return self.bus + 1

    @property
    def root(self) -> str:
        """Return the ACPI path of the second root bus in QEMU's DSDT."""
        return f"\\_SB.PC{self.bus:02X}"

    @property
    def port(self) -> str:
        """Return the PCI address of the port in the form of sysfs, "0000:40:00.0"."""
        return f"0000:{self.bus:02x}:00.0"

    @property
    def options(self) -> tuple[str, ...]:
        """Return the values of QEMU's ``-device`` options for the bus and its port."""
        return (
            f"pxb-pcie,id={self.name}-root,bus=pcie.0,addr={self.slot:#x},bus_nr={self.bus:#x}",
            # No test plugs a device into this port. Without hot-plug the kernel has less to set up.
            f"pcie-root-port,id={self.name},bus={self.name}-root,addr=0,chassis=2,slot=2,hotplug=off",
        )


@dataclass(frozen=True)
class MachineDevice:
    """One PCI function, on the first root bus (``island`` is None) or behind the island's port.

    ``model`` is QEMU's device model. With ``displays`` the test firmware describes the device as a
    GPU. ``described`` tells whether QEMU's DSDT has an object for the
    function: True, False, or "varies" (with QEMU's version). If it is True, the test firmware has a
    method that notifies the device.
    """

    name: str
    model: str
    slot: int
    function: int = 0
    multifunction: bool = False
    island: Island | None = None
    described: bool | str = True
    displays: bool = False

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
        """Return the ACPI path of the device in QEMU's DSDT, "" unless ``described`` is True."""
        return f"\\_SB.PCI0.S{self.devfn:02X}" if self.described is True else ""

    @property
    def method(self) -> str:
        """Return the name of the test firmware's ACPI method that notifies the device, "N080"."""
        return f"N{self.devfn:03X}"

    @property
    def option(self) -> str:
        """Return the value of QEMU's ``-device`` option for the device."""
        bus = self.island.name if self.island else "pcie.0"
        more = ",multifunction=on" if self.multifunction else ""
        return f"{self.model},id={self.name},bus={bus},addr={self.slot:#x}.{self.function}{more}"


@dataclass(frozen=True)
class Port:
    """An empty hot-plug port; the tests plug a device of QEMU's ``model`` into it."""

    name: str
    slot: int
    model: str

    @property
    def bdf(self) -> str:
        """Return the PCI address of the port itself in the form of sysfs, "0000:00:13.0"."""
        return f"0000:00:{self.slot:02x}.0"

    @property
    def path(self) -> str:
        """Return the ACPI path in QEMU's DSDT of a device that is plugged into the port."""
        return f"\\_SB.PCI0.S{self.slot << 3:02X}.S00"

    @property
    def option(self) -> str:
        """Return the value of QEMU's ``-device`` option for the port."""
        return f"pcie-root-port,id={self.name},bus=pcie.0,addr={self.slot:#x},chassis=1,slot=1"


@dataclass(frozen=True)
class Unrelated:
    """An ACPI device that the test firmware adds (AC adapter, lid); no VMM gets its notifications.

    ``acpi_name``, ``hid`` and ``uid`` are the name, _HID and _UID of its object. ``state`` is the
    name of the ACPI method from which its driver reads the state ("_PSR", "_LID"); the test
    firmware's method returns 1.
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
        """Return the name of the test firmware's ACPI method that notifies the device, "NLID"."""
        return f"N{self.acpi_name[:3]}"


@dataclass(frozen=True)
class Machine:
    """The test machine, as ktests/machine.toml describes it."""

    devices: tuple[MachineDevice, ...]
    port: Port
    island: Island
    unrelated: tuple[Unrelated, ...]

    @property
    def sources(self) -> tuple[MachineDevice, ...]:
        """Return the PCI devices that the test firmware notifies: those with an ACPI `path`."""
        return tuple(device for device in self.devices if device.path)

    @property
    def notified(self) -> tuple[MachineDevice | Unrelated, ...]:
        """Return all devices that the test firmware notifies: each has an ACPI ``method``."""
        return (*self.sources, *self.unrelated)

    def options(self) -> list[str]:
        """Return QEMU's arguments for the machine and its devices, without ``-acpitable``."""
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

        The keys are "devices", "port", "island" and "unrelated". An empty path means that some or
        all QEMU versions do not describe the device in their DSDT; ``bare`` means that no version
        does. "island" has the port, and the path of a device behind it in the `LATER` table.
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
            "island": {"port": self.island.port, "path": f"{self.island.root}.S00.S00"},
            "unrelated": {
                device.name: {"path": device.path, "method": device.method}
                for device in self.unrelated
            },
        }


def load(table: Path = TABLE, *, more: bool = False) -> Machine:
    """Read the machine from the file ``table``; with ``more``, it also has the rows [[more]].

    TypeError if a section has an unknown key or lacks a required one, KeyError if a section is
    missing.
    """
    data = tomllib.loads(table.read_text())
    island = Island(**data["island"])
    return Machine(
        devices=tuple(
            MachineDevice(**row | {"island": island if row.get("island") else None})
            for row in (*data["device"], *(data.get("more", ()) if more else ()))
        ),
        port=Port(**data["port"]),
        island=island,
        unrelated=tuple(Unrelated(**row) for row in data["unrelated"]),
    )


def asl(machine: Machine) -> str:
    """Return the source of the test firmware for ``machine``, an SSDT in ASL."""
    return template.render(
        TEMPLATE,
        sources=machine.sources,
        unrelated=machine.unrelated,
        notified=machine.notified,
        ring=ring,
    )


def aml(machine: Machine, *, stage: Stage) -> Path:
    """Return the path of the compiled test firmware (AML) for ``machine``, in the cache.

    If it is not cached, iasl compiles it. HarnessError: exit 7 if iasl fails, exit 2 if it is not
    installed.
    """
    # Rendering the template would take longer than to read these.
    parts = [TEMPLATE.read_text(), Path(ring.__file__).read_text(), repr(machine)]
    return _compiled(TEMPLATE, lambda: asl(machine), parts, stage)


def later_aml(machine: Machine, *, stage: Stage) -> Path:
    """Return the path of the compiled table (AML) that tests load and unload; see `aml`."""
    source = template.render(LATER, island=machine.island)
    return _compiled(LATER, lambda: source, [source], stage)


def _compiled(table: Path, source: Callable[[], str], parts: list[str], stage: Stage) -> Path:
    """Return the path of ``source``, compiled. ``table`` is its template, ``parts`` is its key."""

    def fill(folder: Path) -> None:
        (folder / "ssdt.asl").write_text(source())
        iasl = process.require_tool("iasl", package="acpica-tools")
        argv = [iasl, "-we", "-p", "ssdt", "ssdt.asl"]
        stage.command(argv, cwd=folder)
        status, output = process.capture(argv, cwd=folder)
        if status != 0:
            raise HarnessError(
                str(table),
                "iasl does not compile the test firmware",
                hint="see its messages above",
                code=ExitCode.LOST,
                details=output,
            )

    folder, _ = cache.entry("firmware", cache.digest(parts), fill)
    return folder / "ssdt.aml"
