# SPDX-License-Identifier: GPL-2.0-only
"""Flavors: named stacks of config fragments (kconfig/fragments). Data, no logic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flavor:
    """A named config: its fragments in order, a later one overriding an earlier one.

    ``slowness`` is how much longer than with the plain flavor a boot or a test may take: the limits
    (`kpatch.limits`) are multiplied by it.
    """

    name: str
    title: str
    fragments: tuple[str, ...]
    slowness: float = 1


FLAVORS: dict[str, Flavor] = {
    flavor.name: flavor
    for flavor in (
        Flavor(
            "plain",
            "small and fast: what the suite needs, no debugging aids that slow it down",
            ("core", "guest", "acpi", "vfio"),
        ),
        Flavor(
            "debug",
            "slow and strict: KASAN, lockdep, kmemleak, DEBUG_OBJECTS",
            ("core", "guest", "acpi", "vfio", "debug"),
            slowness=6,
        ),
    )
}

DEFAULT_FLAVOR = "plain"
