# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A client of QEMU's qtest protocol: it reads and writes guest memory, and drives interrupts.

It has full control over the guest, so it is for tests and demonstrations only.

A command is a line of words. Its answer is a line, "OK" and the result, or "FAIL" and the reason
(system/qtest.c in QEMU's source). QEMU's own client in Python is a part of QEMU's source tree, and
is not published as a package.
"""

from __future__ import annotations

import re
import socket

from ..errors import Error

SECONDS = 10.0

# More than the longest answer that a command of this module has.
ANSWER_LIMIT = 4096

# The I/O APIC of QEMU's machine q35 in its object tree, and an input of it: an ISA interrupt that
# no device has by default. 5, 9, 10, 11, and those above 15, are wired to PCI devices.
IO_APIC = "/machine/q35/ioapic"
FREE_PIN = 7

_NUMBER = re.compile(r"0x[0-9a-f]{1,16}")


class QTestError(Error, OSError):
    """QEMU's answer is missing, a failure, or not of the protocol."""


class QTest:
    """A qtest client on ``channel``, a socket whose other end QEMU has.

    ``seconds`` is the time limit of each step of a command. After a failure of the channel, every
    further command fails at once: the answer to an earlier one could still come. QTestError in
    each method: QEMU reports a failure, gives another answer than the protocol allows, closes the
    connection, or does not answer in time.
    """

    def __init__(self, channel: socket.socket, *, seconds: float = SECONDS) -> None:
        self._channel = channel
        self._channel.settimeout(seconds)
        self._broken = ""

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` to the guest's physical memory at ``address``."""
        self._command(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def read32(self, address: int) -> int:
        """Return the 32-bit number at ``address`` in the guest's physical memory."""
        command = f"readl {address:#x}"
        answer = self._command(command)
        if not _NUMBER.fullmatch(answer):
            raise self.failure(command, f"answer {answer[:60]!a} is no number")
        return int(answer, 16) & 0xFFFF_FFFF

    def pulse(self, controller: str, pin: int) -> None:
        """Raise the input ``pin`` of an interrupt controller, then lower it.

        ``controller`` is the controller's path in QEMU's object tree.
        """
        for level in (1, 0):
            self._command(f"set_irq_in {controller} unnamed-gpio-in {pin} {level}")

    def failure(self, command: str, cause: str) -> Exception:
        """Return the exception about ``command``. A subclass may have its own."""
        return QTestError(f"qtest {' '.join(command.split()[:2])}: {cause}")

    def _command(self, command: str) -> str:
        """Run a command and return the text after "OK"."""
        if self._broken:
            raise self.failure(command, self._broken)
        try:
            self._channel.sendall(command.encode() + b"\n")
            answer = self._answer()
        except OSError as error:  # TimeoutError is an OSError
            self._broken = str(error)
            raise self.failure(command, self._broken) from error
        word, _, rest = answer.partition(" ")
        if word != "OK":
            raise self.failure(command, f"answer {answer[:60]!a}")
        return rest

    def _answer(self) -> str:
        """Read one line and return it without its newline. OSError if it does not come."""
        data = b""
        while not data.endswith(b"\n"):
            chunk = self._channel.recv(ANSWER_LIMIT)
            if not chunk:
                raise ConnectionResetError("QEMU has closed the connection")
            data += chunk
            if len(data) > ANSWER_LIMIT:
                raise ConnectionError(f"an answer of more than {ANSWER_LIMIT} bytes")
        return data.decode(errors="replace").rstrip("\n")
