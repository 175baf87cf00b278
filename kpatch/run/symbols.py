# SPDX-License-Identifier: GPL-2.0-only
"""Translate kernel addresses to symbols by System.map; valid because VMs boot with ``nokaslr``."""

from __future__ import annotations

import bisect
import re
from pathlib import Path

_RIP = re.compile(r"RIP=([0-9a-f]{16})")


class Symbols:
    """The symbols of one kernel. A line of System.map has address (hex), type letter and name."""

    def __init__(self, system_map: str) -> None:
        rows = [line.split() for line in system_map.splitlines()]
        known = sorted((int(row[0], 16), row[2]) for row in rows if len(row) == 3)
        self._addresses = [address for address, _ in known]
        self._names = [name for _, name in known]

    @classmethod
    def of(cls, image: Path) -> Symbols:
        """Return the symbols in System.map beside the kernel ``image``; none without that file."""
        path = image.with_name("System.map")
        return cls(path.read_text() if path.is_file() else "")

    def name(self, address: int) -> str:
        """Return symbol and offset of ``address``, "f+0x1c"; "" if no symbol is at or below it."""
        index = bisect.bisect_right(self._addresses, address) - 1
        return f"{self._names[index]}+{address - self._addresses[index]:#x}" if index >= 0 else ""

    def annotated(self, registers: str) -> str:
        """Return ``registers`` with the symbol added in parentheses after each value of RIP.

        ``registers`` is the output of ``info registers`` of QEMU's monitor.
        """
        return _RIP.sub(lambda match: f"{match[0]} ({self.name(int(match[1], 16))})", registers)
