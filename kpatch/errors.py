# SPDX-License-Identifier: GPL-2.0-only
"""The only exception that the harness raises for faults that a user can correct."""

from __future__ import annotations

from kpatch.tables.outcomes import ExitCode


class HarnessError(Exception):
    """A failure with its input, its cause and a hint; printed as one line, without a traceback.

    ``what`` names the input ("KERNEL=7.4", "series netlink, patch 2/3"), ``cause`` is the fault
    in it, ``hint`` is an instruction for the user. ``details`` may have further lines for the log
    (a compiler's message, a hunk); they are printed after the line. ``code`` is the exit code.
    """

    def __init__(
        self,
        what: str,
        cause: str,
        *,
        hint: str,
        code: ExitCode = ExitCode.USAGE,
        details: str = "",
    ) -> None:
        super().__init__(f"{what}: {cause}; {hint}")
        self.what = what
        self.cause = cause
        self.hint = hint
        self.code = code
        self.details = details
