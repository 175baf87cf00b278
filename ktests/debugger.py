# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's ACPI debugger (CONFIG_ACPI_DEBUGGER_USER): runs AML methods on demand.

Source: drivers/acpi/acpi_dbg.c for the file, drivers/acpi/acpica/db*.c for the commands. No
interrupt is involved: the SCI that would start a GPE method is simulated by calling the method.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Self

FILE = Path("/sys/kernel/debug/acpi/acpidbg")
PROMPT = b"- "
START_SECONDS = 2.0
POLL_SECONDS = 0.01
FAILURE = re.compile(r"AE_[A-Z_]+|Could not|Unknown|Invalid", re.ASCII)


class DebuggerError(RuntimeError):
    """The debugger did not do what it was told; the text is its answer."""


class Debugger:
    """An open debugger; only one can be open at a time. A context manager."""

    def __init__(self) -> None:
        self._file = os.open(FILE, os.O_RDWR | os.O_CLOEXEC)
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def run(self, command: str) -> str:
        """Run one command; what it printed. DebuggerError if that tells of a failure."""
        os.write(self._file, command.encode("ascii") + b"\n")
        answer = self._answer()
        if FAILURE.search(answer):
            raise DebuggerError(f"{command}: {answer.strip()}")
        return answer

    def evaluate(self, method: str, *arguments: int) -> str:
        """Evaluate a control method; returns when the method has, not when handlers have."""
        return self.run(" ".join(["evaluate", f"\\{method}", *map(hex, arguments)]))

    def _answer(self) -> str:
        data = b""
        end = time.monotonic() + START_SECONDS
        while data != PROMPT and not data.endswith(b"\n" + PROMPT):
            chunk = os.read(self._file, 1 << 16)
            # acpi_aml_read() gives nothing while the debugger's thread is not running yet.
            if not chunk and time.monotonic() > end:
                raise DebuggerError(f"closed after {data!r}")
            if not chunk:
                time.sleep(POLL_SECONDS)
            data += chunk
        return data[: -len(PROMPT)].decode("ascii", "replace")
