# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Print notifications when they arrive: ``python -m uapi listen``."""

from __future__ import annotations

import errno
import json
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from uapi import support
from uapi.errors import FormatError, OpenError
from uapi.eventfd import EventFd
from uapi.vfio import REQ, Device


@dataclass(frozen=True)
class Line:
    """One line of the output: an event, a loss, or a message.

    With ``--json`` the line is an object of "time" and ``facts``; otherwise it is the time and
    ``text``.
    """

    text: str
    facts: dict[str, Any]
    time: datetime = field(default_factory=lambda: datetime.now().astimezone())

    def __str__(self) -> str:
        return f"{self.time:%H:%M:%S.%f} {self.text}"

    def json(self) -> str:
        """Return the line as a JSON object."""
        return json.dumps({"time": self.time.isoformat(timespec="microseconds")} | self.facts)


class Source(Protocol):
    """A source of lines: a descriptor to poll, and a method that reads it."""

    def fileno(self) -> int:
        """Return the descriptor, which is readable when there are lines."""

    def lines(self) -> Iterator[Line]:
        """Yield the available lines. Does not block, and yields nothing if there are none."""

    @property
    def over(self) -> bool:
        """Whether the source has ended. An ended source yields no more lines."""


class DeviceSource:
    """The notifications of a device, by its queue or by an eventfd; `close` ends that."""

    over = False

    def __init__(self, device: Device) -> None:
        self._bdf = device.bdf
        self._notifications = device.notifications()
        self.mechanism = self._notifications.mechanism

    def fileno(self) -> int:
        """See `Source`."""
        return self._notifications.fileno()

    def close(self) -> None:
        """Close the queue, or disarm and close the eventfd."""
        self._notifications.close()

    def lines(self) -> Iterator[Line]:
        """See `Source`."""
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
    """Closes a device when the kernel asks user space to release it (interrupt index REQ).

    The kernel asks when the device is unbound; the unbinding waits until the device is closed.
    """

    def __init__(self, device: Device, notifications: DeviceSource) -> None:
        self._device = device
        self._notifications = notifications
        self._eventfd = EventFd()
        device.arm(self._eventfd, REQ)

    @property
    def over(self) -> bool:
        """See `Source`."""
        return self._device.closed

    def fileno(self) -> int:
        """See `Source`."""
        return self._eventfd.fileno()

    def close(self) -> None:
        """Close the eventfd."""
        self._eventfd.close()

    def lines(self) -> Iterator[Line]:
        """See `Source`."""
        if self._eventfd.read() is None:
            return
        yield from self._notifications.lines()
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
    """The events of the acpi_event family."""

    over = False

    def __init__(self) -> None:
        # Imported here because only this source needs pyroute2, which takes long to import.
        from uapi import probe

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
        """See `Source`."""
        return self._listener.fileno()

    def close(self) -> None:
        """Close the socket, and leave the multicast group with it."""
        self._listener.close()

    def lines(self) -> Iterator[Line]:
        """See `Source`."""
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
    """Return ``text`` with unprintable characters escaped: firmware chooses the printed names."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text) or "-"


def lines(sources: Sequence[Source]) -> Iterator[Line]:
    """Yield the lines of all sources when they arrive, until all sources have ended."""
    while alive := {source.fileno(): source for source in sources if not source.over}:
        poll = select.poll()
        for fd in alive:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll():
            if not alive[fd].over:
                yield from alive[fd].lines()


def listen(
    devices: Sequence[str], *, netlink: bool, as_json: bool, open_method: str | None = None
) -> None:
    """Print the notifications of ``devices`` and, if ``netlink``, the events of ``acpi_event``.

    Runs until interrupted. Returns only when the host has taken back all devices and ``netlink``
    is False. Raises OSError (mostly `OpenError`) if a source cannot be opened.
    """
    with ExitStack() as stack:
        sources: list[Source] = []
        for bdf in dict.fromkeys(devices):
            device = stack.enter_context(support.open_device(bdf, open_method))
            support.require_notifications(device)
            events = DeviceSource(device)
            stack.callback(events.close)
            release = ReleaseSource(device, events)
            stack.callback(release.close)
            sources += [events, release]
        if netlink:
            family = NetlinkSource()
            stack.callback(family.close)
            sources.append(family)
        # Tells the program that started this one that no later notification is missed.
        print("listening; Ctrl-C ends it", file=sys.stderr, flush=True)
        for line in lines(sources):
            print(line.json() if as_json else line, flush=True)
