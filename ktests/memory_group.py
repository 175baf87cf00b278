# SPDX-License-Identifier: GPL-2.0-only
"""A control group of this process, to which the kernel charges memory (cgroup v2).

Source: Documentation/admin-guide/cgroup-v2.rst, "Memory"; mm/memcontrol.c.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import time
from pathlib import Path

from uapi.closing import Closing

ROOT = Path("/sys/fs/cgroup")
NAME = "vfio-acpi"

# The kernel adds up the counts of the CPUs when it is asked, but only after more changes than
# MEMCG_CHARGE_BATCH (64 pages) for each CPU. Touching this memory makes as many.
TOUCHED = 8 << 20

# A generous limit: some memory is freed after an RCU grace period.
SECONDS = 10.0
POLL_SECONDS = 0.05


class MemoryGroup(Closing):
    """A new control group with this process in it. A context manager.

    At its end, the process is in the root group again, and the group is removed.
    """

    def __init__(self) -> None:
        if not (ROOT / "cgroup.procs").exists():
            subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(ROOT)], check=True)
        (ROOT / "cgroup.subtree_control").write_text("+memory")
        self._folder = ROOT / NAME
        self._folder.mkdir()
        self._enter(self._folder)

    def charged(self) -> int:
        """Return how many bytes of the kernel's memory are charged to the group, in whole pages."""
        with mmap.mmap(-1, TOUCHED) as memory:
            for offset in range(0, TOUCHED, mmap.PAGESIZE):
                memory[offset] = 1
        lines = (self._folder / "memory.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["kernel"])

    def wait_until(self, most: int) -> None:
        """Wait until at most ``most`` bytes are charged; AssertionError after `SECONDS`."""
        end = time.monotonic() + SECONDS
        while (charged := self.charged()) > most:
            assert time.monotonic() < end, f"{charged} bytes are charged, more than {most}"
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Leave the group and remove it."""
        self._enter(ROOT)
        self._folder.rmdir()

    @staticmethod
    def _enter(folder: Path) -> None:
        (folder / "cgroup.procs").write_text(str(os.getpid()))
