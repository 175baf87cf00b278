# SPDX-License-Identifier: GPL-2.0-only
"""The programs and files that a run needs, and the Debian packages that have them.

All are looked for before the first stage: minutes of building are no way to find out that there
is nothing to run the kernel with.
"""

from __future__ import annotations

from pathlib import Path

from kpatch.build import compiler
from kpatch.errors import HarnessError
from kpatch.lib import process, system

PACKAGES = {
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


def check() -> None:
    """HarnessError (exit 2) for the first that is missing."""
    for tool, package in {**compiler.TOOLS, **PACKAGES}.items():
        process.need(tool, package=package)
    for path, package in FILES.items():
        if not path.is_file():
            raise HarnessError(str(path), "is not there", mend=system.install([package]))
