# SPDX-License-Identifier: GPL-2.0-only
"""The YNL spec of acpi_event that the netlink series adds: it is valid and agrees with the mirror.

The mirror is compared with the headers of each kernel by `python -m kpatch drift`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kpatch.lib.stage import Silent
from kpatch.series import catalog
from kpatch.source import resolve
from uapi import mirror

BASE = "7.3"
PATH = "Documentation/netlink/specs/acpi_event.yaml"

SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


def spec_text() -> str:
    """Return the spec, from the patch that adds it."""
    [patch] = [
        text
        for mailbox in catalog.load("netlink", BASE).mailboxes
        if f"+++ b/{PATH}\n" in (text := mailbox.read_text())
    ]
    diff = patch.partition(f"+++ b/{PATH}\n")[2].partition("\ndiff --git")[0]
    return "".join(f"{line[1:]}\n" for line in diff.splitlines() if line.startswith("+"))


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(spec_text())
    return loaded


def constant(name: str, prefix: str = "") -> Any:
    """Return the mirror's constant that YNL makes of a prefix and a name."""
    return getattr(mirror, f"{prefix}{name}".upper().replace("-", "_"))


@pytest.mark.trees
def test_the_tree_accepts_it(spec: dict[str, Any]) -> None:
    tree: Path = resolve.resolve(BASE, stage=Silent()).path
    schema = tree / "Documentation" / "netlink" / f"{spec['protocol']}.yaml"
    validator = jsonschema.Draft7Validator(yaml.safe_load(schema.read_text()))
    validator.validate(spec)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(spec | {"version": "one"})


def test_the_family(spec: dict[str, Any]) -> None:
    assert spec["name"] == constant(spec["c-family-name"])
    assert spec["version"] == constant(spec["c-version-name"])
    assert spec["uapi-header"] == "linux/acpi_event.h"


def test_the_groups(spec: dict[str, Any]) -> None:
    groups = {one["name"]: constant(one["c-define-name"]) for one in spec["mcast-groups"]["list"]}
    assert groups == {"acpi_mc_group": "acpi_mc_group", "acpi_notify": "acpi_notify"}
    assert {one["mcgrp"] for one in spec["operations"]["list"]} == groups.keys()


def test_the_commands(spec: dict[str, Any]) -> None:
    operations = spec["operations"]
    for number, one in enumerate(operations["list"], 1):
        assert constant(one["name"], operations["name-prefix"]) == number, one["name"]
    assert constant("max", operations["name-prefix"]) == len(operations["list"])


def test_the_attributes(spec: dict[str, Any]) -> None:
    sets = {one["name"]: one for one in spec["attribute-sets"]}
    for one in sets.values():
        for number, attribute in enumerate(one["attributes"], 1):
            assert constant(attribute["name"], one["name-prefix"]) == number, attribute["name"]
        assert constant("max", one["name-prefix"]) == len(one["attributes"])
    for operation in spec["operations"]["list"]:
        names = [attribute["name"] for attribute in sets[operation["attribute-set"]]["attributes"]]
        assert operation["event"]["attributes"] == names


def test_the_types_of_a_notification(spec: dict[str, Any]) -> None:
    [notify] = [one for one in spec["attribute-sets"] if one["name"] == "notify"]
    types = {attribute["name"]: attribute["type"] for attribute in notify["attributes"]}
    assert types == {"pci-name": "string", "value": "u32", "sequence": "u32", "path": "string"}


def test_the_structure(spec: dict[str, Any]) -> None:
    [event] = spec["definitions"]
    assert event["name"] == "acpi-genl-event"
    offset, offsets = 0, {}
    for member in event["members"]:
        offsets[member["name"].replace("-", "_")] = offset
        offset += member.get("len") or SIZES[member["type"]]
    there = dict(mirror.ffi.typeof("struct acpi_genl_event").fields)
    assert offset == mirror.sizeof("acpi_genl_event")
    assert offsets.keys() - there.keys() == {"pad"}
    assert {name: place.offset for name, place in there.items()} == {
        name: offsets[name] for name in there
    }
