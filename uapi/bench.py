# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A device on which `uapi.checks` try things, and which they leave as it was."""

from __future__ import annotations

import contextlib

from uapi.closing import Closing
from uapi.errors import UapiError
from uapi.eventfd import EventFd
from uapi.notification import Notification, decode
from uapi.support import open_device
from uapi.vfio import ACPI, REQ

# A limit, no figure: what is queued comes at once, and emulation may be slow.
SECONDS = 10.0
# How long nothing has to come for it to count as nothing.
QUIET = 0.05


class BrokenError(Exception):
    """A promise was not kept; the text says in which way."""


def expect(what: str, got: object, wanted: object) -> None:
    """Raise BrokenError if they differ."""
    if got != wanted:
        raise BrokenError(f"{what}: {got}, where it should be {wanted}")


class Reader(EventFd):
    """An eventfd whose loopbacks are counted; what firmware sends meanwhile is passed over."""

    def word(self) -> int:
        """Wait for the next word, whatever it is."""
        if not self.wait(SECONDS):
            raise BrokenError(f"nothing to read after {SECONDS:g} s")
        word = self.read()
        if word is None:
            raise BrokenError("poll said that there is something to read, and there was not")
        return word

    def loopback(self) -> Notification:
        """Wait for the next loopback."""
        while not (got := decode(self.word())).loopback:
            pass
        return got

    def loopbacks(self, count: int) -> None:
        """BrokenError unless exactly ``count`` loopbacks come, each by itself and none lost."""
        for number in range(1, count + 1):
            expect(f"loopback {number} of {count}", self.loopback(), Notification(0, True, 0))
        self.silent()

    def silent(self) -> None:
        """BrokenError if one more loopback comes."""
        while self.wait(QUIET):
            if (word := self.read()) is not None and decode(word).loopback:
                raise BrokenError("a loopback more than were sent")


class Bench(Closing):
    """The open device, and the eventfds that a check has made.

    OpenError as `support.open_device`.
    """

    def __init__(self, bdf: str, via: str | None = None) -> None:
        self.device = open_device(bdf, via)
        self._made: list[EventFd] = []

    def close(self) -> None:
        """Close the eventfds, and the device."""
        self._close_eventfds()
        self.device.close()

    def reader(self, *, nonblocking: bool = True, semaphore: bool = False) -> Reader:
        """A new eventfd, open until the check has ended."""
        reader = Reader(nonblocking=nonblocking, semaphore=semaphore)
        self._made.append(reader)
        return reader

    def armed(self, index: int = ACPI, *, nonblocking: bool = True) -> Reader:
        """A new eventfd that the index signals."""
        reader = self.reader(nonblocking=nonblocking)
        self.device.arm(reader, index)
        return reader

    def send(self, count: int = 1) -> None:
        """Queue loopbacks."""
        for _ in range(count):
            self.device.loopback()

    def reopen(self) -> None:
        """Close the device, if it is not closed yet, and open it again."""
        self.device.close()
        self.device = open_device(self.device.bdf, self.device.via)

    def restore(self) -> None:
        """Disarm what a check may have armed, and close its eventfds."""
        if self.device.closed:
            self.reopen()
        for index in (ACPI, REQ):
            # Without a companion there is nothing to disarm.
            with contextlib.suppress(UapiError):
                self.device.disarm(index)
        self._close_eventfds()

    def _close_eventfds(self) -> None:
        while self._made:
            self._made.pop().close()
