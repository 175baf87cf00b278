# SPDX-License-Identifier: GPL-2.0-only
"""Client of QEMU's monitor (QMP) over a socket, with a time limit for every step.

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
    """A QMP client. It connects at the first command; ``seconds`` is the limit for each command."""

    def __init__(self, channel: socket.socket, *, seconds: float = SECONDS) -> None:
        self._channel = channel
        self._seconds = seconds
        self._runner = asyncio.Runner()
        self._client: QMPClient | None = None

    def command(self, name: str, arguments: Mapping[str, object]) -> object:
        """Run a command and return its answer.

        HarnessError (exit 7) if QEMU reports an error, or does not answer in time.
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
        """Disconnect if connected, within CLOSE_SECONDS; errors of the connection are ignored."""
        client = self._client
        if client is not None:
            with suppress(QMPError, OSError, EOFError):
                self._runner.run(asyncio.wait_for(client.disconnect(), CLOSE_SECONDS))
        self._runner.close()
