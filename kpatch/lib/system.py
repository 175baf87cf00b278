# SPDX-License-Identifier: GPL-2.0-only
"""Detect the Linux distribution, and return instructions to install a package on it.

`kpatch.bootstrap` imports this module before there is a virtual environment, so it uses the
standard library only.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence

from kpatch.tables.distributions import DISTRIBUTIONS, Distribution


def release() -> Mapping[str, str]:
    """Return the fields of this system's os-release(5); empty if there is no such file."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def distribution(fields: Mapping[str, str] | None = None) -> Distribution | None:
    """Return the row of DISTRIBUTIONS for the distribution with the os-release fields ``fields``.

    ID is looked up first, then the words of ID_LIKE; None if no row has any of them. Without
    ``fields``, this system's os-release is used.
    """
    fields = release() if fields is None else fields
    for name in (fields.get("ID", ""), *fields.get("ID_LIKE", "").split()):
        for row in DISTRIBUTIONS:
            if name in row.ids:
                return row
    return None


def install(packages: Sequence[str], fields: Mapping[str, str] | None = None) -> str:
    """Return an instruction to install ``packages`` (Debian's names), for an error message.

    It has the distribution's own names if DISTRIBUTIONS has all of them, else Debian's. ``fields``
    is as in `distribution`.
    """
    row = distribution(fields)
    if row is None or any(name not in row.packages for name in packages if not row.tried):
        return f"install what your system calls {', '.join(packages)} (Debian's names)"
    if row.tried:
        return f"install the Debian package{'s'[: len(packages) > 1]} {' '.join(packages)}"
    names = dict.fromkeys(row.packages[name] for name in packages)
    return f"run: sudo {row.install} {' '.join(names)} (names from a table, untried on {row.name})"
