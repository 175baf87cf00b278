# SPDX-License-Identifier: GPL-2.0-only
"""Debian's acpid and acpi_listen, run as they are: a client of acpi_event that knows nothing of us.

acpid listens to the family and passes every event on to whoever is connected to its socket, as a
line: device class, bus id, and type and data as eight hex digits each. acpi_listen connects and
prints the lines. See acpid(8), acpi_listen(8).
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

# A limit, no figure: programs are slow to start under emulation.
SECONDS = 20.0


def missing() -> str:
    """Return why no test with acpid can run; "" where the host could get it."""
    if (CLIENTS / "acpid").is_file():
        return ""
    return "could not run: the host has no acpid, and no archive to take it from; install it there"


class ClientError(RuntimeError):
    """A program ended, or did not say what it was waited for."""


class Lines:
    """What a program prints, line by line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._name = process.args[0] if isinstance(process.args, list) else ""
        self._file = process.stdout.fileno()
        self._buffer = b""

    def until(self, wanted: Callable[[str], bool]) -> list[str]:
        """The lines up to the first that is wanted, which comes last; ClientError without one."""
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
    """Run acpid, and acpi_listen connected to it; its lines. Both end with the block.

    ``folder`` takes acpid's socket and its other files; there are no rules, so that it acts on
    nothing. ClientError, with what acpid logged, if either does not start.
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
        # It says so when everything is open.
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
