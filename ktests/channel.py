# SPDX-License-Identifier: GPL-2.0-only
"""The guest's end of the channel to the host: JSON objects, a line each, flushed at once.

A virtio-serial port: kernel messages cannot get between. kpatch/run/protocol.py has the grammar.
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
    """The channel; also the host's side of actions that only the host can take."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._buffer = b""
        self._serial = 0

    def send(self, kind: str, **fields: Any) -> None:
        """Send one record; returns when the host has been given all of it."""
        data = json.dumps({"type": kind, **fields}).encode() + b"\n"
        while data:
            data = data[os.write(self._file, data) :]

    def receive(self) -> dict[str, Any]:
        """Wait for the host's next message."""
        while b"\n" not in self._buffer:
            chunk = os.read(self._file, 1 << 16)
            if not chunk:
                raise EOFError("the host has closed the channel")
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def request(self, action: str, **arguments: Any) -> None:
        """Have the host do something to the machine; RuntimeError with its reason if it can't."""
        self._serial += 1
        self.send("request", serial=self._serial, action=action, arguments=arguments)
        answer = self.receive()
        if answer.get("serial") != self._serial or answer.get("error"):
            raise RuntimeError(f"host refused {action}: {answer.get('error', answer)}")


def find() -> Path:
    """The device node of the port; the name is in sysfs, since no udev makes links here."""
    end = time.monotonic() + PORT_SECONDS
    while time.monotonic() < end:
        for name in Path("/sys/class/virtio-ports").glob("*/name"):
            if name.read_text().strip() == PORT:
                return Path("/dev") / name.parent.name
        time.sleep(0.05)
    raise FileNotFoundError(f"no virtio-serial port named {PORT}")
