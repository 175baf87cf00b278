# SPDX-License-Identifier: GPL-2.0-only
"""The exception that this package raises for faults that its user can correct."""

from __future__ import annotations


class RequestError(Exception):
    """A fragment, a kernel version or a symbol cannot be used; the text is one line.

    ``what`` names the input ("acpi.config:3", "CONFIG_NETLNK"), ``cause`` is the fault in it,
    ``hint`` is an instruction for the user.
    """

    def __init__(self, what: str, cause: str, *, hint: str) -> None:
        super().__init__(f"{what}: {cause}; {hint}")
        self.what = what
        self.cause = cause
        self.hint = hint
