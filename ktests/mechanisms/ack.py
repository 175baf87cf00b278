# SPDX-License-Identifier: GPL-2.0-only
"""The mechanism "ack": an eventfd whose counter is the message, and a second one to acknowledge it.

The eventfd is set on VFIO_PCI_ACPI_IRQ_INDEX, and its words are those of the mechanism "eventfd".
Each notification masks the index. ACTION_UNMASK, by ioctl or by a write to the second eventfd,
acknowledges it: then the kernel delivers the next one. It keeps as many notifications as with
"eventfd".
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import ExitStack

from ktests import acpi_index, call, libc, seccomp
from ktests.call import Call
from ktests.confined_process import Source
from ktests.mechanism import Sign
from ktests.mechanisms.eventfd import Eventfd, EventfdBurstSource, EventfdVmm
from uapi import probe, vfio
from uapi.eventfd import SIZE, EventFd


class AcknowledgedEventFd(EventFd):
    """An eventfd with a second one, ``acknowledgement``, by which each `read` is acknowledged."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self.acknowledgement = stack.enter_context(EventFd())
            super().__init__()
            stack.pop_all()

    def read(self) -> int | None:
        """Return the word and acknowledge it; None if there is none."""
        word = self.read_only()
        if word is not None:
            self.acknowledgement.write(1)
        return word

    def read_only(self) -> int | None:
        """Return the word without acknowledging it; None if there is none."""
        return super().read()

    def close(self) -> None:
        """Close both descriptors."""
        super().close()
        self.acknowledgement.close()


# ---- a VMM -------------------------------------------------------------------------------------


class AckVmm(EventfdVmm):
    """A VMM that acknowledges each notification as soon as it has read it."""

    eventfd: AcknowledgedEventFd

    def _new_eventfd(self) -> EventFd:
        return AcknowledgedEventFd()

    def _arm(self) -> None:
        super()._arm()
        self.vfio.unmask_by(self.eventfd.acknowledgement)

    def acknowledge(self) -> None:
        """Write to the second eventfd."""
        self.eventfd.acknowledgement.write(1)

    def receive(self) -> tuple[Call, ...]:
        """Return the read(2) of a word, and the write(2) that acknowledges it."""
        return *super().receive(), call.signal(self.eventfd.acknowledgement)


class AckBurstSource(EventfdBurstSource):
    """A burst source that acknowledges each notification as soon as it was read."""

    _vmm: AckVmm

    def receive(self) -> bytes:
        """Read a word and acknowledge it. BlockingIOError if there is none."""
        raw = super().receive()
        self._vmm.eventfd.acknowledgement.write(1)
        return raw


# ---- a confined VMM ----------------------------------------------------------------------------


class AckSource:
    """The source of a confined process: an eventfd, and the one by which it acknowledges."""

    def __init__(self, fd: int) -> None:
        device = vfio.Device.from_fd(fd)
        with ExitStack() as stack:
            self._eventfd = stack.enter_context(AcknowledgedEventFd())
            device.arm(self._eventfd)
            device.unmask_by(self._eventfd.acknowledgement)
            stack.pop_all()
        self._one = ctypes.c_uint64(1)

    def fileno(self) -> int:
        """Return the descriptor of the eventfd with the words."""
        return self._eventfd.fileno()

    @property
    def others(self) -> tuple[int, ...]:
        """The descriptor of the eventfd that acknowledges (`ktests.partner.descriptors`)."""
        return (self._eventfd.acknowledgement.fileno(),)

    def close(self) -> None:
        """Close both eventfds."""
        self._eventfd.close()

    def receive_at(self, address: int) -> int:
        """Read a word to ``address`` and acknowledge it. Returns its size."""
        libc.read(self._eventfd.fileno(), address, SIZE)
        libc.write(self._eventfd.acknowledgement.fileno(), ctypes.addressof(self._one), SIZE)
        return SIZE


# ---- the record --------------------------------------------------------------------------------


class Ack(Eventfd):
    """The mechanism in which a VMM sets two eventfds on its open device, for words and for acks."""

    sign = Sign(
        acpi_index.look,
        text="index 5 has flags 0x7 and count 1, and its loopback reads 0x300000000",
        absent=acpi_index.ABSENT,
        rank=0,
    )
    vmm_type = AckVmm
    burst_source_type = AckBurstSource
    descriptors = 2
    calls = (seccomp.WRITE,)
    selftest = ""

    def register(self, fd: int, family: probe.Family) -> Callable[[], Source]:
        """Return a function that sets two new eventfds on the device with the descriptor ``fd``.

        The function returns them as one source. ``family`` is not used.
        """
        return lambda: AckSource(fd)


RECORD = Ack()
