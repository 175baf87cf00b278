# SPDX-License-Identifier: GPL-2.0-only
"""Tests of the mirror and the golden JSON that need no kernel tree."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kpatch.abi import golden
from kpatch.abi.check import MODULE, Mirror
from kpatch.build.headers import HEADERS
from kpatch.series import catalog
from kpatch.tables.bases import BASES
from kpatch.tables.mechanisms import MECHANISMS
from tests.carried import CARRIED_KERNELS
from uapi import acpi_event, mirror, names, structures

SCHEMA = json.loads((golden.FOLDER / golden.SCHEMA).read_text())
FILES = sorted(golden.FOLDER.glob("[0-9]*.json"))
KERNELS = [*((base, catalog.BASE) for base in BASES), *CARRIED_KERNELS]


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def golden_of(base: str, name: str) -> dict[str, Any]:
    (found,) = (
        one for one in map(document, FILES) if one["base"] == base and name in one["series"]
    )
    return found


def mechanism(base: str, name: str) -> str:
    return catalog.load(name, base).mechanism


def test_the_tracked_module_is_what_cffi_makes() -> None:
    assert MODULE.read_text() == structures.module()


def test_import_needs_no_parser() -> None:
    """An emulated guest imports it; a parser takes seconds there."""
    told = subprocess.run(
        [sys.executable, "-c", "import sys; from uapi import mirror; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "_cffi_backend" in told
    assert not {"cffi", "pycparser", "uapi.structures", "uapi.names"} & set(told)


def test_structures_can_be_made_and_read() -> None:
    request = mirror.ffi.new("struct vfio_irq_set *", {"index": 5, "data": [1, 2, 3, 4]})
    raw = bytes(mirror.ffi.buffer(request))
    assert raw == bytes([0] * 8 + [5, 0, 0, 0] + [0] * 8 + [1, 2, 3, 4])
    assert mirror.sizeof("vfio_irq_set") == 20
    with pytest.raises(OverflowError):
        request.index = 1 << 32


@pytest.mark.parametrize("name", sorted(structures.STRUCTURES))
def test_every_structure_is_in_the_module(name: str) -> None:
    assert mirror.sizeof(name) > 0


@pytest.mark.parametrize("flag", ["EFD_SEMAPHORE", "EFD_CLOEXEC", "EFD_NONBLOCK"])
def test_eventfd_flags_are_those_of_python(flag: str) -> None:
    assert getattr(mirror, flag) == getattr(os, flag)


def test_an_event_made_of_the_mirrors_structures_is_decoded() -> None:
    """The event has 68 bytes, as drivers/acpi/event.c sends it."""
    parts = (
        ("nlmsghdr", (68, 30, 0, 7, 0)),
        ("genlmsghdr", (mirror.ACPI_GENL_CMD_EVENT, mirror.ACPI_GENL_VERSION, 0)),
        ("nlattr", (48, mirror.ACPI_GENL_ATTR_EVENT)),
        ("acpi_genl_event", (b"vfio_pci", b"0000:00:10.0", 0x81, 0x12345678)),
    )
    made = [mirror.ffi.new(f"struct {name} *", values) for name, values in parts]
    raw = b"".join(bytes(mirror.ffi.buffer(one)) for one in made)
    assert len(raw) == acpi_event.MESSAGE_SIZE == 68
    assert raw[60:] == (0x81).to_bytes(4, sys.byteorder) + (0x12345678).to_bytes(4, sys.byteorder)
    assert acpi_event.decode(raw) == acpi_event.Event(
        7, "vfio_pci", "0000:00:10.0", 0x81, 0x12345678
    )


# ---- gates ----


@pytest.mark.parametrize(
    ("release", "info", "bind"), [("6.1", 20, None), ("6.12", 24, 16), ("7.3", 24, 24)]
)
def test_sizes_that_grew(release: str, info: int, bind: int | None) -> None:
    structs = Mirror.for_kernel(release, "none").structs
    assert structs["vfio_device_info"].size == info
    found = structs.get("vfio_device_bind_iommufd")
    assert (found and found.size) == bind


def test_the_newest_kernel_with_every_series_has_the_whole_mirror() -> None:
    newest = [names.constants("7.3", mechanism).items() for mechanism in MECHANISMS]
    assert names.everything().items() - set().union(*newest) == {("VFIO_TYPE1_NESTING_IOMMU", 6)}
    declared = [names.structures("7.3", mechanism).keys() for mechanism in MECHANISMS]
    assert set().union(*declared) == structures.STRUCTURES.keys()


@pytest.mark.parametrize("release", BASES)
@pytest.mark.parametrize("having", ["ack", "doorbell", "eventfd", "eventfd-count"])
def test_the_mechanisms_with_the_index(release: str, having: str) -> None:
    values = names.constants(release, having)
    assert (values["VFIO_PCI_ACPI_IRQ_INDEX"], values["VFIO_PCI_NUM_IRQS"]) == (5, 6)


@pytest.mark.parametrize("release", BASES)
def test_the_doorbell_series_own(release: str) -> None:
    without = names.constants(release, "eventfd-count")
    assert names.constants(release, "doorbell").items() - without.items() == {
        ("VFIO_DEVICE_FEATURE_ACPI_PENDING", 15),
        ("VFIO_ACPI_PENDING_MAX", 256),
    }
    structures = [names.structures(release, it) for it in ("doorbell", "eventfd-count")]
    assert structures[0].keys() - structures[1].keys() == {"vfio_device_feature_acpi_pending"}


@pytest.mark.parametrize("release", BASES)
def test_the_netlink_series_own(release: str) -> None:
    without, having = names.constants(release, "none"), names.constants(release, "netlink")
    assert (without["ACPI_GENL_CMD_MAX"], having["ACPI_GENL_CMD_MAX"]) == (1, 2)
    notify = {name for name in names.everything() if name.startswith("ACPI_GENL_NOTIFY_")}
    assert having.keys() - without.keys() == {"ACPI_GENL_CMD_NOTIFY", *notify}
    assert len(notify) == 7


@pytest.mark.parametrize("release", BASES)
@pytest.mark.parametrize("other", ["none", "netlink", "eventq"])
def test_the_index_is_not_of_every_series(release: str, other: str) -> None:
    without, having = names.constants(release, other), names.constants(release, "eventfd")
    assert without["VFIO_PCI_NUM_IRQS"] == 5
    assert having["VFIO_PCI_NUM_IRQS"] == 6
    added = {name for name in having.keys() - without.keys() if name.startswith("VFIO")}
    assert added == {name for name in names.everything() if name.startswith("VFIO_PCI_ACPI_")}


@pytest.mark.parametrize("release", BASES)
@pytest.mark.parametrize("other", ["none", "netlink", "eventfd"])
def test_the_feature_is_the_eventq_series_own(release: str, other: str) -> None:
    without, having = names.constants(release, other), names.constants(release, "eventq")
    assert having.keys() - without.keys() == {
        "VFIO_DEVICE_FEATURE_ACPI_NOTIFY",
        "VFIO_ACPI_NOTIFY_DEPTH_MAX",
        "VFIO_ACPI_NOTIFY_EVENT_LOOPBACK",
        "VFIO_DEVICE_INFO_CAP_ACPI_PATH",
        "VFIO_ACPI_PATH_MAX",
    }
    own = names.structures(release, "eventq").keys() - names.structures(release, other).keys()
    assert own == {
        "vfio_device_feature_acpi_notify",
        "vfio_acpi_notify_event",
        "vfio_device_info_cap_acpi_path",
    }


@pytest.mark.parametrize(
    ("gate", "release", "admitted"),
    [
        (names.Gate(since="6.12"), "6.2", False),
        (names.Gate(since="6.12"), "6.12", True),
        (names.Gate(since="6.12"), "7.0", True),
        (names.Gate(before="6.12"), "6.9", True),
        (names.Gate(before="6.12"), "6.12", False),
        (names.Gate(mechanisms=("eventfd",)), "7.3", False),
        (names.Gate(), "1.0", True),
    ],
)
def test_gate(gate: names.Gate, release: str, admitted: bool) -> None:
    assert gate.admits(release, "none") == admitted


def test_every_gate_is_of_something() -> None:
    members = {
        f"{name}.{member}"
        for name, struct in Mirror.for_kernel("7.3", "eventfd").structs.items()
        for member in struct.fields
    }
    known = {*names.everything(), *members, *(f"struct {name}" for name in structures.STRUCTURES)}
    assert names.GATES.keys() <= known


@pytest.mark.parametrize(("base", "name"), KERNELS)
def test_every_name_is_looked_for_in_one_header(base: str, name: str) -> None:
    there = [header for header in HEADERS if not header.instead]
    for constant in names.constants(base, mechanism(base, name)):
        assert [bool(re.fullmatch(one.constants, constant)) for one in there].count(True) == 1
    for struct in names.structures(base, mechanism(base, name)):
        assert [bool(re.fullmatch(one.structures, struct)) for one in there].count(True) == 1


# ---- golden JSON ----


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_golden_json_is_valid(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(document(path), SCHEMA, cls=jsonschema.Draft202012Validator)
    assert path.read_text() == golden.render(document(path))


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.pop(key)


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


INFO = ("abis", "64", "structures", "vfio_irq_info")


@pytest.mark.parametrize(
    "spoil",
    [
        *map(drop, ("abis", "series", "base", "schema_version", "architecture", "license")),
        put("schema_version", value=2),
        put("base", value="7.3.4"),
        put("series", value=[]),
        put("more", value=1),
        put("abis", "16", value={"constants": {}, "structures": {}}),
        put("abis", "64", "constants", "VFIO_BASE", value=1.5),
        put("abis", "64", "constants", "VFIO_BASE", value=1 << 64),
        put("abis", "64", "constants", "not a name", value=1),
        put(*INFO, "size", value=-1),
        put(*INFO, "alignment", value=3),
        put(*INFO, "members", 0, "type", value="u24"),
        put(*INFO, "members", 0, "offset", value="0"),
        put(*INFO, "members", 0, value={"name": "argsz"}),
    ],
)
def test_the_schema_refuses(spoil: Callable[[dict[str, Any]], None]) -> None:
    spoiled = copy.deepcopy(document(FILES[0]))
    spoil(spoiled)
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(spoiled)


@pytest.mark.parametrize(("base", "name"), KERNELS)
def test_golden_json_says_what_the_mirror_says(base: str, name: str) -> None:
    ours = Mirror.for_kernel(base, mechanism(base, name))
    for abi in golden_of(base, name)["abis"].values():
        assert abi["constants"] == dict(ours.constants)
        assert abi["structures"].keys() == ours.structs.keys()
        for struct, told in abi["structures"].items():
            mine = ours.structs[struct]
            assert told["size"] == mine.size
            assert [(one["name"], one["offset"], one["type"]) for one in told["members"]] == [
                (member, field.offset, field.short) for member, field in mine.fields.items()
            ]


def test_no_golden_json_is_of_no_kernel() -> None:
    told = [(one["base"], name) for one in map(document, FILES) for name in one["series"]]
    assert sorted(told) == sorted(KERNELS)
