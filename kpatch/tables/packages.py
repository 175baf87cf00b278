# SPDX-License-Identifier: GPL-2.0-only
"""The programs and files that a run needs, each with the Debian package that contains it."""

from __future__ import annotations

from pathlib import Path

# Programs that the build of a kernel needs.
BUILD = {
    "make": "make",
    "gcc": "gcc",
    "ld": "binutils",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "lz4": "lz4",
}

# Programs that the other stages of a run need.
RUN = {
    "setpriv": "util-linux",
    "git": "git",
    "iasl": "acpica-tools",
    "mkfs.erofs": "erofs-utils",
    "qemu-system-x86_64": "qemu-system-x86",
}

# Files that are needed at this path. busybox is the shell of ktests/init.sh in the guest. uuid.h
# stands for the header and the library that the kernel's VFIO selftests use.
FILES = {
    Path("/bin/busybox"): "busybox-static",
    Path("/usr/include/uuid/uuid.h"): "uuid-dev",
}
