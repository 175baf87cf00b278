# SPDX-License-Identifier: GPL-2.0-only
"""Send the counters of the lines that the kernel has run (CONFIG_GCOV_KERNEL) to the host.

Source: Documentation/dev-tools/gcov.rst, kernel/gcov/fs.c.
"""

from __future__ import annotations

import base64
from pathlib import Path

from ktests.channel import Channel
from ktests.contract import COUNTERS_SUFFIX

GCOV = Path("/sys/kernel/debug/gcov")


def send(port: Channel, gcov: Path = GCOV) -> None:
    """Send each file of counters below ``gcov`` by a record. Does nothing if the kernel has none.

    The kernel's links to the graphs of the objects are left out: they lead to files of the host.
    """
    for file in sorted(gcov.rglob(f"*{COUNTERS_SUFFIX}")):
        name = str(file.relative_to(gcov))
        port.send("counters", name=name, data=base64.b64encode(file.read_bytes()).decode())
