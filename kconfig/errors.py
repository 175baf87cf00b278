# SPDX-License-Identifier: GPL-2.0-only
"""The one exception that this package raises for what its user can correct."""

from __future__ import annotations


class RequestError(Exception):
    """A fragment, a kernel version or a symbol that cannot be used; printed as one line.

    ``what`` names the input ("acpi.config:3", "CONFIG_NETLNK"), ``cause`` says what is wrong
    with it, ``hint`` how to correct it.
    """

    def __init__(self, what: str, cause: str, *, hint: str) -> None:
        super().__init__(f"{what}: {cause}; {hint}")
        self.what = what
        self.cause = cause
        self.hint = hint
