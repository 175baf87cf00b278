# SPDX-License-Identifier: GPL-2.0-only
"""Reviews to render: a good one, bad ones, and one with hostile text in every field."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from kpatch.lib.stage import StageRecord
from kpatch.model import Check, Finding
from kpatch.report.result import KernelInfo
from kpatch.report.review.record import PatchInfo, Review
from kpatch.tables.outcomes import CheckOutcome, ExitCode

NASTY = (
    "\x1b[2J"
    + "A" * 300
    + "\x1b]0;owned\x07<script>alert(1)</script>&amp;\"'`|*_[x](javascript:x) # SKIP @all "
    "\u202egnp.exe\u2066\r\nok 1 - not ok 2 ERROR: ]]>\x00\ud800 {{ 7 * 7 }} ::error::x\n"
    "not ok 3\n\n---\n# a heading\n</td></table>"
)
"""Escape sequences, markup, direction marks, CR, NUL, a surrogate, directives, a long word."""

PATCHES = (
    PatchInfo(
        1, "vfio: Add a field for notifications", "A Person <a@example.org>", "1@x", "1" * 64
    ),
    PatchInfo(
        2, "vfio/pci: Forward ACPI notifications", "A Person <a@example.org>", "2@x", "2" * 64
    ),
    PatchInfo(
        3, "docs: Describe VFIO_PCI_ACPI_IRQ_INDEX", "B Person <b@example.org>", "3@x", "3" * 64
    ),
)


def check(name: str, outcome: CheckOutcome = CheckOutcome.PASS, **more: Any) -> Check:
    title = more.pop("title", f"Judges by {name}.")
    return Check(name, title, more.pop("scope", "patch"), outcome, **more)


BROKEN = Finding(
    "does not build: implicit declaration of function 'vfio_acpi_notify'",
    patch=2,
    file="drivers/vfio/pci/vfio_pci_acpi.c",
    line=41,
    details=(
        "drivers/vfio/pci/vfio_pci_acpi.c: In function 'vfio_pci_acpi_init':",
        "drivers/vfio/pci/vfio_pci_acpi.c:41:9: error: implicit declaration of function "
        "'vfio_acpi_notify' [-Werror=implicit-function-declaration]",
        "   41 |         vfio_acpi_notify(vdev);",
        "      |         ^~~~~~~~~~~~~~~~",
    ),
    command="make -j2 O=build drivers/vfio/pci/vfio_pci_acpi.o",
)
WARNING = Finding(
    "no previous prototype for 'vfio_pci_acpi_exit' [-Wmissing-prototypes]",
    CheckOutcome.WARN,
    patch=2,
    file="drivers/vfio/pci/vfio_pci_acpi.c",
    line=77,
    details=(
        "drivers/vfio/pci/vfio_pci_core.c:12:5: warning: unused variable 'old' [-Wunused-variable]",
        "drivers/vfio/pci/vfio_pci_acpi.c:77:6: warning: no previous prototype for "
        "'vfio_pci_acpi_exit' [-Wmissing-prototypes]",
    ),
    removed_by=3,
)
SPLAT = Finding(
    "the kernel reports KASAN: slab-use-after-free Read in vfio_pci_acpi_notify",
    details=("BUG: KASAN: slab-use-after-free in vfio_pci_acpi_notify+0x1c/0x40",),
)

GOOD = Review(
    exit_code=ExitCode.PASS,
    name="v2",
    subject="[PATCH v2 0/3] vfio/pci: Forward ACPI notifications",
    message_id="20261126.cover@example.org",
    version=2,
    patches=PATCHES,
    started="2026-11-26T14:00:00Z",
    seconds=312.4,
    kernel=KernelInfo("7.3.4", "debian", "0123456789abcdef", {"package": "linux-source-7.3"}),
    base="7.3.4: its files are those that the diffs were made from",
    flavor="plain",
    config_id="fedcba9876543210",
    confinement="bubblewrap",
    tools={
        "vfio-acpi": "0.1.0",
        "compiler": "gcc (Debian 12.2.0-14) 12.2.0; GNU ld 2.40",
        "qemu": "7.2.22",
    },
    checks=(
        check("form", notes=("checkpatch: 3 patches, no remark",)),
        check("bisect", parts=3, reused=2, seconds=44.0, commands=("make -j2 bzImage",)),
        check("kernel", scope="series", commands=("python -m kpatch test --series v2.mbox",)),
    ),
    stages=(StageRecord("bisect", "v2", 44.0, False, ("make -j2 bzImage",)),),
    command="python -m kpatch check --series v2.mbox",
)
BAD = dataclasses.replace(
    GOOD,
    exit_code=ExitCode.FAIL,
    checks=(
        check("form"),
        check("bisect", CheckOutcome.FAIL, findings=(BROKEN,), commands=("make -j2 bzImage",)),
        check("w1", CheckOutcome.WARN, findings=(WARNING,), notes=("the base prints it too: x",)),
        check("coccinelle", CheckOutcome.COULD_NOT_RUN, reason="spatch is missing; install it"),
        check("uapi", CheckOutcome.NOT_APPLICABLE, reason="no header of the uAPI is touched"),
        check("kernel", CheckOutcome.FAIL, scope="series", findings=(SPLAT,)),
        check("kernel-debug", CheckOutcome.NOT_SELECTED, scope="series", reason="not selected"),
    ),
)
UNJUDGED = dataclasses.replace(
    GOOD,
    exit_code=ExitCode.NOT_JUDGED,
    subject="",
    message_id="",
    kernel=None,
    config_id="",
    tools={},
    checks=(check("bisect", CheckOutcome.COULD_NOT_RUN, reason="the disk is full"),),
)
INTERRUPTED = dataclasses.replace(
    BAD,
    exit_code=ExitCode.INTERRUPTED,
    checks=(
        *BAD.checks[:2],
        check("kernel", CheckOutcome.COULD_NOT_RUN, reason="the review was interrupted"),
    ),
)
MANY = dataclasses.replace(
    BAD,
    checks=(
        check(
            "w1",
            CheckOutcome.FAIL,
            findings=tuple(
                dataclasses.replace(
                    WARNING,
                    text=f"warning number {n}",
                    outcome=CheckOutcome.FAIL if n < 4 else CheckOutcome.WARN,
                )
                for n in range(60)
            ),
        ),
        *BAD.checks[3:],
    ),
)


def hostile(value: Any) -> Any:
    """Return ``value`` with every text in it made hostile; enums, numbers and names stay."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = ("name", "scope", "provider", "tree_id", "sha256", "started", "flavor", "config_id")
        changed = {
            field.name: hostile(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in kept
        }
        return dataclasses.replace(value, **changed)
    if isinstance(value, CheckOutcome | ExitCode) or not isinstance(value, str | tuple | Mapping):
        return value
    if isinstance(value, str):
        return f"{value}{NASTY}"
    if isinstance(value, tuple):
        return tuple(map(hostile, value))
    return {name: hostile(text) for name, text in value.items()}


def _named(review: Review) -> Review:
    """Give a hostile name to the series too."""
    return dataclasses.replace(review, name=NASTY)


REVIEWS: dict[str, Review] = {
    "good": GOOD,
    "bad": BAD,
    "unjudged": UNJUDGED,
    "interrupted": INTERRUPTED,
    "many": MANY,
    "hostile": _named(hostile(BAD)),
}


def texts(review: Review) -> Iterator[str]:
    """Yield what a reader has to find of ``review`` in an output for readers."""
    for one in review.checks:
        yield one.name
