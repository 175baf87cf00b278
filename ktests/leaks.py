# SPDX-License-Identifier: GPL-2.0-only
"""Find leaked memory of a kernel with CONFIG_DEBUG_KMEMLEAK.

Source: Documentation/dev-tools/kmemleak.rst, mm/kmemleak.c.
"""

from __future__ import annotations

import time
from pathlib import Path

from ktests import kernellog

KMEMLEAK = Path("/sys/kernel/debug/kmemleak")

# kmemleak reports objects that are older than 5 s (MSECS_MIN_AGE) and have not changed since the
# previous scan.
AGE_SECONDS = 5.5
SCANS = 2


def look(
    kmemleak: Path = KMEMLEAK, *, kmsg: Path = kernellog.FILE, age: float = AGE_SECONDS
) -> None:
    """Have the kernel scan for leaks `SCANS` times, each time after a pause of ``age`` seconds.

    The kernel only logs the number of leaks. Therefore this function copies the details from the
    file ``kmemleak`` to the log, by the file ``kmsg``. Does nothing if the kernel has no kmemleak.
    """
    if not kmemleak.exists():
        return
    for _ in range(SCANS):
        time.sleep(age)
        kmemleak.write_text("scan")
    kernellog.write(kmemleak.read_text(), kmsg)
