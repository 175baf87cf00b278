# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Relay notifications beside an unmodified QEMU. A demonstration, and for tests: nothing else.

QEMU passes devices through and knows nothing of notifications. The relay takes QEMU's device
descriptors for a moment (`uapi.vmm.descriptor`), sets up a stream for each, and hands values to the
guest by QEMU's test interface: it writes rings into the guest's memory and raises the interrupt of
a Generic Event Device. QEMU needs the guest's table, and a socket for qtest, which has full control
over the guest::

    vfio-acpi guest-table --slot PATH --mailbox 0x8000000 --access ring --doorbell ged:7 \
        --output relay.aml
    qemu-system-x86_64 -M q35 … -device vfio-pci,host=BDF -acpitable file=relay.aml \
        -append "… memmap=64K$0x8000000" -qtest unix:SOCKET,server=on,wait=off
    vfio-acpi relay --pid PID --slot 0=BDF --mailbox 0x8000000 --qtest SOCKET
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .. import pci
from ..errors import Error, FormatError, OpenError
from ..listen import Line
from ..notifications import DoorbellNotifications, EventfdStream, Stream
from ..vfio import Device
from . import descriptor
from .guest_table import STRIDES, Access
from .qtest import FREE_PIN, IO_APIC, QTest, QTestError
from .relay import Action, Arrival, Closed, Deliver, Drop, Relay, Resynchronise, Stop
from .ring import Ring

# How often words that wait for room in a ring are tried again.
RETRY_SECONDS = 0.05

# How long a QEMU that does not answer any more may take to end.
ENDING_SECONDS = 1.0


@dataclass(frozen=True)
class Done:
    """An action that was carried out.

    ``read`` is the time at which the notification was read, ``rung`` that at which its word was in
    the ring and the guest's interrupt was about to be raised, None if it was not (yet). Both are
    seconds of CLOCK_MONOTONIC.
    """

    action: Action
    read: float
    rung: float | None = None


@dataclass
class Slot:
    """A passed-through device: its stream and its ring. It is open until it has stopped."""

    stream: Stream
    ring: Ring
    open: bool = True

    def arrivals(self, *, hung_up: bool) -> Iterator[Arrival]:
        """Yield some of the available notifications, not more than the ring has room for.

        Closed follows a wrong one, and the last one if the stream has ``hung_up``. Does not wait.
        """
        try:
            for _ in range(self.ring.room):
                got = self.stream.read(0)
                if got is None:
                    if hung_up:
                        yield Closed("the device was closed")
                    return
                yield got
        except FormatError as error:
            yield Closed(str(error))


def connect(path: Path) -> QTest:
    """Return a client on QEMU's socket ``path``. Raises OpenError if nobody listens there."""
    channel = socket.socket(socket.AF_UNIX)
    try:
        channel.connect(str(path))
    except OSError as error:
        channel.close()
        hint = "start QEMU with -qtest unix:PATH,server=on,wait=off"
        cause = error.strerror or str(error)
        raise OpenError(error.errno or errno.EIO, str(path), cause, hint) from error
    return QTest(channel)


def borrow(pid: int, bdf: str, mechanism: str | None = None) -> Stream:
    """Return a stream of the device ``bdf``, which the process ``pid`` has open.

    The duplicate of its descriptor is closed when the stream is set up. Raises the errors of
    `uapi.vmm.descriptor` and of `uapi.vfio.Device.notifications`; OpenError (ENOTSUP) for the
    mechanism doorbell, which needs the descriptor for each notification.
    """
    with _duplicate(pid, bdf) as device:
        stream = device.notifications(mechanism)
        if isinstance(stream, DoorbellNotifications):
            stream.close()
            cause = "this kernel fetches each notification by the device's descriptor"
            hint = "a relay beside the VMM keeps none; receive notifications in the VMM"
            raise OpenError(errno.ENOTSUP, bdf, cause, hint)
    return stream


@contextmanager
def alone(pid: int) -> Iterator[None]:
    """Be the one relay beside the process ``pid`` in the block; OpenError (EBUSY) if there is one.

    Two relays would write the same rings, and take notifications from each other. The name is an
    abstract socket's, which no relay leaves behind, even if it is killed.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as name:
        try:
            name.bind(f"\0vfio-acpi-relay-{pid}")
        except OSError as error:
            cause, hint = "another relay runs beside it", "end that one, or name its devices there"
            raise OpenError(errno.EBUSY, f"process {pid}", cause, hint) from error
        yield


def give_back(pid: int, bdf: str, stream: Stream) -> None:
    """Close ``stream``; if it is by an eventfd and the process still runs, disarm the device."""
    if isinstance(stream, EventfdStream):
        with suppress(Error), _duplicate(pid, bdf) as device:
            device.disarm()
    stream.close()


def _duplicate(pid: int, bdf: str) -> Device:
    return Device.from_fd(descriptor.duplicate(pid, descriptor.find(pid, bdf)), bdf)


class Program:
    """The relay of the devices of one QEMU, until it ends or every device has stopped.

    ``streams`` are those of the devices in the slots of the guest's table, by the slots' numbers;
    ``mailbox`` is the guest's address of the ring of slot 0, ``pin`` the interrupt. Raises
    QTestError if QEMU does not answer.
    """

    def __init__(
        self, streams: Mapping[int, Stream], qtest: QTest, mailbox: int, pin: int = FREE_PIN
    ) -> None:
        self._qtest = qtest
        self._pin = pin
        self._relay = Relay()
        self._slots = {
            number: Slot(stream, Ring(qtest, mailbox + number * STRIDES[Access.RING], number))
            for number, stream in streams.items()
        }

    def run(self, process: int) -> Iterator[Done]:
        """Yield each action when it was carried out. ``process`` is a pidfd of QEMU.

        Raises QTestError if QEMU does not answer, and has not ended either.
        """
        slots = self._slots
        while any(slot.open or slot.ring.pending for slot in slots.values()):
            # A device whose ring is full is not read: the kernel's queue keeps more than a mailbox.
            alive = {
                slot.stream.fileno(): number
                for number, slot in slots.items()
                if slot.open and not slot.ring.pending
            }
            poll = select.poll()
            for fd in (*alive, process):
                poll.register(fd, select.POLLIN)
            full = any(slot.ring.pending for slot in slots.values())
            ready = dict(poll.poll(RETRY_SECONDS * 1000 if full else None))
            if process in ready:
                for number in slots:
                    yield from self._act(number, Closed("the VMM has ended"))
                return
            done = [
                one
                for fd in alive.keys() & ready.keys()
                for arrival in slots[alive[fd]].arrivals(hung_up=bool(ready[fd] & select.POLLHUP))
                for one in self._act(alive[fd], arrival)
            ]
            rung = None
            # One interrupt is for all slots.
            with self._unless_ended(process):
                if sum(slot.ring.fill() for slot in slots.values()):
                    rung = time.monotonic()
                    self._qtest.pulse(IO_APIC, self._pin)
            for one in done:
                yield replace(one, rung=rung) if self._is_put(one.action) else one

    @staticmethod
    @contextmanager
    def _unless_ended(process: int) -> Iterator[None]:
        """Suppress a QTestError in the block if ``process`` has ended or does at once."""
        try:
            yield
        except QTestError:
            if not select.select([process], [], [], ENDING_SECONDS)[0]:
                raise

    def _is_put(self, action: Action) -> bool:
        """Return whether ``action`` has a word, and no word of its slot waits for the ring."""
        put = isinstance(action, Deliver | Resynchronise)
        return put and not self._slots[action.slot].ring.pending

    def _act(self, number: int, arrival: Arrival) -> Iterator[Done]:
        read, slot = time.monotonic(), self._slots[number]
        for action in self._relay.take(number, arrival):
            if isinstance(action, Deliver | Resynchronise):
                slot.ring.put(action)
            slot.open = slot.open and not isinstance(action, Stop)
            yield Done(action, read)


def line(bdf: str, done: Done) -> Line:
    """Return the line of the output about an action on a notification of the device ``bdf``."""
    action = done.action
    match action:
        case Deliver(value=value):
            text = f"{value:#04x}"
        case Drop(value=value, reason=reason):
            text = f"{value:#04x} ({reason})"
        case Resynchronise(lost=lost):
            text = str(lost)
        case Stop(cause=cause):
            text = cause
    name = type(action).__name__.lower()
    times = {"read": done.read, "rung": done.rung}
    facts = {"device": bdf, "action": name} | asdict(action) | times
    return Line(f"slot {action.slot} {bdf} {name} {text}", facts)


def relay(
    pid: int,
    slots: Mapping[int, str],
    qtest: Path,
    mailbox: int,
    pin: int = FREE_PIN,
    mechanism: str | None = None,
) -> Iterator[Line]:
    """Relay the notifications of the devices in ``slots``, which the QEMU ``pid`` passes through.

    ``slots`` has the devices' names on the host by the numbers of the slots in the guest's table,
    ``qtest`` is QEMU's socket, ``mailbox`` and ``pin`` are as for `Program`, ``mechanism`` as for
    `Device.notifications`. Yields a line for each action; ends when QEMU does. Raises OpenError if
    QEMU or a device cannot be used, or another relay runs beside QEMU; QTestError if QEMU's test
    interface fails.
    """
    names = {number: pci.canonical(name) for number, name in slots.items()}
    with ExitStack() as stack:
        stack.enter_context(alone(pid))
        client = connect(qtest)
        streams = {}
        for number, bdf in names.items():
            streams[number] = borrow(pid, bdf, mechanism)
            stack.callback(give_back, pid, bdf, streams[number])
        process = os.pidfd_open(pid)
        stack.callback(os.close, process)
        program = Program(streams, client, mailbox, pin)
        # A program that starts this one can wait for this line: no later notification is missed.
        print("relaying; Ctrl-C ends it", file=sys.stderr, flush=True)
        for done in program.run(process):
            yield line(names[done.action.slot], done)
