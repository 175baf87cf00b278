# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Duplicate the VFIO device descriptor of a running VMM, by pidfd_getfd(2).

A duplicate pins the device: unbinding waits until it is closed. So it has to be closed as soon as
the eventfd is set, or the queue fetched.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from pathlib import Path

from ..errors import OpenError

PROC = Path("/proc")
PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")

# The descriptor of a device that was got from its group, and that of its own file (drivers/vfio).
_LINK = re.compile(r"anon_inode:\[vfio-device\]|/dev/vfio/devices/vfio\d+")
# Printed since Linux v7.3 or a little earlier (vfio_device_show_fdinfo() in vfio_main.c).
_SYSPATH = re.compile(r"^vfio-device-syspath:\s+\S*/([0-9a-f:.]+)$", re.MULTILINE)

_PIDFD_GETFD = 438  # on every architecture (include/uapi/asm-generic/unistd.h)

# ptrace_scope (Documentation/admin-guide/LSM/Yama.rst): what a process needs to attach to another.
_SCOPES = {
    "1": "kernel.yama.ptrace_scope is 1: be root, or the parent process of the VMM",
    "2": "kernel.yama.ptrace_scope is 2: be root",
    "3": "kernel.yama.ptrace_scope is 3: nobody may, until the next boot with another value",
}


def devices(pid: int) -> dict[int, str]:
    """Return the VFIO device descriptors of the process ``pid``, and the device of each.

    The device is its name in sysfs, "0000:00:10.0"; "" if the kernel does not tell it. Raises
    OpenError if the process does not exist, or may not be looked at.
    """
    folder = PROC / str(pid)
    found = {}
    try:
        for entry in sorted((folder / "fd").iterdir(), key=lambda entry: int(entry.name)):
            try:
                link = str(entry.readlink())
                facts = (folder / "fdinfo" / entry.name).read_text()
            except FileNotFoundError:  # closed since
                continue
            if _LINK.fullmatch(link):
                told = _SYSPATH.search(facts)
                found[int(entry.name)] = told[1] if told else ""
    except OSError as error:
        raise _refused(pid, error) from error
    return found


def find(pid: int, bdf: str) -> int:
    """Return the number of the descriptor of the device ``bdf`` in the process ``pid``.

    If the kernel does not tell which device a descriptor is of, the only descriptor is taken.
    Raises OpenError if there is none, or the choice is not clear, and as `devices`.
    """
    found = devices(pid)
    for number, name in found.items():
        if name == bdf:
            return number
    unnamed = [number for number, name in found.items() if not name]
    if len(unnamed) == 1 == len(found):
        return unnamed[0]
    if unnamed:
        cause = f"has {len(found)} VFIO devices, and this kernel does not tell which is {bdf}"
        raise OpenError(errno.ENODEV, f"process {pid}", cause, "run it on Linux 7.3 or later")
    names = ", ".join(found.values()) or "none"
    cause = f"does not have {bdf} open; its VFIO devices: {names}"
    raise OpenError(errno.ENODEV, f"process {pid}", cause, "name the VMM's process")


def duplicate(pid: int, number: int) -> int:
    """Return a duplicate of the descriptor ``number`` of the process ``pid``.

    Raises OpenError: ESRCH if there is no such process, EPERM if this process may not attach to it
    (PTRACE_MODE_ATTACH_REALCREDS, see ptrace(2)), EBADF if it has no such descriptor.
    """
    try:
        process = os.pidfd_open(pid)
        try:
            library = ctypes.CDLL(None, use_errno=True)
            got: int = library.syscall(_PIDFD_GETFD, process, number, 0)
        finally:
            os.close(process)
        if got < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except OSError as error:
        raise _refused(pid, error) from error
    return got


def _refused(pid: int, error: OSError) -> OpenError:
    """Return the error about the process ``pid`` for ``error``, with the true cause."""
    number, hint = error.errno or errno.EIO, ""
    if number in (errno.ESRCH, errno.ENOENT):
        number, cause = errno.ESRCH, "does not exist"
    elif number in (errno.EPERM, errno.EACCES):
        cause = "this process may not attach to it, and so not take a descriptor from it"
        hint = _SCOPES.get(_ptrace_scope(), "be root, or the user that the VMM runs as")
    else:
        cause = error.strerror or str(error)
    return OpenError(number, f"process {pid}", cause, hint)


def _ptrace_scope() -> str:
    try:
        return PTRACE_SCOPE.read_text().strip()
    except OSError:  # a kernel without Yama
        return ""
