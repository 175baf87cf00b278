# SPDX-License-Identifier: GPL-2.0-only
"""A VM of KVM with interrupt controllers, an irqfd, and a virtual CPU that takes interrupts.

Source: Documentation/virt/kvm/api.rst, include/uapi/linux/kvm.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
import time
from contextlib import ExitStack

from ktests.fdinfo import HasFileno
from ktests.pci import POLL_SECONDS
from uapi.closing import Closing

KVM = "/dev/kvm"

# ioctls without an argument, or with a number.
CREATE_VM, CREATE_IRQCHIP, CREATE_VCPU = 0xAE01, 0xAE60, 0xAE41
GET_VCPU_MMAP_SIZE, RUN = 0xAE04, 0xAE80

# KVM_IRQFD and struct kvm_irqfd: fd, gsi, flags, resamplefd, 16 bytes of padding.
IRQFD, IRQFD_SETTING = 0x4020AE76, struct.Struct("=IIII16x")
DEASSIGN, RESAMPLE = 1, 2

# KVM_SET_USER_MEMORY_REGION and its structure: slot, flags, guest address, size, address.
SET_MEMORY, MEMORY = 0x4020AE46, struct.Struct("=IIQQQ")

# A line of the VM's interrupt controllers that no device of KVM uses: IRQ 5 of the first 8259A.
GSI = 5

# The program of the virtual CPU, at the address where it starts after a reset, in the last page
# below 4 GiB. It polls the 8259A: if an interrupt is pending, this takes it and ends it, and the
# answer is its number with bit 7 set (pic_poll_read() in arch/x86/kvm/i8259.c). Then the program
# writes the answer to a port that KVM does not know, which ends KVM_RUN.
PAGE, START = 0xFFFFF000, 0xFF0
PROGRAM = bytes(
    (
        *(0xB0, 0x0C),  # loop: mov al, 0x0c
        *(0xE6, 0x20),  # out 0x20, al
        *(0xE4, 0x20),  # in al, 0x20
        *(0xE6, 0x80),  # out 0x80, al
        *(0xEB, 0xF6),  # jmp loop
    )
)
PENDING = 0x80

# struct kvm_run: exit_reason at 8; with EXIT_IO, the offset of the byte that was written is at 40.
EXIT_REASON, EXIT_IO, DATA_OFFSET = 8, 2, 40


class Vm(Closing):
    """A VM with interrupt controllers. A context manager. OSError if KVM cannot create it."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self._kvm = os.open(KVM, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, self._kvm)
            self._fd = fcntl.ioctl(self._kvm, CREATE_VM, 0)
            stack.callback(os.close, self._fd)
            fcntl.ioctl(self._fd, CREATE_IRQCHIP)
            self._stack = stack.pop_all()

    def assign(self, eventfd: HasFileno, resample: HasFileno | None = None) -> None:
        """Have KVM raise an interrupt of the VM whenever the eventfd is signalled.

        KVM then reads the eventfd itself (irqfd_wakeup() in virt/kvm/eventfd.c). When the interrupt
        was ended, KVM signals the eventfd ``resample``.
        """
        flags, other = (0, 0) if resample is None else (RESAMPLE, resample.fileno())
        self._irqfd(eventfd, flags, other)

    def deassign(self, eventfd: HasFileno) -> None:
        """End what `assign` began. Returns when KVM no longer reads the eventfd."""
        self._irqfd(eventfd, DEASSIGN)

    def _irqfd(self, eventfd: HasFileno, flags: int, other: int = 0) -> None:
        fcntl.ioctl(self._fd, IRQFD, IRQFD_SETTING.pack(eventfd.fileno(), GSI, flags, other))

    def cpu(self) -> Cpu:
        """Return a new virtual CPU of the VM. A VM has one."""
        return Cpu(self._kvm, self._fd)

    def close(self) -> None:
        """Close the VM's descriptors, which destroys the VM."""
        self._stack.close()


class Cpu(Closing):
    """A virtual CPU that takes interrupts. A context manager. It only runs during a call."""

    def __init__(self, kvm: int, vm: int) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._memory[START : START + len(PROGRAM)] = PROGRAM
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        fcntl.ioctl(vm, SET_MEMORY, MEMORY.pack(0, 0, PAGE, mmap.PAGESIZE, address))
        self._fd = fcntl.ioctl(vm, CREATE_VCPU, 0)
        try:
            self._state = mmap.mmap(self._fd, fcntl.ioctl(kvm, GET_VCPU_MMAP_SIZE))
        except BaseException:
            os.close(self._fd)
            raise

    def interrupt(self, seconds: float) -> int | None:
        """Wait for an interrupt, take it and end it, and return its line; None if there is none."""
        end = time.monotonic() + seconds
        while not (answer := self._poll()) & PENDING:
            if time.monotonic() > end:
                return None
            time.sleep(POLL_SECONDS)
        return answer ^ PENDING

    def _poll(self) -> int:
        """Run the program until it has polled once, and return the answer."""
        fcntl.ioctl(self._fd, RUN)
        [reason] = struct.unpack_from("=I", self._state, EXIT_REASON)
        assert reason == EXIT_IO, f"the virtual CPU stopped with exit reason {reason}"
        [offset] = struct.unpack_from("=Q", self._state, DATA_OFFSET)
        answer: int = self._state[offset]
        return answer

    def close(self) -> None:
        """Close the virtual CPU's descriptor."""
        self._state.close()
        os.close(self._fd)
