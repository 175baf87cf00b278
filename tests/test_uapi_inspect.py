# SPDX-License-Identifier: GPL-2.0-only
"""``python -m uapi inspect`` on small tables of our own, hostile ones, and real ones if there."""

from __future__ import annotations

import json
import lzma
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from uapi.firmware import asl, report, tables

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared/firmware"
NOISE = random.Random(0).randbytes(4088)  # noqa: S311
SCHEMA = json.loads((ROOT / "uapi/firmware/report.schema.json").read_text())

DSDT = r"""
DefinitionBlock ("", "DSDT", 2, "TEST", "INSPECT", 1)
{
    External (\_SB.PCI0.GONE, DeviceObj)
    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Device (RP01)
            {
                Name (_ADR, 0x00010000)
                Device (GPU0)
                {
                    Name (_ADR, Zero)
                    Method (_DSM, 4) { Return (Zero) }
                    Method (_DOS, 1) { }
                    Device (LCD0) { Name (_ADR, 0x0400) }
                    Method (TELL) { Notify (GPU0, 0xD1) }
                }
            }
            Device (TWIN) { Name (_ADR, 0x00010000) }
            Device (LPCB)
            {
                Name (_ADR, 0x001F0000)
                Device (EC0)
                {
                    Name (_HID, EisaId ("PNP0C09"))
                    Method (_Q10) { Notify (^^^RP01.GPU0, 0xD2) }
                    Method (_Q11) { Notify (^^^RP01.GPU0.LCD0, 0x86) }
                }
            }
        }
        Device (GED0)
        {
            Name (_HID, "ACPI0013")
            Method (_EVT, 1)
            {
                Local0 = Arg0 + 0x80
                Notify (\_SB.PCI0.RP01.GPU0, Local0)
            }
        }
        Device (PWRB)
        {
            Name (_HID, EisaId ("PNP0C0C"))
            Method (PUSH) { Notify (PWRB, 0x80) }
        }
        Method (SEND, 2) { Notify (Arg0, Arg1) }
    }
    Scope (\_GPE)
    {
        Method (_L01) { \_SB.PCI0.RP01.GPU0.TELL () }
        Method (_L02) { Notify (\_SB.PCI0.RP01, Zero) }
        Method (_L03) { \_SB.SEND (\_SB.PCI0.RP01.GPU0, 0xD4) }
        Method (_L04)
        {
            Debug = "Notify (\\_SB.PCI0.RP01.GPU0, 0xEE) // /* {"
            Notify (\_SB.PCI0.GONE, 0x81)
        }
    }
}
"""


def compiled(folder: Path, text: str = DSDT) -> Path:
    (folder / "dsdt.asl").write_text(text)
    subprocess.run(
        ["iasl", "-p", "dsdt", "dsdt.asl"], cwd=folder, check=True, capture_output=True, timeout=60
    )
    return folder / "dsdt.aml"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uapi", "inspect", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = run("--tables", compiled(tmp_path_factory.mktemp("tables")), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    return found


def device(data: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (d for d in data["devices"] if d["companion"].endswith(name))
    return dict(found)


def test_every_notification_of_the_gpu(data: dict[str, Any]) -> None:
    gpu = device(data, "GPU0")
    assert gpu["location"] == "0000:00:01.0/00.0"
    assert gpu["objects"] == ["_DSM", "_DOS"]
    assert {(n["text"], n["value"], tuple(n["entries"])) for n in gpu["notifications"]} == {
        ("0xD1", 0xD1, (r"GPE \_GPE._L01",)),
        ("0xD2", 0xD2, (r"EC query \_SB_.PCI0.LPCB.EC0_._Q10",)),
        ("Local0", None, (r"GED \_SB_.GED0._EVT",)),
        ("0xD4", 0xD4, (r"GPE \_GPE._L03",)),
    }
    (computed,) = (n for n in gpu["notifications"] if n["value"] is None)
    assert computed["origin"] == ["( Arg0 + 0x80 )"]
    assert [n["value"] for n in gpu["children"][r"\_SB_.PCI0.RP01.GPU0.LCD0"]] == [0x86]


def test_system_values_twins_and_what_leads_nowhere(data: dict[str, Any]) -> None:
    port = device(data, "RP01")
    assert [(n["value"], n["kind"]) for n in port["notifications"]] == [(0, "system")]
    assert port["shared"] == [r"\_SB_.PCI0.TWIN"]
    assert device(data, "TWIN")["notifications"] == []
    assert [(n["target"], n["value"]) for n in data["unresolved"]] == [(r"\_SB.PCI0.GONE", 0x81)]
    assert data["other"] == 1  # the power button's


def test_suggestion(data: dict[str, Any]) -> None:
    (slot,) = data["guest"]
    assert slot["companion"] == r"\_SB_.PCI0.RP01.GPU0"
    assert (slot["values"], slot["any"]) == ([0xD1, 0xD2, 0xD4], True)


def test_text_of_one_device(tmp_path: Path) -> None:
    done = run("0000:00:01.0/00.0", "--tables", compiled(tmp_path))
    assert done.returncode == 0
    assert "0xd1  dsdt.aml:" in done.stdout
    assert "Local0 (computed), from ( Arg0 + 0x80 )" in done.stdout
    assert "guest's AML: 0xd1 0xd2 0xd4 and any value from 0x80 on (computed)" in done.stdout
    assert "0xee" not in done.stdout.lower()


def test_a_companion_of_sysfs_that_no_table_declares(tmp_path: Path) -> None:
    sources, _ = tables.disassemble(tables.read(compiled(tmp_path))[0])
    path = ("_SB", "PCI0", "GONE")
    found = report.examine(asl.scan(sources), [], {path: ["0000:05:00.0", "0000:05:00.1"]})
    (gone,) = found.devices
    assert [note.value for note in gone.notifications] == [0x81]
    assert gone.shared == ["0000:05:00.0", "0000:05:00.1"]


def refused(path: Path, cause: str) -> None:
    start = time.monotonic()
    done = run("--tables", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert cause in done.stderr
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("none", None, "does not exist"),
        ("empty", b"", "has no DSDT or SSDT"),
        ("dump", b"DSDT @ 0x0000000000000000\n    0000: 44 53\n", "has no DSDT"),
        ("dump.xz", lzma.compress(bytes(1000))[:40], "damaged .xz"),
        ("bomb.xz", lzma.compress(bytes(100 << 20), preset=0), "larger than 40 MB"),
        ("noise.aml", b"DSDT" + (4096).to_bytes(4, "little") + NOISE, "noise.aml: iasl"),
    ],
)
def test_hostile(tmp_path: Path, name: str, content: bytes | None, cause: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, cause)


def test_hundred_megabytes_truncated_and_bad_checksum(tmp_path: Path) -> None:
    table = compiled(tmp_path)
    good = table.read_bytes()
    table.write_bytes(good[:-50])
    refused(table, f"header says {len(good)} bytes, there are {len(good) - 50}")
    table.write_bytes(good[:9] + bytes([good[9] ^ 1]) + good[10:])
    done = run("--tables", table)
    assert (done.returncode, "bad checksum" in done.stdout) == (0, True)
    with table.open("ab") as file:
        file.truncate(100 << 20)
    refused(tmp_path, "larger than 8 MB")


def test_endless_loop_is_not_executed(tmp_path: Path) -> None:
    text = DSDT.replace("Scope (\\_GPE)", "While (One) { }\n    Scope (\\_GPE)", 1)
    assert run("--tables", compiled(tmp_path, text)).returncode == 0


def test_without_iasl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = compiled(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(tables.TableError, match="acpica-tools"):
        tables.disassemble(tables.read(table)[0])


@pytest.mark.skipif(not REAL.is_dir(), reason="no tables of real machines beside the checkout")
def test_real_machines() -> None:
    dumps = sorted(REAL.glob("*.acpidump.xz"))
    assert dumps
    for dump in dumps:
        sources, _ = tables.disassemble(tables.read(dump)[0])
        by_grep = {
            (source.name, number)
            for source in sources
            for number, line in enumerate(source.text.split("\n"), 1)
            if re.match(r"\s*Notify \(", line)
        }
        ours = {(call.table, call.line) for call in asl.scan(sources).notifies}
        assert ours == by_grep, dump.name
