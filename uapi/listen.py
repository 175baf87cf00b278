# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Print notifications when they arrive: ``python -m uapi listen``."""

from __future__ import annotations

import errno
import json
import os
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from . import support
from .errors import FormatError, OpenError
from .eventfd import EventFd
from .vfio import REQ, Device


@dataclass(frozen=True)
class Line:
    """One line of the output: a notification, a loss, or a message.

    With ``--json`` it is printed as an object of "time" and ``facts``, otherwise as the time of day
    and ``text``.
    """

    text: str
    facts: dict[str, Any]
    time: datetime = field(default_factory=lambda: datetime.now().astimezone())

    def __str__(self) -> str:
        return f"{self.time:%H:%M:%S.%f} {self.text}"

    def json(self) -> str:
        """Return the line as a JSON object, with the time in the format of ISO 8601."""
        return json.dumps({"time": self.time.isoformat(timespec="microseconds")} | self.facts)


class Source(Protocol):
    """A source of lines of the output: a descriptor to poll, and a method that reads from it."""

    def fileno(self) -> int:
        """Return the descriptor. It is readable (POLLIN) when there are lines."""

    def lines(self) -> Iterator[Line]:
        """Yield one or more of the available lines; nothing if there is none. Does not block."""

    @property
    def over(self) -> bool:
        """Whether the source has ended. An ended source yields no more lines."""


class DeviceSource:
    """A source of the notifications of ``device``. It reads a queue or an eventfd until `close`.

    ``mechanism`` is as for `Device.notifications`. Raises the errors of that.
    """

    over = False

    def __init__(self, device: Device, mechanism: str | None = None) -> None:
        self._bdf = device.bdf
        self._notifications = device.notifications(mechanism)
        self.mechanism = self._notifications.mechanism

    def fileno(self) -> int:
        """Return the descriptor of the queue or of the eventfd."""
        return self._notifications.fileno()

    def close(self) -> None:
        """Close the queue, or disarm and close the eventfd."""
        self._notifications.close()

    def lines(self) -> Iterator[Line]:
        """Yield a line for the next notification, or the error in it, if there is one.

        Does not block.
        """
        facts: dict[str, Any] = {"mechanism": self.mechanism, "device": self._bdf}
        head = f"{self.mechanism} {self._bdf}"
        try:
            got = self._notifications.read(0)
        except FormatError as error:
            yield Line(f"{head} no notification: {error}", facts | {"error": str(error)})
            return
        if got is None:
            return
        notes = ["loopback"] * got.loopback + [f"lost {got.lost} before"] * bool(got.lost)
        yield Line(
            " ".join([head, f"{got.value:#04x}", *notes]),
            facts | {"value": got.value, "loopback": got.loopback, "lost": got.lost},
        )


class ReleaseSource:
    """A source that closes ``device`` when the kernel asks user space to release it.

    The kernel asks by an eventfd (interrupt index REQ) when the device is unbound or unplugged, and
    waits until the device is closed. ``notifications``, the source of the device's notifications,
    then ends as well.
    """

    def __init__(self, device: Device, notifications: DeviceSource) -> None:
        self._device = device
        self._notifications = notifications
        self._eventfd = EventFd()
        device.arm(self._eventfd, REQ)

    @property
    def over(self) -> bool:
        """Whether the device is closed."""
        return self._device.closed

    def fileno(self) -> int:
        """Return the descriptor of the eventfd that is armed on the index REQ."""
        return self._eventfd.fileno()

    def close(self) -> None:
        """Close the eventfd, not the device."""
        self._eventfd.close()

    def lines(self) -> Iterator[Line]:
        """If the kernel has asked, close the device; otherwise yield nothing.

        Yields a line for each notification that can still be read, then one that says "closed".
        """
        if self._eventfd.read() is None:
            return
        # Everything that is queued: nothing of it arrives after the device is closed.
        while pending := [*self._notifications.lines()]:
            yield from pending
        self._notifications.over = True
        self._device.close()
        yield Line(
            f"{self._notifications.mechanism} {self._device.bdf} closed: "
            "the host wants the device back",
            {
                "mechanism": self._notifications.mechanism,
                "device": self._device.bdf,
                "closed": True,
            },
        )


class NetlinkSource:
    """A source of the events of the acpi_event family.

    Raises OpenError if this network namespace does not have the family, or the socket fails.
    """

    over = False

    def __init__(self) -> None:
        # Imported here because only this source needs pyroute2, which takes long to import.
        from . import probe

        self._lost = probe.Lost
        try:
            self._listener = probe.Listener()
        except OpenError:
            raise
        except OSError as error:
            raise OpenError(
                error.errno or errno.EIO,
                "acpi_event",
                "this network namespace does not have the family"
                if error.errno == errno.ENOENT
                else str(error.strerror or error),
                "only the initial one has it, on a kernel with ACPI and generic netlink",
            ) from error

    def fileno(self) -> int:
        """Return the descriptor of the netlink socket."""
        return self._listener.fileno()

    def close(self) -> None:
        """Close the socket, which leaves the multicast group."""
        self._listener.close()

    def lines(self) -> Iterator[Line]:
        """Yield a line for each event and each loss that the socket has. Does not block.

        A message that is not an event becomes a line with the error, and ends this call.
        """
        facts: dict[str, Any] = {"mechanism": "netlink"}
        try:
            while (got := self._listener.read(0)) is not None:
                if isinstance(got, self._lost):
                    yield Line(f"netlink lost {got.count}", facts | {"lost": got.count})
                    continue
                names = printable(got.device_class), printable(got.bus_id)
                yield Line(
                    f"netlink {names[1]} {got.type:#04x} class {names[0]} data {got.data:#x}",
                    facts
                    | {
                        "device": got.bus_id,
                        "value": got.type,
                        "class": got.device_class,
                        "data": got.data,
                        "sequence": got.sequence,
                    },
                )
        except FormatError as error:
            yield Line(f"netlink no event: {error}", facts | {"error": str(error)})


def printable(text: str) -> str:
    """Return ``text`` with unprintable characters escaped, or "-" if it is empty.

    The names in an event come from drivers and firmware; they must not send control characters to
    the user's terminal.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text) or "-"


def lines(sources: Sequence[Source], reader: int | None = None) -> Iterator[Line]:
    """Wait for lines of all sources and yield them, until all sources have ended.

    ``reader`` is the descriptor to which they are written: raises BrokenPipeError when nobody reads
    from there any more, also if there is no line to write.
    """
    while alive := {source.fileno(): source for source in sources if not source.over}:
        poll = select.poll()
        for fd in alive:
            poll.register(fd, select.POLLIN)
        if reader is not None:
            poll.register(reader, 0)  # POLLERR and POLLHUP are always told
        for fd, _ in poll.poll():
            if fd == reader:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            if not alive[fd].over:
                yield from alive[fd].lines()


def listen(
    devices: Sequence[str],
    *,
    netlink: bool,
    as_json: bool,
    open_method: str | None = None,
    mechanism: str | None = None,
) -> None:
    """Print the notifications of ``devices`` and, if ``netlink``, the events of acpi_event.

    ``devices`` are PCI addresses; ``open_method`` is as for `Device.open`, ``mechanism`` as for
    `Device.notifications`. With ``as_json`` each line is a JSON object. Without ``netlink``,
    returns when the kernel has asked user space to release every device; otherwise runs until an
    exception. Raises BrokenPipeError when nobody reads stdout any more, and OSError (mostly
    `OpenError`) if a device or the socket cannot be opened.
    """
    with ExitStack() as stack:
        sources: list[Source] = []
        for bdf in dict.fromkeys(devices):
            device = stack.enter_context(support.open_device(bdf, open_method))
            events = DeviceSource(device, mechanism)
            stack.callback(events.close)
            release = ReleaseSource(device, events)
            stack.callback(release.close)
            sources += [events, release]
        if netlink:
            family = NetlinkSource()
            stack.callback(family.close)
            sources.append(family)
        # A program that starts this one can wait for this line: no later notification is missed.
        print("listening; Ctrl-C ends it", file=sys.stderr, flush=True)
        reader = None if sys.stdout is None else sys.stdout.fileno()
        for line in lines(sources, reader):
            print(line.json() if as_json else line, flush=True)
