# SPDX-License-Identifier: GPL-2.0-only
"""Run Debian's unmodified acpid, which listens to the netlink family acpi_event, and acpi_listen.

acpid sends each event as one line to every client of its Unix socket: device class, bus id, and
type and data as eight hex digits each. acpi_listen is such a client, and prints the lines. See
acpid(8), acpi_listen(8).
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CLIENTS = Path(__file__).parent.parent / "clients"

# A generous limit: programs are slow to start under emulation.
SECONDS = 20.0


def missing() -> str:
    """Return the reason why tests cannot run acpid; "" if the suite's image contains acpid."""
    if (CLIENTS / "acpid").is_file():
        return ""
    return "could not run: the host has no acpid, and no archive to take it from; install it there"


class ClientError(RuntimeError):
    """acpid or acpi_listen ended, or did not print the expected line within `SECONDS`.

    The text contains the lines that the program has printed since the last expected line.
    """


class Lines:
    """Reads the output of a running program line by line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._name = process.args[0] if isinstance(process.args, list) else ""
        self._file = process.stdout.fileno()
        self._buffer = b""

    def until(self, wanted: Callable[[str], bool]) -> list[str]:
        """Read lines until ``wanted`` returns True for a line. Returns all lines that were read.

        The last of them is the wanted line. ClientError if the program ends before, or does not
        print the wanted line within `SECONDS`.
        """
        end = time.monotonic() + SECONDS
        lines: list[str] = []
        while not lines or not wanted(lines[-1]):
            while b"\n" not in self._buffer:
                self._more(end, lines)
            line, self._buffer = self._buffer.split(b"\n", 1)
            lines.append(line.decode(errors="replace").strip())
        return lines

    def _more(self, end: float, lines: list[str]) -> None:
        ready = select.select([self._file], [], [], max(0.0, end - time.monotonic()))[0]
        data = os.read(self._file, 1 << 16) if ready else b""
        if not data:
            how = "ended" if ready else f"is silent for {SECONDS:g} s"
            raise ClientError(f"{self._name} {how} after {lines} {self._buffer!r}")
        self._buffer += data


@contextmanager
def listening(folder: Path) -> Iterator[Lines]:
    """Run acpid, connect acpi_listen to it, and yield the output of acpi_listen.

    Both programs are killed at the end of the block. acpid creates its socket and its other files
    in ``folder``. It has no rules, so that no event makes it run a command. ClientError, with the
    log of acpid, if one of the programs does not start.
    """
    rules = folder / "events"
    rules.mkdir()
    socket = folder / "acpid.socket"
    daemon = [
        *(str(CLIENTS / "acpid"), "--foreground", "--netlink", "--logevents"),
        *("--confdir", str(rules), "--socketfile", str(socket)),
        *("--pidfile", str(folder / "pid"), "--lockfile", str(folder / "lock")),
    ]
    with _running(daemon) as log:
        # acpid logs this when it has opened its netlink socket and its Unix socket.
        log.until(lambda line: "waiting for events" in line)
        with _running([str(CLIENTS / "acpi_listen"), "--socketfile", str(socket)]) as lines:
            log.until(lambda line: "client connected" in line)
            yield lines


@contextmanager
def _running(argv: list[str]) -> Iterator[Lines]:
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield Lines(process)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
