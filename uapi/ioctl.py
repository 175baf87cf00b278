# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""ioctl(2) with the mirror's structures. Errors name the rule that was broken."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Mapping
from typing import Any

from uapi import mirror, rules
from uapi.errors import UapiError

# Upper limit of the memory for a structure, in bytes. The kernel writes at most argsz bytes, and no
# answer is longer than this. A larger argsz is passed on without the memory that it promises.
ROOM = 1 << 16


class Structure:
    """A zeroed ``struct name`` followed by ``tail``, in memory that the kernel may write.

    Its first field, argsz, is the length of structure and tail, unless ``argsz`` is given. If
    ``argsz`` is smaller, the memory still has the whole structure and tail. If ``argsz`` is larger,
    the memory has that size, but at most `ROOM`. ``view`` gives access to the fields.
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
        """The bytes after the structure."""
        return bytes(self.memory[self.size :])

    def call(
        self,
        fd: int,
        name: str,
        facts: Mapping[str, Any] | None = None,
        more: Callable[[], Mapping[str, Any]] = dict,
    ) -> int:
        """Call the ioctl ``name`` with this structure. Returns and raises like `call`."""
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

    ``argument`` is the third argument of ioctl(2). ``facts`` are the arguments by name, from which
    `rules` finds the reason of a failure. ``more`` returns further facts; it is only called after a
    failure.
    """
    if fd < 0:
        raise UapiError(name, errno.EBADF, "the descriptor is closed")
    try:
        return fcntl.ioctl(fd, getattr(mirror, name), argument)
    except OSError as error:
        number = error.errno or 0
    raise UapiError(name, number, rules.broken(name, number, dict(facts or {}) | dict(more())))
