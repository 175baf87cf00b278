# SPDX-License-Identifier: GPL-2.0-only
"""Two processes with the same descriptors, which one inherits or gets by SCM_RIGHTS."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial

import pytest

from ktests.acpi import Firmware
from ktests.conftest import Bind, OpenVmm
from ktests.mechanism import Mechanism
from ktests.ordered_notify import one_by_one
from ktests.partner import SECONDS, Partner, descriptors, receive
from uapi import probe, vfio

HANDED = pytest.mark.parametrize("handed", [False, True], ids=["fork", "handed"])


class Shared:
    """A device that this process has opened and registered for, and a partner that shares it.

    ``here`` and ``there`` receive one message in this process and in the partner, as the function
    `receive` does. ``end_here`` closes the descriptors of this process, ``end_there`` ends the
    partner; ``stack`` does both. ``handed`` is that of `Partner`.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        bdf: str,
        family: probe.Family,
        stack: ExitStack,
        *,
        handed: bool,
    ) -> None:
        own = stack.enter_context(ExitStack())
        opened = own.enter_context(vfio.Device.open(bdf))
        source = own.enter_context(closing(mechanism.register(opened.fileno(), family)()))
        fds = (*descriptors(source), opened.fileno())
        other = stack.enter_context(Partner(source, fds, handed=handed))
        self.here: Callable[[float], bytes] = partial(receive, source)
        self.there: Callable[[float], bytes] = other.receive
        self.end_here: Callable[[], None] = own.close
        self.end_there: Callable[[], None] = other.close


def values(mechanism: Mechanism, message: bytes) -> list[int]:
    """Return the values that a received message has."""
    return [item.value for item in mechanism.heard([message], "")]


@pytest.mark.requirement("REQ-LIF-52")
@HANDED
def test_two_processes(
    mechanism: Mechanism, bind: Bind, firmware: Firmware, family: probe.Family, handed: bool
) -> None:
    device = bind("alpha")
    with ExitStack() as stack:
        shared = Shared(mechanism, device.bdf, family, stack, handed=handed)
        turns = ((shared.there, shared.here), (shared.here, shared.there)) * 2
        for value, (reader, other) in enumerate(turns, 0x81):
            one_by_one(firmware, device, [value])
            assert values(mechanism, reader(SECONDS)) == mechanism.seen([value])
            assert [other(0), reader(0)] == [b"", b""], "received twice"


@pytest.mark.requirement("REQ-LIF-53")
@HANDED
@pytest.mark.parametrize("first", ["here", "there"])
def test_one_of_two_closes(
    mechanism: Mechanism,
    bind: Bind,
    vmm: OpenVmm,
    firmware: Firmware,
    family: probe.Family,
    handed: bool,
    first: str,
) -> None:
    device = bind("alpha")
    with ExitStack() as stack:
        shared = Shared(mechanism, device.bdf, family, stack, handed=handed)
        ends = {"here": shared.end_here, "there": shared.end_there}
        rest = {"here": shared.there, "there": shared.here}[first]
        one_by_one(firmware, device, [0x81])
        ends.pop(first)()
        one_by_one(firmware, device, [0x82])
        got = values(mechanism, rest(SECONDS))
        if len(got) < len(mechanism.seen([0x81, 0x82])):
            got += values(mechanism, rest(SECONDS))
        assert got == mechanism.seen([0x81, 0x82])
    # Nothing of the two is left: the next VMM gets what comes now, and that alone.
    again = vmm("alpha")
    one_by_one(firmware, device, [0x83])
    assert again.values() == mechanism.seen([0x83])
