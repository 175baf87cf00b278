# SPDX-License-Identifier: GPL-2.0-only OR MIT
r"""The policy of the broker: which user gets which device, and by which mechanism.

A file in TOML has a table for each device::

    version = 1

    [[device]]
    bdf = "0000:01:00.0"
    uid = 1001
    mechanism = "netlink"
    companion = '\_SB_.PCI0.S80_'

``mechanism`` is "netlink", or one of `uapi.streams.MECHANISMS` that takes no privilege but the open
device; the default is the first of those that the kernel has. ``companion`` is for netlink alone:
notifications that another ACPI path sends under this BDF are left out.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import pci, streams
from ..errors import Error, OpenError
from .message import NETLINK

VERSION = 1
LARGEST = 64 << 10
DEVICES = 256
# The highest uid of a user; -1 stands for none (setresuid(2)).
LAST_UID = (1 << 32) - 2


class PolicyError(Error, ValueError):
    """A policy that cannot be used; the text names the file, the place and the cause."""


@dataclass(frozen=True)
class Grant:
    """The right of the user ``uid`` to the device ``bdf``.

    ``mechanism`` None takes the first one that the kernel has. ``companion`` "" is any.
    """

    bdf: str
    uid: int
    mechanism: str | None = None
    companion: str = ""


Policy = dict[str, Grant]
"""The grants by BDF: a device has one user."""


def load(path: str) -> Policy:
    """Read the policy in the file ``path``. Raises PolicyError, and OSError if there is none."""
    # Not a FIFO, which would block, and not a file that somebody else can change.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:  # noqa: PTH123
        there = os.fstat(fd)
        if not stat.S_ISREG(there.st_mode):
            raise PolicyError(f"{path}: not a regular file")
        if there.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or there.st_uid not in (0, os.geteuid()):
            raise PolicyError(
                f"{path}: others than root and this user can write it; "
                "chown it to root, and chmod go-w"
            )
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise PolicyError(f"{path}: larger than {LARGEST} bytes")
    try:
        return parse(data)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None


def parse(data: bytes) -> Policy:
    """Return the policy that the text ``data`` has. Raises PolicyError."""
    try:
        document = tomllib.loads(data.decode())
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise PolicyError(f"no TOML: {' '.join(str(error).split())}") from None
    _only(document, {"version", "device"}, "")
    if type(version := document.get("version")) is not int or version != VERSION:
        raise PolicyError(f"version: {_short(version)} is not {VERSION}")
    rows = document.get("device", [])
    if not isinstance(rows, list) or not 0 < len(rows) <= DEVICES:
        raise PolicyError(f"device: not a list of 1 to {DEVICES} tables [[device]]")
    policy: Policy = {}
    for number, row in enumerate(rows, 1):
        where = f"device {number}: "
        grant = _grant(row, where)
        if grant.bdf in policy:
            raise PolicyError(f"{where}bdf: {grant.bdf} is listed twice; a device has one user")
        policy[grant.bdf] = grant
    return policy


def _grant(row: object, where: str) -> Grant:
    if not isinstance(row, dict):
        raise PolicyError(f"{where}not a table")
    _only(row, FIELDS.keys(), where)
    for name in ("bdf", "uid"):
        if name not in row:
            raise PolicyError(f"{where}{name} is missing")
    read = {name: _field(name, value, where) for name, value in row.items()}
    if "companion" in read and read.get("mechanism") != NETLINK:
        raise PolicyError(f'{where}companion: is for mechanism = "{NETLINK}" alone')
    return Grant(**read)


def _field(name: str, value: object, where: str) -> Any:
    try:
        return FIELDS[name](value)
    except (OpenError, ValueError) as error:
        raise PolicyError(f"{where}{name}: {error}") from None


def _only(table: dict[str, Any], known: Any, where: str) -> None:
    for name in table:
        if name not in known:
            raise PolicyError(f"{where}{_short(name)} is not one of {', '.join(sorted(known))}")


def _bdf(value: object) -> str:
    return pci.canonical(_string(value)[:60])


def _uid(value: object) -> int:
    if type(value) is not int or not 0 <= value <= LAST_UID:
        raise ValueError(f"{_short(value)} is not a number from 0 to {LAST_UID}")
    return value


def _mechanism(value: object) -> str:
    unprivileged = (name for name, one in streams.MECHANISMS.items() if not one.privileged)
    known = (NETLINK, *unprivileged)
    if value not in known:
        raise ValueError(f"{_short(value)} is not one of {', '.join(known)}")
    return str(value)


def _companion(value: object) -> str:
    path = _string(value)
    if not path.startswith("\\") or not path.isascii() or not path.isprintable():
        raise ValueError(f"{_short(value)} is not an absolute path in ACPI")
    return path


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_short(value)} is not a string")
    return value


def _short(value: object) -> str:
    """Return ``value`` as a text of a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


FIELDS: dict[str, Callable[[object], object]] = {
    "bdf": _bdf,
    "uid": _uid,
    "mechanism": _mechanism,
    "companion": _companion,
}
