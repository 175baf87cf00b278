# SPDX-License-Identifier: GPL-2.0-only
"""Variants: other configs, compilers and checkers than those of the plain flavor. Data, no logic.

The command ``check`` has a check for each variant, which reports new errors and warnings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from kpatch.tables.flavors import DEFAULT_FLAVOR
from kpatch.tables.outcomes import CheckOutcome


class Scope(Enum):
    """The part of the kernel that a variant builds."""

    OBJECTS = "objects"
    """The objects of changed sources and of some sources that include a changed header.

    They are built after each patch.
    """
    KERNEL = "kernel"
    """vmlinux and the modules, linked.

    They are built after the whole series; if that gives a finding, also after each patch.
    """
    SOURCES = "sources"
    """Nothing is built: a tool reads the changed sources."""


@dataclass(frozen=True)
class Variant:
    """A variant: its ``settings`` for make, and the ``fragments`` that it adds to the plain flavor.

    ``title`` is the sentence that the check of the variant tests. The .config must have the values
    that these fragments request; it may lack values that the plain flavor requests (without ACPI it
    lacks many). ``tools`` maps the programs that the variant needs to their Debian packages.
    ``severity`` is the outcome of a new warning. With ``llvm``, the newest clang compiles instead
    of gcc. If ``seed`` is not 0, symbols that the changed files mention, or that the Kconfig files
    beside them define, get random values. A new worktree of the variant starts with the objects of
    the flavor or variant ``like``, and make compiles only the objects whose symbols differ; "" if
    that would be all of them.
    """

    name: str
    title: str
    scope: Scope
    settings: tuple[str, ...] = ()
    fragments: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    severity: CheckOutcome = CheckOutcome.FAIL
    llvm: bool = False
    seed: int = 0
    like: str = DEFAULT_FLAVOR


VARIANTS: tuple[Variant, ...] = (
    Variant(
        "w1",
        "No patch brings a warning of gcc with W=1.",
        Scope.OBJECTS,
        settings=("W=1",),
        severity=CheckOutcome.WARN,
    ),
    Variant(
        "sparse",
        "No patch brings a warning of sparse.",
        Scope.OBJECTS,
        # Linux 7.3 uses __typeof_unqual__ (C23), which sparse 0.6.4 does not know. __typeof__ is a
        # replacement that makes no difference to what sparse checks. Its MODULE_INFO() asserts the
        # length of a literal by __builtin_strlen(), which sparse does not fold.
        settings=(
            "C=2",
            "CHECK=sparse -D__typeof_unqual__=__typeof__"
            " '-D__builtin_strlen(text)=(sizeof(text)-1)'",
        ),
        tools={"sparse": "sparse"},
        severity=CheckOutcome.WARN,
    ),
    Variant(
        "clang",
        "The changed files compile with clang, without a new warning.",
        Scope.OBJECTS,
        severity=CheckOutcome.WARN,
        llvm=True,
        like="",
    ),
    Variant(
        "coccinelle",
        "No patch brings a report of the tree's Coccinelle scripts.",
        Scope.SOURCES,
        tools={"spatch": "coccinelle"},
        severity=CheckOutcome.WARN,
    ),
    Variant(
        "acpi-off",
        "The kernel builds and links with CONFIG_ACPI=n, without a new warning.",
        Scope.KERNEL,
        fragments=("acpi-off",),
    ),
    Variant(
        "vfio-modules",
        "The kernel and its modules link with VFIO=m, without a new warning.",
        Scope.KERNEL,
        fragments=("vfio-modules",),
    ),
    Variant(
        "i386",
        "The kernel builds and links for i386, without a new warning.",
        Scope.KERNEL,
        settings=("ARCH=i386",),
        fragments=("i386",),
        like="",
    ),
    Variant(
        "randconfig-1",
        "The kernel builds and links with random values of the symbols around the changes.",
        Scope.KERNEL,
        seed=1,
    ),
    Variant(
        "randconfig-2",
        "As randconfig-1, with other values, and modules.",
        Scope.KERNEL,
        fragments=("modules",),
        seed=2,
        like="vfio-modules",
    ),
)
