# SPDX-License-Identifier: GPL-2.0-only
"""Kernel reports that the harness itself provokes on unpatched kernels.

Such a report does not count against a series: it is shown and recorded with its reason, and is no
crash. A row has to match one place in the kernel so narrowly that no report about a series' code
matches it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A known report: its kind, patterns that all have to match its text, and its cause."""

    kind: str
    patterns: tuple[re.Pattern[str], ...]
    why: str


KNOWN: tuple[Known, ...] = (
    # acpi_aml_kern_readable() and acpi_aml_kern_writable() in drivers/acpi/acpi_dbg.c take a mutex
    # and are the condition of a wait_event(). CONFIG_DEBUG_ATOMIC_SLEEP reports it once in a boot.
    Known(
        "warning",
        (
            re.compile(r"do not call blocking ops when !TASK_RUNNING"),
            re.compile(r"Comm: aml "),
            re.compile(
                r"^\[ *[\d.]+\](?:\[.*\])? +acpi_aml_kern_(?:read|writ)able\+", re.MULTILINE
            ),
        ),
        "the kernel's ACPI debugger takes a mutex in the condition of a wait_event()",
    ),
)


def why(kind: str, excerpt: str) -> str:
    """Return the cause of a known report of ``kind`` with the text ``excerpt``, "" if unknown."""
    for known in KNOWN:
        if known.kind == kind and all(pattern.search(excerpt) for pattern in known.patterns):
            return known.why
    return ""
