# SPDX-License-Identifier: GPL-2.0-only
"""Send the counters of the lines that the kernel has run (CONFIG_GCOV_KERNEL) to the host.

Source: Documentation/dev-tools/gcov.rst, kernel/gcov/fs.c.
"""

from __future__ import annotations

import binascii
from pathlib import Path

from ktests.channel import Channel
from ktests.contract import COUNTERS_SUFFIX

GCOV = Path("/sys/kernel/debug/gcov")


def send(port: Channel, gcov: Path = GCOV) -> None:
    """Send each file of counters below ``gcov`` by a record. Does nothing if the kernel has none.

    The kernel's links to the graphs of the objects are left out: they lead to files of the host.
    """
    for file in sorted(gcov.rglob(f"*{COUNTERS_SUFFIX}")):
        # The module base64 would be one more to load in each guest.
        data = binascii.b2a_base64(file.read_bytes(), newline=False).decode()
        port.send("counters", name=str(file.relative_to(gcov)), data=data)
