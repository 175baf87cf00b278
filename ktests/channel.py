# SPDX-License-Identifier: GPL-2.0-only
"""The guest's end of the channel to the host. Each message is one line with one JSON object.

The channel is a virtio-serial port of its own, so that no kernel messages appear in it.
kpatch/run/protocol.py describes the messages.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ktests.contract import PORT

PORT_SECONDS = 10.0


class Channel:
    """The open channel. `request` asks the host for an action, such as plugging in a device."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._buffer = b""
        self._serial = 0

    def send(self, kind: str, **fields: Any) -> None:
        """Send one message of the type ``kind``. Returns when all of it is written to the port."""
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
        """Have the host perform an action on the machine, and wait until it is done.

        RuntimeError with the host's reason if the host refuses.
        """
        self._serial += 1
        self.send("request", serial=self._serial, action=action, arguments=arguments)
        answer = self.receive()
        if answer.get("serial") != self._serial or answer.get("error"):
            raise RuntimeError(f"host refused {action}: {answer.get('error', answer)}")


def find() -> Path:
    """Return the device node of the port. FileNotFoundError after `PORT_SECONDS`.

    The port is found by its name in sysfs, since the guest has no udev that creates links.
    """
    end = time.monotonic() + PORT_SECONDS
    while time.monotonic() < end:
        for name in Path("/sys/class/virtio-ports").glob("*/name"):
            if name.read_text().strip() == PORT:
                return Path("/dev") / name.parent.name
        time.sleep(0.05)
    raise FileNotFoundError(f"no virtio-serial port named {PORT}")
