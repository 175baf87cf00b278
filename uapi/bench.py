# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The open device on which the checks of `uapi.checks` run, and eventfds for the checks."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .closing import Closing
from .errors import ClosedError, Error, UapiError
from .eventfd import EventFd
from .notification import LOOPBACK, VALID, Notification, decode
from .support import open_device
from .vfio import ACPI, REQ

# Seconds until a missing notification counts as lost. Generous, because emulation may be slow.
SECONDS = 10.0
# Seconds without a notification after which the eventfd counts as silent.
QUIET = 0.05


class BrokenError(Error):
    """The kernel broke a promise; the text says which one and how."""


def expect(what: str, got: object, wanted: object) -> None:
    """Raise BrokenError, whose text begins with ``what``, if ``got`` and ``wanted`` differ."""
    if got != wanted:
        raise BrokenError(f"{what}: {got}, where it should be {wanted}")


class Reader(EventFd):
    """An eventfd from which a check reads loopbacks.

    `loopback`, `loopbacks` and `silent` skip notifications by firmware, and raise FormatError if a
    word is not a notification. `word` does neither. ``foreign`` is called for each notification by
    firmware that the reader finds, also for one that is unread when the reader is closed.
    """

    def __init__(
        self,
        *,
        semaphore: bool = False,
        nonblocking: bool = True,
        foreign: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(semaphore=semaphore, nonblocking=nonblocking)
        self._foreign = foreign

    def read(self) -> int | None:
        """Return the counter as `EventFd.read` does."""
        word = super().read()
        self._note(word or 0)
        return word

    def raw(self, size: int) -> bytes:
        """Return the result of read(2) with a buffer of ``size`` bytes. Raises its OSError."""
        raw = os.read(self.fileno(), size)
        self._note(int.from_bytes(raw, sys.byteorder))
        return raw

    def close(self) -> None:
        """Close the eventfd."""
        with contextlib.suppress(ClosedError, OSError):
            self._note(_counter(self.fileno()))
        super().close()

    def _note(self, word: int) -> None:
        """Call ``foreign`` if ``word`` is a notification that is no loopback."""
        if word & VALID and not word & LOOPBACK:
            self._foreign()

    def word(self) -> int:
        """Wait for the next 64-bit word and return it.

        Raises BrokenError if the kernel does not wake up this thread within `SECONDS`.
        """
        if not self.wakes_up(SECONDS):
            raise BrokenError(f"nothing to read after {SECONDS:g} s")
        word = self.read()
        if word is None:
            raise BrokenError("poll said that there is something to read, and there was not")
        return word

    def loopback(self) -> Notification:
        """Wait for the next loopback and return it. Raises BrokenError like `word`."""
        while not (got := decode(self.word())).loopback:
            pass
        return got

    def loopbacks(self, count: int) -> None:
        """Read ``count`` loopbacks, one per read.

        Raises BrokenError if one does not arrive, if one reports lost notifications, or if there is
        one more.
        """
        for number in range(1, count + 1):
            expect(f"loopback {number} of {count}", self.loopback(), Notification(0, True, 0))
        self.silent()

    def silent(self) -> None:
        """Read until nothing arrives for `QUIET` seconds. BrokenError if a loopback arrives.

        Raises BrokenError also if firmware notifies the device without a pause for `SECONDS`.
        """
        end = time.monotonic() + SECONDS
        while self.wait(QUIET):
            if time.monotonic() > end:
                raise BrokenError(f"firmware notifies the device without a pause of {QUIET:g} s")
            if (word := self.read()) is not None and decode(word).loopback:
                raise BrokenError("a loopback more than were sent")


def _counter(fd: int) -> int:
    """Return the counter of the eventfd ``fd`` without reading it (eventfd_show_fdinfo())."""
    text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    return int(text.partition("eventfd-count:")[2].split()[0], 16)


class Bench(Closing):
    """The open device ``bdf``, and the eventfds that the current check uses.

    The arguments are those of `support.open_device`, which opens the device; raises OpenError.
    ``foreign`` is the number of notifications by firmware that the eventfds have received so far.
    """

    def __init__(self, bdf: str, open_method: str | None = None) -> None:
        self.device = open_device(bdf, open_method)
        self.foreign = 0
        self._made: list[EventFd] = []

    def close(self) -> None:
        """Close the eventfds and the device."""
        self._close_eventfds()
        self.device.close()

    def reader(self, *, nonblocking: bool = True, semaphore: bool = False) -> Reader:
        """Return a new eventfd with these options of `EventFd`. `restore` closes it."""
        reader = Reader(nonblocking=nonblocking, semaphore=semaphore, foreign=self._count)
        self._made.append(reader)
        return reader

    def armed(self, index: int = ACPI, *, nonblocking: bool = True) -> Reader:
        """Return a new eventfd and set it for the interrupt index. `restore` closes it."""
        reader = self.reader(nonblocking=nonblocking)
        self.device.arm(reader, index)
        return reader

    def send(self, count: int = 1) -> None:
        """Send ``count`` loopbacks (DATA_NONE) to the eventfd of the ACPI index."""
        for _ in range(count):
            self.device.loopback()

    def reopen(self) -> None:
        """Close the device if it is open, and open it again."""
        self.device.close()
        self.device = open_device(self.device.bdf, self.device.open_method)

    def restore(self) -> None:
        """Undo the changes of a check.

        Opens the device if it is closed, disarms the ACPI and the REQ index, and closes the
        eventfds of the check.
        """
        if self.device.closed:
            self.reopen()
        for index in (ACPI, REQ):
            # A device without a companion refuses to disarm the ACPI index.
            with contextlib.suppress(UapiError):
                self.device.disarm(index)
        self._close_eventfds()

    def _count(self) -> None:
        self.foreign += 1

    def _close_eventfds(self) -> None:
        while self._made:
            self._made.pop().close()
