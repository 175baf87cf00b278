# SPDX-License-Identifier: GPL-2.0-only
"""A client of QEMU's qtest protocol, by which the host raises the interrupts of a test machine."""

from __future__ import annotations

from kpatch.errors import HarnessError
from kpatch.tables.outcomes import ExitCode
from uapi.vmm import qtest


class QTest(qtest.QTest):
    """The client of `uapi.vmm.qtest`, whose failures are HarnessError (exit 7)."""

    def failure(self, command: str, cause: str) -> HarnessError:
        """Return the error about ``command``."""
        what = f"qtest {' '.join(command.split()[:2])}"
        return HarnessError(what, cause, hint="see the console log", code=ExitCode.LOST)
