# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Decide what a VMM does with a notification of a passed-through device. No I/O, no clock.

The caller reads notifications, by any mechanism, and carries out the actions. A slot is the number
of a device in the guest's table (`uapi.vmm.guest_table`).
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import notification
from ..errors import FormatError
from ..notification import FIRST_OF_DEVICE, Notification

# ACPICA passes no more than 16 bits of a value on, on the host and in the guest
# (include/acpi/acpixf.h: acpi_notify_handler; drivers/acpi/acpica/evmisc.c).
WIDEST = 0xFFFF


@dataclass(frozen=True)
class Policy:
    """Which values reach the guest, and what it is told after a loss.

    Values from ``first`` to ``widest`` are delivered. ``resync`` is the value by which the guest's
    driver is asked to read the device's state again after a loss; which value that is, if any, the
    driver decides. None: the guest's table only counts the loss.

    ValueError if ``first`` is below 0x80 or the numbers contradict each other.
    """

    first: int = FIRST_OF_DEVICE
    widest: int = WIDEST
    resync: int | None = None

    def __post_init__(self) -> None:
        if not FIRST_OF_DEVICE <= self.first <= self.widest <= WIDEST:
            raise ValueError(
                f"policy: {self.first:#x} to {self.widest:#x} is no range in 0x80 to {WIDEST:#x}"
            )
        if self.resync is not None and not self.first <= self.resync <= self.widest:
            raise ValueError(f"policy: {self.resync:#x} (resync) is not delivered itself")


@dataclass(frozen=True)
class Gap:
    """An arrival: ``lost`` notifications are missing here (`uapi.probe.Lost` and the like)."""

    lost: int


@dataclass(frozen=True)
class Closed:
    """An arrival: no notification comes any more, because of ``cause``."""

    cause: str


@dataclass(frozen=True)
class Deliver:
    """An action: put ``value`` into the mailbox of ``slot``, then raise the guest's interrupt."""

    slot: int
    value: int


@dataclass(frozen=True)
class Drop:
    """An action: do nothing about ``value``. ``reason`` is one of "loopback", "below", "wide"."""

    slot: int
    value: int
    reason: str


@dataclass(frozen=True)
class Resynchronise:
    """An action: tell the guest that ``lost`` notifications are missing, then notify ``value``."""

    slot: int
    lost: int
    value: int | None


@dataclass(frozen=True)
class Stop:
    """An action: stop reading the device of ``slot``, because of ``cause``."""

    slot: int
    cause: str


Arrival = Notification | Gap | Closed
Action = Deliver | Drop | Resynchronise | Stop


class Relay:
    """The state of the relay: its policy, and the slots that have stopped."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self._stopped: set[int] = set()

    def take(self, slot: int, arrival: Arrival) -> tuple[Action, ...]:
        """Return the actions on ``arrival``, in order. None follows a `Stop` of the slot.

        A loss is told before the notification that carries it, also if that one is dropped.
        """
        if slot in self._stopped:
            return ()
        if isinstance(arrival, Closed):
            self._stopped.add(slot)
            return (Stop(slot, arrival.cause),)
        lost = (Resynchronise(slot, arrival.lost, self.policy.resync),) if arrival.lost > 0 else ()
        return lost if isinstance(arrival, Gap) else (*lost, self._decide(slot, arrival))

    def take_word(self, slot: int, word: int) -> tuple[Action, ...]:
        """Return the actions on a word that was read from the eventfd.

        A word without VALID stops the slot: another process wrote to the eventfd, and then no later
        word can be trusted either. Reserved bits are ignored, since a later kernel may use them.
        """
        try:
            arrival: Arrival = notification.decode(word, strict=False)
        except FormatError as error:
            arrival = Closed(str(error))
        return self.take(slot, arrival)

    def _decide(self, slot: int, arrival: Notification) -> Deliver | Drop:
        reasons = {
            "loopback": arrival.loopback,
            "below": arrival.value < self.policy.first,
            "wide": arrival.value > self.policy.widest,
        }
        for reason, applies in reasons.items():
            if applies:
                return Drop(slot, arrival.value, reason)
        return Deliver(slot, arrival.value)
