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
}

# Of everything else.
RUN = {
    "setpriv": "util-linux",
    "git": "git",
    "iasl": "acpica-tools",
    "mkfs.erofs": "erofs-utils",
    "qemu-system-x86_64": "qemu-system-x86",
}

# Named where there is no PATH: the guest's first program, in ktests/init.sh; what the kernel's
# selftests include and are linked with.
FILES = {
    Path("/bin/busybox"): "busybox-static",
    Path("/usr/include/uuid/uuid.h"): "uuid-dev",
}
