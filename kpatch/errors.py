# SPDX-License-Identifier: GPL-2.0-only
"""The exception for failures that the harness reports to the user in one line."""

from __future__ import annotations

from kpatch.tables.outcomes import ExitCode


class HarnessError(Exception):
    """A failure with its input, its cause and a hint; printed as one line, without a traceback.

    ``what`` names the input ("KERNEL=7.4", "series netlink, patch 2/3"), ``cause`` is the fault
    in it, ``hint`` is an instruction for the user. ``details`` may have further lines, such as a
    compiler's messages or a rejected hunk; they are printed before the line. ``code`` is the exit
    code of the command.
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
