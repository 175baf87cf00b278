# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's ACPI debugger (CONFIG_ACPI_DEBUGGER_USER): runs AML methods on demand.

Source: drivers/acpi/acpi_dbg.c for the file, drivers/acpi/acpica/db*.c for the commands. No
interrupt is involved: the SCI that would start a GPE method is simulated by calling the method.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uapi.closing import Closing

FILE = Path("/sys/kernel/debug/acpi/acpidbg")
PROMPT = b"- "
# The last thing that a method of the test firmware does is to store this to Debug. The debugger
# prompts only 10 ms later, in case there are handlers (acpi_db_execute()): as long as all the
# rest of a small test takes.
RAN = b'"notified"\n'
# How often a thread that lost its race may be started anew, and what one takes at most to prompt.
START_SECONDS = 20.0
PROMPT_SECONDS = 2.0
FAILURE = re.compile(r"AE_[A-Z_]+|Could not|Unknown|Invalid", re.ASCII)


class DebuggerError(RuntimeError):
    """The debugger did not do what it was told; the text is its answer."""


class Debugger(Closing):
    """An open debugger; only one can be open at a time. A context manager."""

    def __init__(self) -> None:
        self._prompted = True
        self._open()

    def close(self) -> None:
        """Leave the debugger to somebody else."""
        os.close(self._file)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Leave the debugger to somebody else for the length of the block."""
        self.close()
        try:
            yield
        finally:
            self._open()

    def run(self, command: str) -> str:
        """Run one command; what it printed. DebuggerError if that tells of a failure.

        A method of the test firmware has run to its end then, and the rest of what the debugger
        has to say of it is skipped.
        """
        if not self._prompted:
            self._answer()
        os.write(self._file, command.encode("ascii") + b"\n")
        answer = self._answer(RAN)
        if FAILURE.search(answer):
            raise DebuggerError(f"{command}: {answer.strip()}")
        return answer

    def evaluate(self, method: str, *arguments: int) -> str:
        """Evaluate a control method; returns when the method has, not when handlers have."""
        return self.run(" ".join(["evaluate", f"\\{method}", *map(hex, arguments)]))

    def _open(self) -> None:
        """Open the file anew until its thread prompts.

        acpi_aml_open() starts the thread before it marks the file as open. A thread that is faster
        finds it closed: it ends, or its prompt is lost.
        """
        end = time.monotonic() + START_SECONDS
        while True:
            self._file = os.open(FILE, os.O_RDWR | os.O_CLOEXEC)
            if self._prompts():
                return
            self.close()
            if time.monotonic() > end:
                raise DebuggerError(f"{FILE} gives no prompt")

    def _prompts(self) -> bool:
        if not select.select([self._file], [], [], PROMPT_SECONDS)[0]:
            return False
        try:
            self._answer()
        except DebuggerError:
            return False
        return True

    def _answer(self, *enough: bytes) -> str:
        """What is printed up to the prompt, or up to one of ``enough`` if that comes first."""
        data = b""
        self._prompted = False
        while not self._prompted:
            if data.endswith(enough):
                return data.decode("ascii", "replace")
            chunk = os.read(self._file, 1 << 16)
            if not chunk:
                raise DebuggerError(f"the debugger's thread ended after {data!r}")
            data += chunk
            self._prompted = data == PROMPT or data.endswith(b"\n" + PROMPT)
        return data[: -len(PROMPT)].decode("ascii", "replace")
