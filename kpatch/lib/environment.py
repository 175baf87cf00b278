# SPDX-License-Identifier: GPL-2.0-only
"""The environment of builds, of gcc, of virtme-ng and of QEMU: a short list, and nothing beside.

What else a user has set (MAKEFLAGS, KBUILD_*, CC, CPATH, CCACHE_*, GIT_*, PYTHON*, LD_PRELOAD,
BASH_ENV, …) would change a build or a run without anybody having asked for it in the command that
is recorded; and a guest sees the /proc that its QEMU sees, QEMU's environment included. Programs
that fetch, and git where it is asked for the user's name, have the user's environment.
"""

from __future__ import annotations

import os

# Who and where the user is. HOME is for programs that keep state there; see `kpatch.lib.confine`
# for those that run what a series says.
PASSED_ON = ("HOME", "LOGNAME", "PATH", "TMPDIR", "USER")


def clean(**more: str) -> dict[str, str]:
    """Return the environment for a program: the listed variables, English messages, ``more``."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return kept | {"LC_ALL": "C"} | more
