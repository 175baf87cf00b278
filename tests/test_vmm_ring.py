# SPDX-License-Identifier: GPL-2.0-only
"""The VMM's end of a ring, with memory that is a bytearray and a guest that is a few lines."""

from __future__ import annotations

import pytest

from tests.vmmguest import MASK, Memory, words
from uapi.notification import LOST_SHIFT, VALID
from uapi.vmm.guest_table import RING_WORDS, STRIDES, Access
from uapi.vmm.relay import Deliver, Resynchronise
from uapi.vmm.ring import HEAD, TAIL, Ring

SLOT = 1
BASE = 0x1000
SIZE = STRIDES[Access.RING]


class Guest(Memory):
    """The memory of a guest with a ring at BASE, which begins with ``head`` and ``tail``."""

    def __init__(self, head: int = 0, tail: int = 0) -> None:
        super().__init__(BASE + SIZE)
        self.write32(BASE + HEAD, head)
        self.write32(BASE + TAIL, tail)

    def write(self, address: int, data: bytes) -> None:
        """Write ``data``, which has to be in the slot's page."""
        assert address >= BASE
        super().write(address, data)


def put(ring: Ring, *values: int) -> None:
    for value in values:
        ring.put(Deliver(SLOT, value))
        ring.fill()


@pytest.mark.requirement("REQ-VMM-50")
@pytest.mark.parametrize("start", [0, 5, MASK - 3], ids=["empty", "used", "wraps"])
def test_words_arrive_in_order(start: int) -> None:
    guest = Guest(start, start)
    ring = Ring(guest, BASE, SLOT)
    put(ring, 0xD1, 0xD1, 0x80)
    assert guest.pop(BASE, 2) == words(0xD1, 0xD1)
    put(ring, *range(0x80, 0x90))
    assert guest.pop(BASE, 99) == words(0x80, *range(0x80, 0x90))
    assert not ring.pending


@pytest.mark.requirement("REQ-VMM-50")
def test_full_ring_waits_for_the_guest() -> None:
    guest = Guest()
    ring = Ring(guest, BASE, SLOT)
    values = [0x80 + number % 0x70 for number in range(RING_WORDS + 3)]
    put(ring, *values)
    assert ring.pending
    assert ring.fill() == 0
    taken = guest.pop(BASE, 2)
    assert ring.fill() == 2
    assert ring.pending
    taken += guest.pop(BASE, RING_WORDS)
    assert ring.fill() == 1
    assert not ring.pending
    assert taken + guest.pop(BASE, 9) == words(*values)


@pytest.mark.requirement("REQ-VMM-51")
def test_words_of_an_earlier_relay_stay() -> None:
    guest = Guest()
    put(Ring(guest, BASE, SLOT), 0xD1, 0xD2)
    put(Ring(guest, BASE, SLOT), 0xD3)
    assert guest.pop(BASE, 9) == words(0xD1, 0xD2, 0xD3)


def test_loss_is_told_before_the_next_value() -> None:
    guest = Guest()
    ring = Ring(guest, BASE, SLOT)
    ring.put(Resynchronise(SLOT, 5, None))
    put(ring, 0xD1)
    assert guest.pop(BASE, 9) == [5 << LOST_SHIFT, *words(0xD1)]


@pytest.mark.requirement("REQ-VMM-52")
def test_memory_that_was_cleared_starts_the_ring_anew() -> None:
    """The guest has started again. What it had not taken is lost, and told as such."""
    guest = Guest(1000, 1000)
    ring = Ring(guest, BASE, SLOT)
    put(ring, 0xD1, 0xD2)
    guest.bytes[:] = bytes(len(guest.bytes))
    put(ring, 0xD3)
    put(ring, 0xD4)
    got = guest.pop(BASE, 9)
    assert [word for word in got if word & VALID] == words(0xD3, 0xD4)
    assert sum(word >> LOST_SHIFT for word in got) == 2


@pytest.mark.requirement("REQ-VMM-53")
@pytest.mark.parametrize(("head", "tail"), [(0, 1), (RING_WORDS + 1, 0), (7, MASK)])
def test_rubbish_in_the_memory_is_an_empty_ring(head: int, tail: int) -> None:
    guest = Guest(head, tail)
    put(Ring(guest, BASE, SLOT), 0xD1)
    assert guest.pop(BASE, RING_WORDS + 9)[-1:] == words(0xD1)


@pytest.mark.requirement("REQ-VMM-53")
def test_guest_with_a_wild_tail_keeps_nothing_busy() -> None:
    """Each fill ends, whatever the guest writes."""
    guest = Guest()
    ring = Ring(guest, BASE, SLOT)
    for number in range(4 * RING_WORDS):
        guest.write32(BASE + TAIL, number * 0x9E3779B1)
        put(ring, 0xD1)
        assert ring.room >= 1
