# SPDX-License-Identifier: GPL-2.0-only
"""Variants: other ways to build a kernel, by which a series is judged beside the plain flavor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from kpatch.tables.flavors import DEFAULT_FLAVOR
from kpatch.tables.outcomes import CheckOutcome


class Scope(Enum):
    """What of the kernel a variant builds."""

    OBJECTS = "objects"
    """The objects of the changed files, after each patch."""
    KERNEL = "kernel"
    """vmlinux and modules, linked; of the whole series first, patch by patch where that fails."""
    SOURCES = "sources"
    """Nothing: a tool reads the changed files."""


@dataclass(frozen=True)
class Variant:
    """A variant: its ``settings`` for make, and the ``fragments`` that it adds to the plain ones.

    ``title`` says what the check of the variant holds the series against. The symbols of the
    fragments have to stick; those of the plain flavor may get lost (without ACPI many do).
    ``tools`` maps programs to the Debian packages that have them. ``severity`` is the outcome of a
    new warning. ``llvm``: built with the newest clang instead of gcc. With a ``seed`` the symbols
    around the changed files get random values. ``like`` is the flavor or variant with whose objects
    a new worktree starts, "" if none are of use: make compiles again what differs in symbols.
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
        # Linux 7.3 uses __typeof_unqual__ (C23), which sparse 0.6.4 does not know; for what sparse
        # checks it is __typeof__.
        settings=("C=2", "CHECK=sparse -D__typeof_unqual__=__typeof__"),
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
