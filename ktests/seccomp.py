# SPDX-License-Identifier: GPL-2.0-only
"""A seccomp filter that allows some system calls. Any other system call kills the process.

Source: Documentation/userspace-api/seccomp_filter.rst, include/uapi/linux/{seccomp,bpf_common}.h.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable

from ktests import libc

# Numbers of system calls of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl), the only architecture
# of the test machine.
READ = 0
WRITE = 1
POLL = 7
IOCTL = 16
RT_SIGRETURN = 15
EXIT_GROUP = 231

# Calls that every process needs: to return from a signal handler, and to end.
UNAVOIDABLE = (RT_SIGRETURN, EXIT_GROUP)

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
MODE_FILTER = 2

AUDIT_ARCH_X86_64 = 0xC000003E
KILL_PROCESS = 0x80000000
ALLOW = 0x7FFF0000

# struct sock_filter: code, jump if true, jump if false, operand.
INSTRUCTION = struct.Struct("=HBBI")
LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

# Offsets in struct seccomp_data.
NUMBER = 0
ARCHITECTURE = 4


class Program(ctypes.Structure):
    """struct sock_fprog: the number of instructions, and their address."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def program(calls: Iterable[int]) -> bytes:
    """Return a filter as classic BPF: an array of struct sock_filter, 8 bytes each.

    The filter allows the x86-64 system calls with the numbers ``calls``. Every other system call,
    and every call of another architecture, kills the process.
    """
    instructions = [
        (LOAD_WORD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, AUDIT_ARCH_X86_64),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD_WORD, 0, 0, NUMBER),
    ]
    for call in calls:
        instructions += [(JUMP_EQUAL, 0, 1, call), (RETURN, 0, 0, ALLOW)]
    instructions.append((RETURN, 0, 0, KILL_PROCESS))
    return b"".join(INSTRUCTION.pack(*instruction) for instruction in instructions)


def allow_only(calls: Iterable[int]) -> None:
    """Allow this thread only the system calls ``calls`` and UNAVOIDABLE from now on.

    ``calls`` are numbers of x86-64. This needs no capability, since no_new_privs is set first. It
    cannot be undone.
    """
    code = program((*calls, *UNAVOIDABLE))
    wanted = Program(len(code) // INSTRUCTION.size, code)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.addressof(wanted), 0, 0)
