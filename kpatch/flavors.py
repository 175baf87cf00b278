# SPDX-License-Identifier: GPL-2.0-only
"""Flavors: named stacks of config fragments (kconfig/fragments). Data, no logic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flavor:
    """A named config: its fragments in order, a later one overriding an earlier one."""

    name: str
    title: str
    fragments: tuple[str, ...]


FLAVORS: dict[str, Flavor] = {
    flavor.name: flavor
    for flavor in (
        Flavor(
            "plain",
            "small and fast: what the suite needs, no debugging aids that slow it down",
            ("core", "guest", "acpi", "vfio"),
        ),
    )
}

DEFAULT_FLAVOR = "plain"
