# SPDX-License-Identifier: GPL-2.0-only
"""Memory that nothing points to, where the kernel can look for it (CONFIG_DEBUG_KMEMLEAK).

Source: Documentation/dev-tools/kmemleak.rst, mm/kmemleak.c.
"""

from __future__ import annotations

import time
from pathlib import Path

KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
KMSG = Path("/dev/kmsg")

# Objects are reported when they are older than 5 s (MSECS_MIN_AGE), and have not changed since
# the scan before.
AGE_SECONDS = 5.5
SCANS = 2


def look(kmemleak: Path = KMEMLEAK, *, kmsg: Path = KMSG, age: float = AGE_SECONDS) -> None:
    """Have the kernel look; it complains on its console, and we add what it has found."""
    if not kmemleak.exists():
        return
    for _ in range(SCANS):
        time.sleep(age)
        kmemleak.write_text("scan")
    with kmsg.open("w", buffering=1) as log:
        for line in kmemleak.read_text().splitlines():
            log.write(f"<5>{line}\n")
