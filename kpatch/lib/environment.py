# SPDX-License-Identifier: GPL-2.0-only
"""Make the environment of builds, gcc, virtme-ng and QEMU. It has only VARIABLES of the user.

All other variables (MAKEFLAGS, KBUILD_*, CC, CPATH, CCACHE_*, GIT_*, PYTHON*, LD_PRELOAD, BASH_ENV,
…) are left out: they would change a build or a run, and the recorded command would not show it. A
guest can also read QEMU's environment in /proc. Two kinds of programs get the user's whole
environment: programs that download, and git when it reads the user's name.
"""

from __future__ import annotations

import os

# Variables that are passed on. HOME is for programs that keep state there; programs that run code
# of a series get another HOME (`kpatch.lib.confine`).
VARIABLES = ("HOME", "LOGNAME", "PATH", "TMPDIR", "USER")


def clean(**more: str) -> dict[str, str]:
    """Return the environment for a program.

    It has the user's values of the listed variables, the locale for English messages, and ``more``.
    """
    kept = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return kept | {"LC_ALL": "C"} | more
