# SPDX-License-Identifier: GPL-2.0-only
"""The Linux distribution that this runs on, and how a package is installed there.

`kpatch.bootstrap` needs it before there is a virtual environment: standard library only.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence

from kpatch.tables.distributions import DISTRIBUTIONS, Distribution


def release() -> Mapping[str, str]:
    """Return what os-release(5) says of this system; nothing if there is no such file."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def distribution(told: Mapping[str, str] | None = None) -> Distribution | None:
    """Return the row of the system that ``told`` is the os-release of, or of one it is like.

    None for a system that no row knows; ``told`` is this system's if left out.
    """
    told = release() if told is None else told
    for name in (told.get("ID", ""), *told.get("ID_LIKE", "").split()):
        for row in DISTRIBUTIONS:
            if name in row.ids:
                return row
    return None


def install(packages: Sequence[str], told: Mapping[str, str] | None = None) -> str:
    """Return what to do about missing packages, which are given by Debian's names."""
    row = distribution(told)
    if row is None or any(name not in row.packages for name in packages if not row.tried):
        return f"install what your system calls {', '.join(packages)} (Debian's names)"
    if row.tried:
        return f"install the Debian package{'s'[: len(packages) > 1]} {' '.join(packages)}"
    names = dict.fromkeys(row.packages[name] for name in packages)
    return f"run: sudo {row.install} {' '.join(names)} (names from a table, untried on {row.name})"
