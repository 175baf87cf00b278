# SPDX-License-Identifier: GPL-2.0-only
"""The guest's end of the channel to the host. Each message is one line with one JSON object.

The channel is a virtio-serial port of its own, so that no kernel messages appear in it.
kpatch/run/protocol.py defines the messages of the guest, ktests/contract.py the host's job.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ktests.contract import PORT

PORT_SECONDS = 10.0


class Channel:
    """The open channel. ``path`` is the device node of the virtio-serial port, see `find`."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._buffer = b""
        self._serial = 0

    def send(self, kind: str, **fields: Any) -> None:
        """Send one message of the type ``kind``. Returns when it is completely written."""
        data = json.dumps({"type": kind, **fields}).encode() + b"\n"
        while data:
            data = data[os.write(self._file, data) :]

    def receive(self) -> dict[str, Any]:
        """Wait for the host's next message and return it; EOFError if the channel is closed."""
        while b"\n" not in self._buffer:
            chunk = os.read(self._file, 1 << 16)
            if not chunk:
                raise EOFError("the host has closed the channel")
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def request(self, action: str, **arguments: Any) -> None:
        """Have the host perform ``action`` on the machine, and wait until it has answered.

        ACTIONS in kpatch/run/runner.py has the names of the actions, such as "plug". RuntimeError
        with the host's reason if the host refuses the action or fails to perform it.
        """
        self._ask(action, "request", action=action, arguments=arguments)

    def interrupt(self, entries: Sequence[Mapping[str, object]]) -> None:
        """Have the host raise one interrupt, and wait until it has raised it.

        On the interrupt the test firmware sends the notifications of ``entries``
        (`ktests.interrupt.Notifications`). RuntimeError with the host's reason if it refuses that.
        """
        self._ask("an interrupt", "interrupt", entries=entries)

    def _ask(self, what: str, kind: str, **fields: object) -> None:
        """Send a message and wait for the answer. RuntimeError that names ``what`` if refused."""
        self._serial += 1
        self.send(kind, serial=self._serial, **fields)
        answer = self.receive()
        if answer.get("serial") != self._serial or answer.get("error"):
            raise RuntimeError(f"host refused {what}: {answer.get('error', answer)}")


def find() -> Path:
    """Return the device node of the virtio-serial port with the name `PORT`.

    Waits until the kernel has created it; FileNotFoundError after `PORT_SECONDS`. The name is read
    from sysfs, since the guest has no udev that creates links by name.
    """
    end = time.monotonic() + PORT_SECONDS
    while time.monotonic() < end:
        for name in Path("/sys/class/virtio-ports").glob("*/name"):
            if name.read_text().strip() == PORT:
                return Path("/dev") / name.parent.name
        time.sleep(0.05)
    raise FileNotFoundError(f"no virtio-serial port named {PORT}")
