# SPDX-License-Identifier: GPL-2.0-only
"""The relay's core and the mailbox: properties that hold for every sequence of notifications."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uapi.notification import LOST_MAX, LOST_SHIFT, RESERVED, VALID, Notification, encode
from uapi.vmm.mailbox import EMPTY, Mailbox
from uapi.vmm.relay import (
    WIDEST,
    Action,
    Arrival,
    Closed,
    Deliver,
    Drop,
    Gap,
    Policy,
    Relay,
    Resynchronise,
    Stop,
)

# A busy machine may take longer for an example than for the one before. No folder .hypothesis is
# left in the checkout: a failure prints the decorator that repeats it.
settings.register_profile("here", deadline=None, database=None, print_blob=True)
settings.load_profile("here")

# Values at the limits of the rules are more frequent than random ones.
VALUES = st.sampled_from([0, 3, 0x7F, 0x80, 0xD1, 0xFF, 0x100, WIDEST, WIDEST + 1]) | st.integers(
    0, (1 << 32) - 1
)
LOST = st.sampled_from([0, 1, LOST_MAX]) | st.integers(0, LOST_MAX)
NOTIFICATIONS = st.builds(Notification, VALUES, st.booleans(), LOST)
ARRIVALS: st.SearchStrategy[Arrival] = (
    NOTIFICATIONS | st.builds(Gap, st.integers(1, 1 << 20)) | st.just(Closed("unplugged"))
)
SLOTS = st.integers(0, 2)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Return a valid policy."""
    first = draw(st.integers(0x80, WIDEST))
    widest = draw(st.integers(first, WIDEST))
    return Policy(first, widest, draw(st.none() | st.integers(first, widest)))


def taken(relay: Relay, arrivals: Sequence[tuple[int, Arrival]]) -> list[Action]:
    return [action for slot, arrival in arrivals for action in relay.take(slot, arrival)]


def before_closed(arrivals: Sequence[tuple[int, Arrival]], slot: int) -> list[Arrival]:
    mine = [arrival for number, arrival in arrivals if number == slot]
    ends = [index for index, arrival in enumerate(mine) if isinstance(arrival, Closed)]
    return mine[: ends[0]] if ends else mine


SEQUENCES = st.lists(st.tuples(SLOTS, ARRIVALS), max_size=40)


@given(policies(), SEQUENCES)
def test_exactly_the_allowed_values_are_delivered_in_order(
    policy: Policy, arrivals: list[tuple[int, Arrival]]
) -> None:
    actions = taken(Relay(policy), arrivals)
    for slot in range(3):
        delivered = [a.value for a in actions if isinstance(a, Deliver) and a.slot == slot]
        assert delivered == [
            arrival.value
            for arrival in before_closed(arrivals, slot)
            if isinstance(arrival, Notification)
            and not arrival.loopback
            and policy.first <= arrival.value <= policy.widest
        ]


@given(policies(), SEQUENCES)
def test_the_guests_kernel_is_never_asked_for_anything(
    policy: Policy, arrivals: list[tuple[int, Arrival]]
) -> None:
    for action in taken(Relay(policy), arrivals):
        if isinstance(action, Deliver | Resynchronise) and action.value is not None:
            assert 0x80 <= action.value <= WIDEST


@given(policies(), SEQUENCES)
def test_every_loss_is_told_once_and_where_it_was(
    policy: Policy, arrivals: list[tuple[int, Arrival]]
) -> None:
    actions = taken(Relay(policy), arrivals)
    for slot in range(3):
        told = [a.lost for a in actions if isinstance(a, Resynchronise) and a.slot == slot]
        mine = before_closed(arrivals, slot)
        assert told == [a.lost for a in mine if not isinstance(a, Closed) and a.lost]
        # The loss comes directly before the notification that carries it.
        order = [
            "loss" if isinstance(a, Resynchronise) else "value"
            for a in actions
            if a.slot == slot and not isinstance(a, Stop)
        ]
        expected = []
        for arrival in mine:
            assert not isinstance(arrival, Closed)
            expected += ["loss"] if arrival.lost else []
            expected += ["value"] if isinstance(arrival, Notification) else []
        assert order == expected


@given(SEQUENCES)
def test_a_stopped_slot_stays_silent_and_the_others_go_on(
    arrivals: list[tuple[int, Arrival]],
) -> None:
    actions = taken(Relay(), [(0, Closed("unplugged")), *arrivals])
    assert [action for action in actions if action.slot == 0] == [Stop(0, "unplugged")]
    others = [(slot, arrival) for slot, arrival in arrivals if slot]
    assert actions[1:] == taken(Relay(), others)


@given(NOTIFICATIONS, st.integers(0, (1 << 64) - 1))
def test_a_word_does_what_its_notification_does(arrived: Notification, noise: int) -> None:
    word = encode(arrived) | noise & RESERVED
    assert Relay().take_word(1, word) == Relay().take(1, arrived)


@given(st.integers(0, (1 << 64) - 1).filter(lambda word: not word & VALID) | st.integers(1 << 64))
def test_what_is_no_word_stops(word: int) -> None:
    relay = Relay()
    (action,) = relay.take_word(0, word)
    assert isinstance(action, Stop)
    assert relay.take_word(0, encode(Notification(0xD1))) == ()


@pytest.mark.parametrize(
    ("arrived", "reason"),
    [
        (Notification(0xD1, loopback=True), "loopback"),
        (Notification(3), "below"),
        (Notification(0x10003), "wide"),
    ],
)
def test_the_reason_of_a_drop(arrived: Notification, reason: str) -> None:
    assert Relay().take(0, arrived) == (Drop(0, arrived.value, reason),)


@pytest.mark.parametrize(
    "fields",
    [
        {"first": 0x7F},
        {"widest": 0x10000},
        {"first": 0x100, "widest": 0xFF},
        {"resync": 3},
        {"widest": 0xFF, "resync": 0x100},
    ],
)
def test_no_policy_lets_small_values_through(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="policy: "):
        Policy(**fields)


# ---- the mailbox ----


def pops(mailbox: Mailbox) -> list[tuple[int, int | None]]:
    """Pop until the mailbox is empty; return (lost, value) of each word."""
    popped = []
    while (word := mailbox.pop()) != EMPTY:
        value = word & 0xFFFF_FFFF if word & VALID else None
        popped.append((word >> LOST_SHIFT, value))
    return popped


PUTS = st.lists(
    st.builds(Deliver, st.just(0), st.integers(0, (1 << 32) - 1))
    | st.builds(Resynchronise, st.just(0), st.integers(1, 9), st.none()),
    max_size=60,
)


@given(st.integers(1, 8), PUTS)
def test_mailbox_keeps_the_newest_in_order_and_counts_the_rest(
    depth: int, puts: list[Deliver | Resynchronise]
) -> None:
    mailbox = Mailbox(depth)
    for action in puts:
        mailbox.put(action)
    popped = pops(mailbox)
    values = [action.value for action in puts if isinstance(action, Deliver)]
    assert [value for _, value in popped if value is not None] == values[-depth:]
    told = sum(action.lost for action in puts if isinstance(action, Resynchronise))
    assert sum(lost for lost, _ in popped) == told + max(0, len(values) - depth)
    assert mailbox.pop() == EMPTY


def test_mailbox_tells_a_loss_before_the_value_that_follows_it() -> None:
    mailbox = Mailbox(2)
    for value in (0x81, 0x82, 0x83):
        mailbox.put(Deliver(0, value))
    mailbox.put(Resynchronise(0, 4, None))
    assert pops(mailbox) == [(1, 0x82), (0, 0x83), (4, None)]


def test_mailbox_value_0_is_not_empty() -> None:
    mailbox = Mailbox()
    mailbox.put(Deliver(0, 0))
    assert pops(mailbox) == [(0, 0)]


def test_mailbox_count_of_losses_saturates() -> None:
    mailbox = Mailbox()
    mailbox.put(Resynchronise(0, LOST_MAX + 5, None))
    mailbox.put(Deliver(0, 0x80))
    mailbox.put(Resynchronise(0, LOST_MAX + 5, None))
    assert pops(mailbox) == [(LOST_MAX, 0x80), (LOST_MAX, None)]


def test_mailbox_has_room() -> None:
    with pytest.raises(ValueError, match="depth 0 is not positive"):
        Mailbox(0)
