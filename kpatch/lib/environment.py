# SPDX-License-Identifier: GPL-2.0-only
"""Make the environment of the programs that the harness runs. It has only VARIABLES of the user.

All other variables (MAKEFLAGS, KBUILD_*, CC, CPATH, CCACHE_*, GIT_*, TAR_OPTIONS, XZ_OPT, PYTHON*,
LD_PRELOAD, BASH_ENV, …) are left out: they would change a build or a run, and the recorded command
would not show it. A guest can also read QEMU's environment in /proc. Some programs get more.
apt-get, which needs the proxy, and git when it reads the user's name get the whole environment; git
on a kernel's repository gets it without most of GIT_* (`kpatch.source.git`).
"""

from __future__ import annotations

import os

# Variables that are passed on. HOME is for programs that keep state there; programs that run code
# of a series get another HOME (`kpatch.lib.confine`).
VARIABLES = ("HOME", "LOGNAME", "PATH", "TMPDIR", "USER")


def clean(**more: str) -> dict[str, str]:
    """Return the environment for a program: the user's VARIABLES, LC_ALL=C, and ``more``.

    ``more`` overrides the others. LC_ALL=C makes programs print English messages.
    """
    kept = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return kept | {"LC_ALL": "C"} | more
