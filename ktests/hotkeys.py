# SPDX-License-Identifier: GPL-2.0-only
"""The input device by which the host reports the display hotkeys of a GPU.

Source: drivers/acpi/acpi_video.c; struct input_event in include/uapi/linux/input.h.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from uapi.closing import Closing

INPUTS = Path("/sys/class/input")
NAME = "Video Bus"

# struct input_event: seconds, microseconds, type, code, value. Type EV_KEY; value 1 is a press.
EVENT = struct.Struct("=QQHHi")
KEY, PRESS = 1, 1
SWITCH_VIDEO_MODE = 227


class Hotkeys(Closing):
    """The open input device of the GPU. A context manager. LookupError if the host has none."""

    def __init__(self) -> None:
        for folder in INPUTS.glob("input*"):
            if (folder / "name").read_text().strip() == NAME:
                (event,) = folder.glob("event*")
                self._fd = os.open(f"/dev/input/{event.name}", os.O_RDONLY | os.O_NONBLOCK)
                return
        raise LookupError(f"no input device is called {NAME}")

    def pressed(self) -> list[int]:
        """Return the codes of the keys that were pressed since the last call."""
        try:
            data = os.read(self._fd, EVENT.size << 8)
        except BlockingIOError:
            return []
        return [
            code
            for _, _, kind, code, value in EVENT.iter_unpack(data)
            if (kind, value) == (KEY, PRESS)
        ]

    def close(self) -> None:
        """Close the input device."""
        os.close(self._fd)
