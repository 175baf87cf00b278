# SPDX-License-Identifier: GPL-2.0-only
"""Find leaked memory of a kernel with CONFIG_DEBUG_KMEMLEAK.

Source: Documentation/dev-tools/kmemleak.rst, mm/kmemleak.c.
"""

from __future__ import annotations

import time
from pathlib import Path

KMEMLEAK = Path("/sys/kernel/debug/kmemleak")

FLAVORS = frozenset({"kmemleak", "failslab"})
"""The flavors in which the suite looks for leaks after each file of tests.

Other flavors with kmemleak are slow without that; there it looks once, after the last test.
"""

# kmemleak reports objects that are older than 5 s (MSECS_MIN_AGE) and have not changed since the
# previous scan.
AGE_SECONDS = 5.5


def look(kmemleak: Path = KMEMLEAK, *, age: float = AGE_SECONDS) -> None:
    """Have the kernel scan for leaks twice, ``age`` seconds apart.

    The kernel logs each leaked object once, with the stack of its allocation (kmemleak.verbose, an
    argument of the flavors). Does nothing if the kernel has no kmemleak.
    """
    if not kmemleak.exists():
        return
    kmemleak.write_text("scan")
    time.sleep(age)
    kmemleak.write_text("scan")
