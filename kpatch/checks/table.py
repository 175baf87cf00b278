# SPDX-License-Identifier: GPL-2.0-only
"""The table of the checks, in the order in which they run: from fast to slow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from kpatch.checks import (
    behaviour,
    bisect,
    checkpatch,
    comments,
    coverage,
    kconfig_symbols,
    kernel_doc,
    kunit,
    mail,
    maintainers,
    spdx,
    spelling,
    uapi,
    variants,
)
from kpatch.checks.context import Context
from kpatch.errors import HarnessError
from kpatch.model import Finding
from kpatch.tables.variants import VARIANTS

QUICK, PLAIN, DEBUG = "quick", "plain", "debug"


@dataclass(frozen=True)
class Row:
    """A check of a series.

    ``title`` is the sentence that holds if there is no finding. ``scope`` is "patch" if it judges
    patch by patch, else "series". ``group`` is its duration: seconds a patch (QUICK), minutes in
    the plain flavor (PLAIN), or runs of another flavor (DEBUG). ``run`` yields its findings, in
    any order, or raises CouldNotRunError or NotApplicableError (`kpatch.checks.context`).
    """

    name: str
    title: str
    scope: str
    group: str
    run: Callable[[Context], Iterable[Finding]]


CHECKS: tuple[Row, ...] = (
    Row(
        "mail",
        "Numbering, subject prefix, commit message and trailers are in order.",
        "patch",
        QUICK,
        mail.check,
    ),
    Row("checkpatch", "checkpatch --strict accepts the code.", "patch", QUICK, checkpatch.check),
    Row("comments", "Comments have the kernel's form.", "patch", QUICK, comments.check),
    Row("spelling", "No word that is added is misspelt.", "patch", QUICK, spelling.check),
    Row("kernel-doc", "No kernel-doc comment gets worse.", "patch", QUICK, kernel_doc.check),
    Row("spdx", "New files name licences that the tree has.", "patch", QUICK, spdx.check),
    Row(
        "kconfig",
        "Kconfig defines each symbol that is used, and a select breaks no dependency.",
        "patch",
        QUICK,
        kconfig_symbols.check,
    ),
    Row("maintainers", "MAINTAINERS knows the new files.", "patch", QUICK, maintainers.check),
    Row(
        "uapi",
        "Headers for user space keep names, values and layouts, and take free numbers.",
        "patch",
        QUICK,
        uapi.check,
    ),
    Row(
        "bisect",
        "Each patch builds and links, without a new warning.",
        "patch",
        QUICK,
        bisect.check,
    ),
    *(
        Row(one.name, one.title, "patch", PLAIN, partial(variants.check, chosen=one))
        for one in VARIANTS
    ),
    Row(
        "smoke",
        "The kernel boots after each patch, opens devices and reports no fault.",
        "patch",
        PLAIN,
        behaviour.smoke,
    ),
    Row(
        "kernel",
        "What every kernel promises a VMM still holds, and the kernel reports no fault.",
        "series",
        PLAIN,
        behaviour.every_kernel,
    ),
    Row(
        "mechanism",
        "The series meets the requirements of the mechanism that its kernel shows.",
        "series",
        PLAIN,
        behaviour.mechanism,
    ),
    Row(
        "selftests",
        "The tree's VFIO selftests pass as before, also those built without the series.",
        "series",
        PLAIN,
        behaviour.own_selftests,
    ),
    Row(
        "kunit",
        "The KUnit suites that the series brings or changes pass.",
        "series",
        PLAIN,
        kunit.check,
    ),
    Row(
        "coverage",
        "The suite runs every executable line that the series adds.",
        "patch",
        DEBUG,
        coverage.check,
    ),
    Row(
        "kernel-debug",
        "As kernel, with KASAN, lockdep, kmemleak and DEBUG_OBJECTS.",
        "series",
        DEBUG,
        partial(behaviour.every_kernel, flavor="debug"),
    ),
    Row(
        "mechanism-debug",
        "As mechanism, with KASAN, lockdep, kmemleak and DEBUG_OBJECTS.",
        "series",
        DEBUG,
        partial(behaviour.mechanism, flavor="debug"),
    ),
)

GROUPS: dict[str, tuple[str, ...]] = {
    QUICK: (QUICK,),
    PLAIN: (QUICK, PLAIN),
    "all": (QUICK, PLAIN, DEBUG),
}
"""Words that select several checks, as in CHECKS=quick: all rows of these groups."""

DEFAULT = (PLAIN,)


def selected(words: Iterable[str]) -> frozenset[str]:
    """Return the names of the checks that ``words`` select.

    A word is the name of a check or a key of GROUPS. HarnessError (exit 2) for any other.
    """
    names = {row.name for row in CHECKS}
    chosen: set[str] = set()
    for word in words:
        if word in GROUPS:
            chosen |= {row.name for row in CHECKS if row.group in GROUPS[word]}
        elif word in names:
            chosen.add(word)
        else:
            raise HarnessError(
                f"CHECKS={word}",
                "no check of this name",
                hint=f"choose from {', '.join([*GROUPS, *(row.name for row in CHECKS)])}",
            )
    return frozenset(chosen)
