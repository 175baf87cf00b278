# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Call ioctl(2) with structures of `uapi.mirror`. A failure raises UapiError with its reason."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Mapping
from typing import Any

from . import mirror, rules
from .errors import UapiError

# Upper limit of the memory for a structure with its tail, in bytes. The kernel writes at most argsz
# bytes, and none of its answers is longer than this. So a larger argsz needs no more memory.
ROOM = 1 << 16


class Structure:
    """A zeroed ``struct name`` followed by the bytes ``tail``, in memory that the kernel may write.

    ``argsz`` is the value of the field argsz; the default is the size of structure and tail. The
    memory always has room for structure and tail. For a larger ``argsz`` it has that size, but at
    most `ROOM`. ``view`` gives access to the fields of the structure.
    """

    def __init__(self, name: str, *, argsz: int | None = None, tail: bytes = b"") -> None:
        self.size = mirror.sizeof(name)
        length = self.size + len(tail)
        self.argsz = length if argsz is None else argsz
        self.memory = bytearray(max(length, min(self.argsz, ROOM)))
        self.memory[self.size : length] = tail
        self.view: Any = mirror.ffi.from_buffer(f"struct {name} *", self.memory)
        self.view.argsz = self.argsz

    @property
    def tail(self) -> bytes:
        """The bytes after the structure, up to the end of the memory."""
        return bytes(self.memory[self.size :])

    def call(
        self,
        fd: int,
        name: str,
        facts: Mapping[str, Any] | None = None,
        more: Callable[[], Mapping[str, Any]] = dict,
    ) -> int:
        """Call the ioctl ``name`` on ``fd`` with this structure, and return its result.

        Raises UapiError if it fails. ``facts`` and ``more`` are those of the function `call`; argsz
        and the structure's size are added to ``facts``.
        """
        own = {"argsz": self.argsz, "size": self.size}
        return call(fd, name, self.memory, own | dict(facts or {}), more)


def call(
    fd: int,
    name: str,
    argument: int | bytearray = 0,
    facts: Mapping[str, Any] | None = None,
    more: Callable[[], Mapping[str, Any]] = dict,
) -> int:
    """Call the ioctl ``name`` on ``fd`` and return its result. Raises UapiError if it fails.

    ``argument`` is the third argument of ioctl(2); the kernel's answer is written to a bytearray.
    ``facts`` are the facts from which `rules.broken` finds the reason of a failure. ``more``
    returns further facts; it is only called after a failure. A negative ``fd`` is a closed one
    (EBADF).
    """
    if fd < 0:
        raise UapiError(name, errno.EBADF, "the descriptor is closed")
    try:
        return fcntl.ioctl(fd, getattr(mirror, name), argument)
    except OSError as error:
        number = error.errno or 0
    raise UapiError(name, number, rules.broken(name, number, dict(facts or {}) | dict(more())))
