# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Drop the privileges of this process for good.

Source: prctl(2), capset(2), capabilities(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd

from ..errors import OpenError

PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522


def drop(user: str | None) -> None:
    """Become ``user`` (None: stay who it is), and drop every capability.

    The process cannot gain privileges any more, nor can another process of its user look into it,
    for instance take a descriptor from it. Raises OpenError if there is no such user, OSError if a
    system call fails.
    """
    if user is not None:
        _become(user)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _call("capset", (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_DUMPABLE, 0)


def _become(user: str) -> None:
    try:
        entry = pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise OpenError(
            errno.EINVAL, f"user {user!r}", "there is none", "see getent passwd"
        ) from None
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


def _prctl(option: int, *arguments: int) -> None:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    _call("prctl", ctypes.c_int(option), *map(ctypes.c_ulong, padded))


def _call(name: str, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
