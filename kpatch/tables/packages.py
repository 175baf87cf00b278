# SPDX-License-Identifier: GPL-2.0-only
"""The programs and files that a run needs, and the Debian packages that have them."""

from __future__ import annotations

from pathlib import Path

# Of a kernel's build.
BUILD = {
    "make": "make",
    "gcc": "gcc",
    "ld": "binutils",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "lz4": "lz4",
}

# Of everything else.
RUN = {
    "setpriv": "util-linux",
    "git": "git",
    "iasl": "acpica-tools",
    "mkfs.erofs": "erofs-utils",
    "qemu-system-x86_64": "qemu-system-x86",
}

# Files that are used by their path: the guest's shell, in ktests/init.sh, and a header and library
# of the kernel's selftests.
FILES = {
    Path("/bin/busybox"): "busybox-static",
    Path("/usr/include/uuid/uuid.h"): "uuid-dev",
}
