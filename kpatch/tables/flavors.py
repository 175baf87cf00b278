# SPDX-License-Identifier: GPL-2.0-only
"""Flavors: named kernel configs, each a list of fragments (kconfig/fragments). Data, no logic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flavor:
    """A named config: its fragments in order; a later one overrides an earlier one.

    ``title`` describes it in one line. ``slowness`` is the factor by which a boot or a test may be
    slower than with the plain flavor; all time limits (`kpatch.tables.limits`) are multiplied by
    it. ``arguments`` are words for the kernel's command line. They belong to the flavor because a
    kernel that was built without its symbols does not know them, and would pass them to init. A new
    worktree of the flavor starts with the objects of the flavor ``like``, as that of a variant does
    (`kpatch.tables.variants`). With ``inner``, the test VM has the files of an inner guest
    (`kpatch.vm.inner`). With ``gcov``, the objects of a series' own sources count their lines
    (`kpatch.build.gcov`). ``cpus`` is the number of CPUs of the test VM. ``settings`` are variables
    for make's command line.
    """

    name: str
    title: str
    fragments: tuple[str, ...]
    slowness: float = 1
    arguments: tuple[str, ...] = ()
    like: str = ""
    inner: bool = False
    gcov: bool = False
    cpus: int = 2
    settings: tuple[str, ...] = ()


LOG_LEAKS = "kmemleak.verbose=1"
"""Without it kmemleak logs only the number of leaks that a scan has found (mm/kmemleak.c)."""

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
            # Without kasan_multi_shot KASAN prints only its first report after a boot (since 4.11,
            # mm/kasan/report.c), and later faults are not seen.
            arguments=("kasan_multi_shot", LOG_LEAKS),
        ),
        Flavor(
            "lockdep",
            "plain, with lockdep: locks taken in an order or a context that can deadlock",
            ("core", "guest", "acpi", "vfio", "lockdep"),
            slowness=3,
        ),
        Flavor(
            "kmemleak",
            "plain, with kmemleak: memory to which there is no pointer",
            ("core", "guest", "acpi", "vfio", "kmemleak"),
            slowness=4,
            arguments=(LOG_LEAKS,),
        ),
        Flavor(
            "kcsan",
            "plain, with KCSAN: data races",
            ("core", "guest", "acpi", "vfio", "kcsan"),
            slowness=4,
            # scripts/Makefile.lib: the variable says for each object whether KCSAN watches its
            # accesses. All others are left out: the races of the rest of the kernel (of ACPICA, of
            # the ACPI debugger) differ from boot to boot, so that the negative control could not
            # excuse them.
            settings=(
                "KCSAN_SANITIZE=$(if $(filter drivers/vfio/% drivers/acpi/event"
                " drivers/iommu/iommufd/% virt/% fs/eventfd,$(obj)/$(target-stem)),y,n)",
            ),
        ),
        Flavor(
            "preempt",
            "plain, with full preemption on 4 CPUs",
            ("core", "guest", "acpi", "vfio", "preempt"),
            slowness=3,
            cpus=4,
        ),
        Flavor(
            "hypervisor",
            "plain, with KVM and control groups of memory: what a host of VMs has",
            ("core", "guest", "acpi", "vfio", "hypervisor"),
            like="plain",
        ),
        Flavor(
            "relay",
            "plain, with a second VM inside of the test VM, to which a device is passed through",
            ("core", "guest", "acpi", "vfio"),
            slowness=8,
            like="plain",
            inner=True,
        ),
        Flavor(
            "failslab",
            "plain, with allocations that fail on demand, and kmemleak",
            ("core", "guest", "acpi", "vfio", "failslab", "kmemleak"),
            slowness=4,
            arguments=(LOG_LEAKS,),
        ),
        Flavor(
            "coverage",
            "plain, with allocations that fail on demand, and counters of the lines that run",
            ("core", "guest", "acpi", "vfio", "failslab", "coverage"),
            slowness=2,
            like="plain",
            gcov=True,
        ),
    )
}

DEFAULT_FLAVOR = "plain"
