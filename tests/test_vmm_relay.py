# SPDX-License-Identifier: GPL-2.0-only
"""The relay's core and the mailbox: properties that hold for every sequence of notifications."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
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
settings.register_profile(
    "here",
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
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


# Values that a driver may get, the power levels of a GPU (D-notifier) among them.
DRIVER = st.sampled_from([0x80, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xFF, 0x100, 0x181, WIDEST])


@pytest.mark.requirement("REQ-VMM-20")
@given(st.lists(st.tuples(SLOTS, DRIVER | st.integers(0x80, WIDEST)), max_size=40))
def test_values_for_the_driver_are_delivered_in_order(values: list[tuple[int, int]]) -> None:
    actions = taken(Relay(), [(slot, Notification(value)) for slot, value in values])
    assert actions == [Deliver(slot, value) for slot, value in values]


@pytest.mark.requirement("REQ-VMM-21")
@given(st.sampled_from([0, 3, 0x7F]) | st.integers(0, 0x7F))
def test_requests_to_the_guests_kernel_are_dropped(value: int) -> None:
    assert Relay().take(0, Notification(value)) == (Drop(0, value, "below"),)


@pytest.mark.requirement("REQ-VMM-22")
@given(st.sampled_from([0x10000, 0x10003, 0x100D1]) | st.integers(WIDEST + 1, (1 << 32) - 1))
def test_values_that_acpica_would_cut_are_dropped(value: int) -> None:
    assert Relay().take(0, Notification(value)) == (Drop(0, value, "wide"),)


@pytest.mark.requirement("REQ-VMM-23")
@given(VALUES)
def test_a_loopback_is_dropped(value: int) -> None:
    arrived = Notification(value, loopback=True)
    assert Relay().take(0, arrived) == (Drop(0, value, "loopback"),)


@pytest.mark.requirement("REQ-VMM-27")
@given(policies(), VALUES.filter(lambda value: 0x80 <= value <= WIDEST))
def test_the_policy_decides_about_the_driver_s_values(policy: Policy, value: int) -> None:
    allowed = policy.first <= value <= policy.widest
    (action,) = Relay(policy).take(0, Notification(value))
    assert isinstance(action, Deliver if allowed else Drop)


@pytest.mark.requirement("REQ-VMM-27")
@given(policies(), st.integers(1, LOST_MAX))
def test_the_policy_decides_by_what_value_a_loss_is_told(policy: Policy, lost: int) -> None:
    assert Relay(policy).take(0, Gap(lost)) == (Resynchronise(0, lost, policy.resync),)


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


@pytest.mark.requirement("REQ-VMM-24")
@given(policies(), SEQUENCES)
def test_every_loss_is_told_once_and_where_it_was(
    policy: Policy, arrivals: list[tuple[int, Arrival]]
) -> None:
    relay, stopped = Relay(policy), set()
    for slot, arrival in arrivals:
        actions = relay.take(slot, arrival)
        if isinstance(arrival, Closed):
            stopped.add(slot)
        elif slot not in stopped:
            told = [a.lost for a in actions if isinstance(a, Resynchronise)]
            assert told == ([arrival.lost] if arrival.lost else [])
            # The loss comes directly before the notification that carries it.
            assert not arrival.lost or isinstance(actions[0], Resynchronise)


@pytest.mark.requirement("REQ-VMM-25")
@given(SEQUENCES)
def test_a_stopped_slot_stays_silent_and_the_others_go_on(
    arrivals: list[tuple[int, Arrival]],
) -> None:
    actions = taken(Relay(), [(0, Closed("unplugged")), *arrivals])
    assert [action for action in actions if action.slot == 0] == [Stop(0, "unplugged")]
    others = [(slot, arrival) for slot, arrival in arrivals if slot]
    assert actions[1:] == taken(Relay(), others)


@pytest.mark.requirement("REQ-VMM-26")
@given(NOTIFICATIONS, st.integers(0, (1 << 64) - 1))
def test_a_word_does_what_its_notification_does(arrived: Notification, noise: int) -> None:
    word = encode(arrived) | noise & RESERVED
    assert Relay().take_word(1, word) == Relay().take(1, arrived)


@pytest.mark.requirement("REQ-VMM-26")
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


@pytest.mark.requirement("REQ-VMM-27")
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
    st.builds(Deliver, st.just(0), st.integers(1, WIDEST))
    | st.builds(Resynchronise, st.just(0), st.integers(1, 9), st.none()),
    max_size=60,
)


@pytest.mark.requirement("REQ-VMM-31")
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


@pytest.mark.requirement("REQ-VMM-31")
def test_mailbox_tells_a_loss_before_the_value_that_follows_it() -> None:
    mailbox = Mailbox(2)
    mailbox.put(Resynchronise(0, 2, None))
    for value in (0x81, 0x82, 0x83):
        mailbox.put(Deliver(0, value))
    mailbox.put(Resynchronise(0, 4, None))
    assert pops(mailbox) == [(3, 0x82), (0, 0x83), (4, None)]


@pytest.mark.requirement("REQ-VMM-30")
def test_mailbox_value_0_is_not_empty() -> None:
    mailbox = Mailbox()
    mailbox.put(Deliver(0, 0))
    assert pops(mailbox) == [(0, 0)]


@pytest.mark.requirement("REQ-VMM-32")
def test_mailbox_count_of_losses_saturates() -> None:
    mailbox = Mailbox()
    mailbox.put(Resynchronise(0, LOST_MAX + 5, None))
    mailbox.put(Deliver(0, 0x80))
    mailbox.put(Resynchronise(0, LOST_MAX + 5, None))
    assert pops(mailbox) == [(LOST_MAX, 0x80), (LOST_MAX, None)]


def test_mailbox_has_room() -> None:
    with pytest.raises(ValueError, match="depth 0 is not positive"):
        Mailbox(0)
