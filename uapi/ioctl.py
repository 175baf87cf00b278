# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""ioctl(2) on the mirror's structures, with errors that tell the rule that was broken."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Mapping
from typing import Any

from uapi import mirror, rules
from uapi.errors import UapiError

# The kernel writes no more than argsz allows, and has nothing to tell that is longer than this.
# Where argsz promises more memory than that, the promise is not kept.
ROOM = 1 << 16


class Structure:
    """A zeroed ``struct name`` followed by ``tail``, in memory that the kernel may write to.

    It starts with its argsz: the length of it all, unless another one is given. However small
    that is, the memory holds the whole structure, and however large, what the kernel may write.
    ``view`` is the structure with its fields.
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
        """What stands behind the structure."""
        return bytes(self.memory[self.size :])

    def call(
        self,
        fd: int,
        name: str,
        facts: Mapping[str, Any] | None = None,
        more: Callable[[], Mapping[str, Any]] = dict,
    ) -> int:
        """The ioctl ``name`` with this structure; its result. UapiError as `call`."""
        own = {"argsz": self.argsz, "size": self.size}
        return call(fd, name, self.memory, own | dict(facts or {}), more)


def call(
    fd: int,
    name: str,
    argument: int | bytearray = 0,
    facts: Mapping[str, Any] | None = None,
    more: Callable[[], Mapping[str, Any]] = dict,
) -> int:
    """The ioctl ``name`` on ``fd``; its result. UapiError if it fails.

    ``facts`` are what `rules` looks at to tell why, ``more`` finds further ones if they matter.
    """
    if fd < 0:
        raise UapiError(name, errno.EBADF, "the descriptor is closed")
    try:
        return fcntl.ioctl(fd, getattr(mirror, name), argument)
    except OSError as error:
        number = error.errno or 0
    raise UapiError(name, number, rules.broken(name, number, dict(facts or {}) | dict(more())))
