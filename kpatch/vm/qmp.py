# SPDX-License-Identifier: GPL-2.0-only
"""A client of QEMU's monitor (QMP) over a socket, with a time limit for every step.

qemu.qmp's own synchronous client has a time limit for commands, but none for the greeting and the
negotiation: it waits for ever if QEMU is stopped or stuck.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress

from qemu.qmp import QMPClient, QMPError

from kpatch.errors import HarnessError
from kpatch.tables.outcomes import ExitCode

SECONDS = 10.0
CLOSE_SECONDS = 1.0


class Monitor:
    """A QMP client on ``channel``, a socket whose other end QEMU has.

    The first command does the handshake. ``seconds`` is the time limit of each command, including
    the handshake.
    """

    def __init__(self, channel: socket.socket, *, seconds: float = SECONDS) -> None:
        self._channel = channel
        self._seconds = seconds
        self._runner = asyncio.Runner()
        self._client: QMPClient | None = None

    def command(self, name: str, arguments: Mapping[str, object]) -> object:
        """Run the QMP command ``name`` with ``arguments``, and return its answer.

        HarnessError (exit 7) if QEMU reports an error, closes the connection, or does not answer in
        time.
        """
        try:
            return self._runner.run(self._execute(name, arguments))
        except (QMPError, OSError, EOFError) as error:  # TimeoutError is an OSError
            reason = str(error) or f"no answer within {self._seconds:g} s"
            raise HarnessError(
                f"QMP {name}", reason, hint="see the console log", code=ExitCode.LOST
            ) from error

    async def _execute(self, name: str, arguments: Mapping[str, object]) -> object:
        async with asyncio.timeout(self._seconds):
            if self._client is None:
                client = QMPClient("vfio-acpi")
                await client.connect(self._channel)
                self._client = client
            return await self._client.execute(name, dict(arguments))

    def close(self) -> None:
        """Disconnect within CLOSE_SECONDS, if a command has connected; ignore connection errors."""
        client = self._client
        if client is not None:
            with suppress(QMPError, OSError, EOFError):
                self._runner.run(asyncio.wait_for(client.disconnect(), CLOSE_SECONDS))
        self._runner.close()
