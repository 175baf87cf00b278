# SPDX-License-Identifier: GPL-2.0-only
"""Functions of the C library, called through ctypes.

Python 3.11 does not offer prctl, setns, syscall and unshare. Its own read and poll allocate memory,
which may take further system calls; these functions write to memory that the caller has allocated.
A forked child under a seccomp filter can call them: ctypes, unlike cffi, parses, compiles and loads
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
    """Return the function ``name`` of the C library as a Python function.

    ``arguments`` and ``result`` are the ctypes types of its parameters and its result. The Python
    function raises OSError with errno if the C function returns -1.
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


ioctl = _function("ioctl", ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
mprotect = _function("mprotect", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
poll = _function("poll", ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int)
prctl = _function("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)
read = _function("read", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, result=ctypes.c_ssize_t)
setns = _function("setns", ctypes.c_int, ctypes.c_int)
syscall = _function("syscall", *[ctypes.c_long] * 4, result=ctypes.c_long)
unshare = _function("unshare", ctypes.c_int)
write = _function("write", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, result=ctypes.c_ssize_t)
