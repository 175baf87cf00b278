# SPDX-License-Identifier: GPL-2.0-only
"""What unpatched kernels complain of because of how the harness drives them.

Such a report says nothing of a series. It is shown and recorded with its reason, and is no crash.
A row has to name the place in the kernel so closely that nothing of a series can pass for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A known report: its kind, what every one of the patterns is found in, and why it comes."""

    kind: str
    patterns: tuple[re.Pattern[str], ...]
    why: str


KNOWN: tuple[Known, ...] = (
    # acpi_aml_kern_readable() and acpi_aml_kern_writable() in drivers/acpi/acpi_dbg.c take a mutex
    # and are the condition of a wait_event(). Seen by CONFIG_DEBUG_ATOMIC_SLEEP, once in a boot.
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
    """Why a report of that kind and text was to be expected, "" if it was not."""
    for known in KNOWN:
        if known.kind == kind and all(pattern.search(excerpt) for pattern in known.patterns):
            return known.why
    return ""
