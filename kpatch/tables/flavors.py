# SPDX-License-Identifier: GPL-2.0-only
"""Flavors: named stacks of config fragments (kconfig/fragments). Data, no logic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flavor:
    """A named config: its fragments in order, a later one overriding an earlier one.

    ``slowness`` is how much longer than with the plain flavor a boot or a test may take: the limits
    (`kpatch.tables.limits`) are multiplied by it. ``arguments`` are for the kernel's command line:
    what a kernel without the flavor's options does not know, it would hand to init.
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
            # KASAN reports once in a boot otherwise, and what a test does wrong after that is
            # not seen (mm/kasan/report.c, since 4.11).
            arguments=("kasan_multi_shot",),
        ),
    )
}

DEFAULT_FLAVOR = "plain"
