# SPDX-License-Identifier: GPL-2.0-only
"""Make the files of the inner guest: its kernel, root file system, and table."""

from __future__ import annotations

import shutil
from pathlib import Path

from kpatch.lib import cache, erofs
from kpatch.lib.stage import Stage
from ktests.contract import INNER_MAILBOX, INNER_PIN
from uapi.vmm import guest_table
from uapi.vmm.guest_table import Access, Doorbell, GuestTable, Slot

# What the inner guest's kernel is made of, on top of the base.
DRIVER = Path(__file__).with_name("driver.patch")

INIT = Path(__file__).with_name("init.sh")
BUSYBOX = Path("/bin/busybox")

# The slots of the table: a device that is there at boot, and one of an empty hot-plug port. QEMU's
# DSDT declares both.
GUEST_TABLE = GuestTable(
    (Slot(r"\_SB.PCI0.S80"), Slot(r"\_SB.PCI0.S98.S00")),
    INNER_MAILBOX,
    Access.RING,
    Doorbell.GED,
    INNER_PIN,
)


def folder(image: Path, *, stage: Stage) -> Path:
    """Return the folder of the inner guest whose kernel is ``image``, from the cache or made now.

    HarnessError: exit 7 if a file cannot be made, exit 2 if mkfs.erofs is not installed; OpenError
    if iasl is not, or fails.
    """
    source = GUEST_TABLE.asl()

    def fill(place: Path) -> None:
        shutil.copy(image, place / "bzImage")
        (place / "relay.aml").write_bytes(guest_table.compiled(source))
        root = place / "root"
        for name in ("bin", "config", "dev", "proc", "sys"):
            (root / name).mkdir(parents=True)
        shutil.copy(place / "relay.aml", root)
        shutil.copy(BUSYBOX, root / "bin")
        shutil.copy(INIT, root / "init")
        erofs.pack(root, place / "root.erofs", stage)
        shutil.rmtree(root)

    parts = [str(image), source, INIT.read_text(), Path(__file__).read_text()]
    made, _ = cache.entry("inner", cache.digest(parts), fill)
    return made
