# SPDX-License-Identifier: GPL-2.0-only
"""Addresses in a kernel as names, by its System.map: the VMs boot with ``nokaslr``."""

from __future__ import annotations

import bisect
import re
from pathlib import Path

_RIP = re.compile(r"RIP=([0-9a-f]{16})")


class Symbols:
    """The symbols of one kernel. Layout of a line: address in hex, type letter, name."""

    def __init__(self, system_map: str) -> None:
        rows = [line.split() for line in system_map.splitlines()]
        known = sorted((int(row[0], 16), row[2]) for row in rows if len(row) == 3)
        self._addresses = [address for address, _ in known]
        self._names = [name for _, name in known]

    @classmethod
    def of(cls, image: Path) -> Symbols:
        """Those of a kernel image of the cache; none if there is no System.map beside it."""
        path = image.with_name("System.map")
        return cls(path.read_text() if path.is_file() else "")

    def name(self, address: int) -> str:
        """The symbol at or before the address and the distance, "f+0x1c"; "" before the first."""
        index = bisect.bisect_right(self._addresses, address) - 1
        return f"{self._names[index]}+{address - self._addresses[index]:#x}" if index >= 0 else ""

    def annotated(self, registers: str) -> str:
        """QEMU's ``info registers`` with a name behind each instruction pointer."""
        return _RIP.sub(lambda found: f"{found[0]} ({self.name(int(found[1], 16))})", registers)
