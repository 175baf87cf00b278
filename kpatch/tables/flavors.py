# SPDX-License-Identifier: GPL-2.0-only
"""Flavors: named stacks of config fragments (kconfig/fragments). Data, no logic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flavor:
    """A named config: its fragments in order; a later one overrides an earlier one.

    ``slowness`` is the factor by which a boot or a test may be slower than with the plain flavor;
    the limits (`kpatch.tables.limits`) are multiplied by it. ``arguments`` are words for the
    kernel's command line. They belong to the flavor because a kernel without its options does not
    recognise them and would pass them to init.
    """

    name: str
    title: str
    fragments: tuple[str, ...]
    slowness: float = 1
    arguments: tuple[str, ...] = ()


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
            # Without it KASAN makes one report in a boot, and later faults are not seen
            # (mm/kasan/report.c, since 4.11).
            arguments=("kasan_multi_shot",),
        ),
    )
}

DEFAULT_FLAVOR = "plain"
