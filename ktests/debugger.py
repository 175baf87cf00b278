# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's ACPI debugger (CONFIG_ACPI_DEBUGGER_USER), which evaluates AML methods on demand.

No interrupt is involved: on a real machine an SCI would start the method that notifies a device.
Source: drivers/acpi/acpi_dbg.c for the file, drivers/acpi/acpica/db*.c for the commands.
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
# Each method of the test firmware ends by storing this string to Debug, and `Debugger.run` waits
# for this output. The prompt comes only 10 ms later, to let handlers run (acpi_db_execute()), and
# 10 ms is as long as the rest of a small test takes.
RAN = b'"notified"\n'
# START_SECONDS: the time after which Debugger._open() gives up.
# PROMPT_SECONDS: the time in which the debugger's thread has to prompt after one opening.
START_SECONDS = 20.0
PROMPT_SECONDS = 2.0
FAILURE = re.compile(r"AE_[A-Z_]+|Could not|Unknown|Invalid", re.ASCII)


class DebuggerError(RuntimeError):
    """The debugger does not prompt, its thread has ended, or its output reports a failure."""


class Debugger(Closing):
    """The open debugger. A context manager. The kernel lets it be opened only once at a time.

    DebuggerError if it does not prompt within about `START_SECONDS`.
    """

    def __init__(self) -> None:
        self._prompted = True
        self._open()

    def close(self) -> None:
        """Close the debugger, so that another process can open it."""
        os.close(self._file)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Close the debugger until the end of the block, so that another process can open it."""
        self.close()
        try:
            yield
        finally:
            self._open()

    def run(self, command: str) -> str:
        """Run one debugger command and return its output, without the prompt.

        If the command evaluates a method of the test firmware, this returns when the method has
        stored its last string (`RAN`). The output that follows is discarded by the next command.
        DebuggerError if the output reports a failure, or if the debugger's thread ends.
        """
        self.settle()
        os.write(self._file, command.encode("ascii") + b"\n")
        answer = self._answer(RAN)
        if FAILURE.search(answer):
            raise DebuggerError(f"{command}: {answer.strip()}")
        return answer

    def settle(self) -> None:
        """Wait for the prompt that follows the output of the last command."""
        if not self._prompted:
            self._answer()

    def evaluate(self, method: str, *arguments: int) -> str:
        """Evaluate a control method with integer arguments. Returns the output as `run` does.

        ``method`` is the name of a method in the root of the namespace, without the backslash.
        Notify handlers may still be queued when the method has ended.
        """
        return self.run(" ".join(["evaluate", f"\\{method}", *map(hex, arguments)]))

    def _open(self) -> None:
        """Open `FILE`; close and open it again until the debugger's thread prompts.

        acpi_aml_open() starts the thread before it marks the file as open. A thread that runs
        before the mark finds the file closed, and ends or loses its prompt. DebuggerError after
        `START_SECONDS`.
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
        """Read up to the prompt, or until the output ends with one of ``enough``.

        Returns the output without the prompt. DebuggerError if the debugger's thread ends.
        """
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
