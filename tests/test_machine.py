# SPDX-License-Identifier: GPL-2.0-only
"""The machine's table turned into addresses, firmware and QEMU options; iasl and QEMU are real."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kpatch.errors import HarnessError
from kpatch.lib import process
from kpatch.lib.stage import Silent
from kpatch.vm import machine, qemu
from kpatch.vm.machine import Island, MachineDevice, Port, Unrelated
from ktests import debugger

TABLE = machine.load()
ISLAND = Island("island", 0x15, 0x40)
NOTIFIED = TABLE.notified
PLACED: tuple[MachineDevice | Port, ...] = (*TABLE.devices, TABLE.port)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("device", "bdf", "path", "method"),
    [
        (MachineDevice("a", "edu", 0x10), "0000:00:10.0", r"\_SB.PCI0.S80", "N080"),
        (MachineDevice("a", "edu", 0x1F), "0000:00:1f.0", r"\_SB.PCI0.SF8", "N0F8"),
        (MachineDevice("a", "edu", 1), "0000:00:01.0", r"\_SB.PCI0.S08", "N008"),
        (MachineDevice("a", "edu", 0x12, 7, described="varies"), "0000:00:12.7", "", "N097"),
        (MachineDevice("a", "edu", 0, island=ISLAND, described=False), "0000:41:00.0", "", "N000"),
    ],
)
def test_addresses(device: MachineDevice, bdf: str, path: str, method: str) -> None:
    assert (device.bdf, device.path, device.method) == (bdf, path, method)


def test_every_method_tells_that_it_has_run() -> None:
    told = debugger.RAN.decode().rstrip()
    table = machine.load()
    source = machine.asl(table)
    names = ["VFHB", "VFHW", "VFHE", "VFTN", "VFRW", *(one.method for one in table.notified)]
    for name in names:
        body = re.split(r"Method|Device", source.partition(f"Method (\\{name}")[2])[0]
        assert body.count(f"Debug = {told}") == 1, name


def test_interrupt_stores_nothing_to_debug() -> None:
    """If the debugger is open, it gets that output, and takes it for the end of its own method."""
    table = machine.load()
    source = machine.asl(table)
    names = ["VFRE", "_EVT", *(f"\\B{one.method[1:]}" for one in table.notified)]
    for name in names:
        body = re.split(r"Method|Device", source.partition(f"{name}, ")[2])[0]
        assert body and "Debug" not in body.partition("// For the debugger")[0], name


def test_interrupt_notifies_the_source_that_the_host_means() -> None:
    """The number of a source in the ring is its index in `Machine.notified`."""
    table = machine.load()
    body = machine.asl(table).partition("(\\VFRE")[2].partition("Method")[0]
    numbers = re.findall(r"If \(SRCE == (\d+)\)\s+\{\s+\\B(\w+) ", body)
    expected = [(str(n), one.method[1:]) for n, one in enumerate(table.notified)]
    assert numbers == expected


def test_options() -> None:
    assert MachineDevice("a", "edu", 0x10).option == "edu,id=a,bus=pcie.0,addr=0x10.0"
    carrier = MachineDevice("c", "edu", 0x12, multifunction=True)
    assert carrier.option == "edu,id=c,bus=pcie.0,addr=0x12.0,multifunction=on"
    bare = MachineDevice("b", "edu", 0, island=ISLAND, described=False)
    assert bare.option == "edu,id=b,bus=island,addr=0x0.0"
    root, above = ISLAND.options
    assert root == "pxb-pcie,id=island-root,bus=pcie.0,addr=0x15,bus_nr=0x40"
    assert above.startswith("pcie-root-port,id=island,bus=island-root,addr=0,")
    port = Port("bay", 0x13, "edu")
    assert (port.bdf, port.path) == ("0000:00:13.0", r"\_SB.PCI0.S98.S00")
    assert port.option.startswith("pcie-root-port,id=bay,bus=pcie.0,addr=0x13,")


def test_carried_table() -> None:
    with_companion = [device for device in TABLE.devices if device.path]
    without = [device for device in TABLE.devices if not device.path]
    assert list(TABLE.sources) == with_companion
    assert len(with_companion) >= 2 and without, "two devices with a companion, one without"
    assert all(device.path not in {d.path for d in without} for device in with_companion)
    hids = {device.hid for device in TABLE.unrelated}
    assert hids == {"ACPI0003", "PNP0C0D"}, "sources of events that are none of a VMM's"


def test_names_and_places_are_unique() -> None:
    names = [*(device.name for device in PLACED), *(device.name for device in TABLE.unrelated)]
    places = [device.bdf for device in PLACED]
    methods = [device.method for device in NOTIFIED]
    paths = [*(device.path for device in NOTIFIED), TABLE.port.path]
    for several in (names, places, methods, paths):
        assert len(several) == len(set(several))
    assert all(re.fullmatch("[A-Z_][A-Z0-9_]{3}", method) for method in methods), "NameSegs"


def test_facts_are_what_the_tests_need() -> None:
    facts = TABLE.facts()
    for device in TABLE.devices:
        told = facts["devices"][device.name]
        assert told["bdf"] == device.bdf
        assert bool(told["path"]) is bool(told["method"]) is (device in TABLE.sources)
        assert told["bare"] is (device.described is False)
    assert [name for name, told in facts["devices"].items() if told["bare"]] == ["bare"]
    assert facts["port"] == {"bdf": TABLE.port.bdf, "path": TABLE.port.path}
    assert {told["method"] for told in facts["unrelated"].values()} == {
        "NACA",
        "NFEN",
        "NLID",
    }


def test_unknown_key(tmp_path: Path) -> None:
    table = tmp_path / "machine.toml"
    table.write_text(machine.TABLE.read_text().replace("slot = 0x10", "solt = 0x10", 1))
    with pytest.raises(TypeError, match="solt"):
        machine.load(table)


def test_firmware_compiles() -> None:
    stage = Silent()
    aml = machine.aml(TABLE, stage=stage)
    data = aml.read_bytes()
    assert data[:4] == b"SSDT"
    assert int.from_bytes(data[4:8], "little") == len(data)
    assert sum(data) % 256 == 0, "the table's checksum"
    assert data[10:16] == b"VFACPI"
    assert len(stage.commands) == 1 and "iasl" in stage.commands[0]
    assert machine.aml(TABLE, stage=stage) == aml
    assert len(stage.commands) == 1, "the second time it comes from the cache"


def test_firmware_notifies_every_source_by_its_method(tmp_path: Path) -> None:
    aml = machine.aml(TABLE, stage=Silent())
    argv = ["iasl", "-p", str(tmp_path / "back"), "-d", str(aml)]
    subprocess.run(argv, check=True, capture_output=True)
    source = (tmp_path / "back.dsl").read_text()
    notifies = re.findall(r"Method \(\\?(B\w+), 3.*?Notify \((\S+), ", source, re.DOTALL)
    calls = re.findall(r"Method \(\\?(N\w+), 3.*?\\?(B\w+) \(Arg0, Arg1", source, re.DOTALL)
    assert calls == [(one.method, f"B{one.method[1:]}") for one in NOTIFIED]
    expected = {f"B{one.method[1:]}": one.path.removeprefix("\\") for one in NOTIFIED}
    found = {method: path.removeprefix("\\").replace("_.", ".") for method, path in notifies}
    assert {m: p if "." in p else f"_SB.{p}" for m, p in found.items()} == expected
    for device in TABLE.unrelated:
        body = source.partition(f"Device ({device.acpi_name})")[2].partition("Device (")[0]
        assert f'Name (_HID, "{device.hid}"' in body
        assert f"Method ({device.state}," in body


def test_later_table_describes_the_device_behind_the_island() -> None:
    data = machine.later_aml(TABLE, stage=Silent()).read_bytes()
    assert data[:4] == b"SSDT" and sum(data) % 256 == 0
    path = TABLE.facts()["island"]["path"]
    assert path == r"\_SB.PC40.S00.S00"
    # The scope, a device in it, and another one in that.
    assert data.count(b"PC40") == 2 and data.count(b"S00_") == 2


def test_only_a_gpu_has_displays() -> None:
    scopes = re.findall(r"Scope \((\S+)\)\s+\{\s+Method \(_DOS", machine.asl(TABLE))
    assert scopes == [device.path for device in TABLE.devices if device.displays]
    assert scopes


def test_firmware_that_does_not_compile_is_refused() -> None:
    twins = (
        Unrelated("x", "AAAA", "ACPI0003", 0, "_PSR"),
        Unrelated("y", "AAAB", "ACPI0003", 1, "_PSR"),
    )
    table = machine.Machine(TABLE.devices, TABLE.port, ISLAND, twins)  # both methods would be NAAA
    with pytest.raises(HarnessError, match="iasl does not compile the test firmware") as refused:
        machine.aml(table, stage=Silent())
    assert "NAAA" in refused.value.details
    # No incomplete file is left for the next run.
    with pytest.raises(HarnessError):
        machine.aml(table, stage=Silent())


def test_firmware_follows_the_table() -> None:
    moved = machine.Machine((MachineDevice("a", "edu", 5),), TABLE.port, ISLAND, TABLE.unrelated)
    assert machine.aml(moved, stage=Silent()) != machine.aml(TABLE, stage=Silent())
    assert "S28" in machine.asl(moved) and "S80" not in machine.asl(moved)


def test_qemu_has_the_devices_where_the_table_says() -> None:
    # -S: the CPUs never start, so this is not a boot.
    aml = machine.aml(TABLE, stage=Silent())

    def command(fds: Mapping[str, int]) -> list[str]:
        return [
            process.require_tool("qemu-system-x86_64", package="qemu-system-x86"),
            *("-S", "-machine", "q35", "-nodefaults", "-display", "none"),
            *("-chardev", f"socket,id=qmp,fd={fds['qmp']}", "-mon", "chardev=qmp,mode=control"),
            *("-acpitable", f"file={aml}"),
            *TABLE.options(),
        ]

    with qemu.started(command) as running:
        # QEMU lists devices behind a bridge after firmware has numbered the bus; no firmware ran.
        buses = listed(running.qmp("query-pci"))
        found = {
            device["qdev_id"]: f"0000:{bus['bus']:02x}:{device['slot']:02x}.{device['function']}"
            for bus in buses
            for device in bus["devices"]
            if device["qdev_id"]
        }
        island = TABLE.island
        behind = {d.name for d in TABLE.devices if d.island is not None}
        expected = {device.name: device.bdf for device in PLACED if device.name not in behind}
        expected |= {f"{island.name}-root": f"0000:00:{island.slot:02x}.0"}
        expected |= {island.name: f"0000:{island.bus:02x}:00.0"}
        assert found == expected
        for name in behind:
            above = running.qmp(
                "qom-get", path=f"/machine/peripheral/{name}", property="parent_bus"
            )
            assert above == f"/machine/peripheral/{island.name}/{island.name}"
        port = TABLE.port
        running.qmp("device_add", driver=port.model, id="plugged", bus=port.name)
        there = listed(running.qmp("qom-list", path="/machine/peripheral"))
        assert f"child<{port.model}>" in [
            item["type"] for item in there if item["name"] == "plugged"
        ]


def listed(answer: object) -> list[dict[str, Any]]:
    assert isinstance(answer, list)
    return answer
