# SPDX-License-Identifier: GPL-2.0-only
"""Functions of the C library that Python 3.11 does not offer, called through ctypes.

A forked child under a seccomp filter calls them. ctypes, unlike cffi, parses, compiles and loads
nothing at the time of a call.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any


class PollFd(ctypes.Structure):
    """struct pollfd of poll(2)."""

    _fields_ = (
        ("fd", ctypes.c_int),
        ("events", ctypes.c_short),
        ("revents", ctypes.c_short),
    )


_LIBC = ctypes.CDLL(None, use_errno=True)


def _function(name: str, *arguments: Any, result: Any = ctypes.c_int) -> Any:
    """Return the C function as a Python function that raises OSError if C returns -1.

    ``arguments`` and ``result`` are ctypes types.
    """

    def check(value: Any, _: object, __: object) -> Any:
        if value == -1:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return value

    function = _LIBC[name]
    function.argtypes = arguments
    function.restype = result
    function.errcheck = check
    return function


poll = _function("poll", ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int)
prctl = _function("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)
read = _function("read", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, result=ctypes.c_ssize_t)
syscall = _function("syscall", *[ctypes.c_long] * 4, result=ctypes.c_long)
unshare = _function("unshare", ctypes.c_int)
