# SPDX-License-Identifier: GPL-2.0-only
"""The confinement of a process: its uid, its capabilities, its namespaces, its system calls.

Source: credentials(7), capabilities(7), user_namespaces(7), pid_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

from ktests import libc, seccomp

NOBODY = 65534

PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38

CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# The names of the namespaces in /proc/PID/ns (namespaces(7)), and their flags of unshare(2).
NAMESPACES = {"user": CLONE_NEWUSER, "net": CLONE_NEWNET, "pid": CLONE_NEWPID}

SYS_CAPGET = 125
SYS_CAPSET = 126
CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True)
class Confinement:
    """The properties of a confined process.

    The process always has uid and gid 65534, no capability, and no way to gain one (no_new_privs).
    ``namespaces`` are the kinds of namespaces (names in NAMESPACES) that are created for it.
    ``calls`` are the numbers of the system calls that its seccomp filter allows besides
    `seccomp.UNAVOIDABLE`; None for no filter.
    """

    namespaces: tuple[str, ...] = ()
    calls: tuple[int, ...] | None = None


UNPRIVILEGED = Confinement()
FILTERED = Confinement(calls=(seccomp.READ, seccomp.POLL))
NAMESPACED = Confinement(namespaces=tuple(NAMESPACES))
SANDBOXED = Confinement(namespaces=tuple(NAMESPACES), calls=FILTERED.calls)


class CapabilityHeader(ctypes.Structure):
    """struct __user_cap_header_struct of capget(2); pid 0 stands for the caller."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapabilityData(ctypes.Structure):
    """struct __user_cap_data_struct of capget(2): one bit for each of 32 capabilities."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def become_nobody() -> None:
    """Change to uid and gid 65534, without further groups, and keep all capabilities.

    `drop_capabilities` needs CAP_SETPCAP to drop those of the bounding set.
    """
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    data = _capabilities()
    for word in data:
        word.effective = word.permitted  # the change of uid has cleared the effective ones only
    _set_capabilities(data)


def enter(namespaces: tuple[str, ...]) -> None:
    """Create the namespaces of the given kinds and move this process into them.

    ``namespaces`` are names in NAMESPACES, among them "user" unless it is empty. The process does
    not move into a new pid namespace, only its later children do (pid_namespaces(7)). The new user
    namespace maps uid and gid 65534 to themselves, and no others.
    """
    if not namespaces:
        return
    libc.unshare(sum(NAMESPACES[name] for name in namespaces))
    # /proc/self belongs to root since the change of uid: see PR_SET_DUMPABLE in prctl(2).
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    for name in ("uid_map", "gid_map"):
        (own / name).write_text(f"{NOBODY} {NOBODY} 1")


def drop_capabilities() -> None:
    """Drop all capabilities of this process, also those in its bounding set; set no_new_privs."""
    capability = 0
    while _bounding(capability) is not None:
        if _bounding(capability):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1
    _set_capabilities((CapabilityData * 2)())
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _bounding(capability: int) -> bool | None:
    """Return whether the capability with this number is in the bounding set of this process.

    None if the kernel has no capability with this number.
    """
    try:
        return bool(libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0))
    except OSError:
        return None


def _capabilities() -> ctypes.Array[CapabilityData]:
    header = CapabilityHeader(CAPABILITY_VERSION_3, 0)
    data = (CapabilityData * 2)()
    libc.syscall(SYS_CAPGET, ctypes.addressof(header), ctypes.addressof(data), 0)
    return data


def _set_capabilities(data: ctypes.Array[CapabilityData]) -> None:
    header = CapabilityHeader(CAPABILITY_VERSION_3, 0)
    libc.syscall(SYS_CAPSET, ctypes.addressof(header), ctypes.addressof(data), 0)
