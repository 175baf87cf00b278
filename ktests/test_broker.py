# SPDX-License-Identifier: GPL-2.0-only
"""Isolation by the broker, which shares out the notifications of the group ``acpi_notify``.

The VMMs are confined processes that ask the broker themselves. The broker handles what the kernel
sends in its order. So each test ends with a notification of each VMM's device: when it has arrived,
everything before it has been handled.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ktests import confinement
from ktests.acpi import Firmware, Unrelated
from ktests.broker_process import PATH, BrokerProcess, asking
from ktests.channel import Channel
from ktests.confined import expected_privileges, privileges
from ktests.confined_process import ConfinedError, ConfinedProcess
from ktests.confinement import NOBODY, Confinement
from ktests.conftest import Measure
from ktests.pci import PciDevice
from uapi import probe
from uapi.broker.client import Broker, Numbers
from uapi.broker.message import NETLINK
from uapi.broker.policy import Grant
from uapi.eventq import decode
from uapi.notification import Notification

Bind = Callable[[str], PciDevice]

# Wider than 8 bits, which acpi_mc_group would cut.
ALPHA_VALUE, BETA_VALUE = 0x1A0, 0x2B0
COUNT = 8
LAST = 0xFFFF

ALL_CONFINEMENTS = pytest.mark.parametrize(
    "confined",
    [
        confinement.UNPRIVILEGED,
        confinement.FILTERED,
        confinement.NAMESPACED,
        confinement.SANDBOXED,
    ],
    ids=["unprivileged", "filtered", "namespaced", "sandboxed"],
)


def grant(device: PciDevice, uid: int = NOBODY) -> Grant:
    """Return the grant of the device to the user of the confined processes, or to another."""
    return Grant(device.bdf, uid, NETLINK, device.companion)


def values(messages: list[bytes]) -> list[int]:
    """Decode the messages of the broker and return the values, sorted."""
    return sorted(event.value for message in messages for event in decode(message))


def finish(firmware: Firmware, *vmms: tuple[PciDevice, ConfinedProcess]) -> list[list[int]]:
    """Notify each device once more, and return the other values that each VMM has received."""
    firmware.flush_handlers()
    for device, _ in vmms:
        firmware.notify(device.method, LAST)
        firmware.flush_handlers()
    got = [vmm.wait_for(lambda messages: LAST in values(messages)) for _, vmm in vmms]
    return [[value for value in values(messages) if value != LAST] for messages in got]


@pytest.mark.requirement("REQ-ISO-46")
@ALL_CONFINEMENTS
def test_two_vmms(
    bind: Bind,
    firmware: Firmware,
    family: probe.Family,
    measure: Measure,
    confined: Confinement,
) -> None:
    alpha, beta = bind("alpha"), bind("beta")
    with (
        BrokerProcess(family, grant(alpha), grant(beta)),
        ConfinedProcess(asking(alpha.bdf), confined) as one,
        ConfinedProcess(asking(beta.bdf), confined) as other,
    ):
        assert privileges(one) == privileges(other) == expected_privileges(confined)
        # The socket of the broker and the pipe of the confined process.
        assert len(one.descriptors) == 2, one.descriptors
        firmware.notify(alpha.method, ALPHA_VALUE, step=1, count=COUNT)
        firmware.notify(beta.method, BETA_VALUE, step=1, count=COUNT)
        got = finish(firmware, (alpha, one), (beta, other))
        measure("privilege", privileges(one))
    assert got == [
        [*range(ALPHA_VALUE, ALPHA_VALUE + COUNT)],
        [*range(BETA_VALUE, BETA_VALUE + COUNT)],
    ]


@pytest.mark.requirement("REQ-ISO-47")
def test_unrelated_devices(
    bind: Bind,
    firmware: Firmware,
    unrelated: dict[str, Unrelated],
    host: Channel,
    listener: probe.Listener,
    family: probe.Family,
) -> None:
    device = bind("alpha")
    with (
        BrokerProcess(family, grant(device)),
        ConfinedProcess(asking(device.bdf), confinement.UNPRIVILEGED) as vmm,
    ):
        firmware.notify(unrelated["ac"].method, 0x90, count=4)
        firmware.notify(unrelated["lid"].method, 0x80)
        host.request("powerdown")
        classes = set()
        while "button/power" not in classes:
            item = listener.receive(10.0)
            assert isinstance(item, probe.Received), "no event of the power button"
            classes.add(item.event.device_class)
        firmware.notify(device.method, 0xD1)
        assert finish(firmware, (device, vmm)) == [[0xD1]]
    assert "ac_adapter" in classes


@pytest.mark.requirement("REQ-ISO-48")
def test_outsiders(bind: Bind, firmware: Firmware, family: probe.Family) -> None:
    alpha, beta = bind("alpha"), bind("beta")
    confined = confinement.UNPRIVILEGED
    with BrokerProcess(family, grant(alpha, NOBODY - 1), grant(beta)):
        with (
            pytest.raises(ConfinedError, match="not granted to this user"),
            ConfinedProcess(asking(alpha.bdf), confined),
        ):
            pass
        with ConfinedProcess(asking(beta.bdf), confined) as vmm:
            firmware.notify(alpha.method, 0xD1)
            firmware.notify(beta.method, 0xD2)
            assert finish(firmware, (beta, vmm)) == [[0xD2]]
    with (
        BrokerProcess(family, grant(alpha, NOBODY - 1)),
        pytest.raises(ConfinedError, match="does its policy have this user"),
        ConfinedProcess(asking(alpha.bdf), confined),
    ):
        pass


@pytest.mark.requirement("REQ-DEL-41")
def test_restart(bind: Bind, firmware: Firmware, family: probe.Family) -> None:
    device = bind("alpha")
    numbers = Numbers()
    got: list[Notification | None] = []
    for value in (0x181, 0x182):
        with BrokerProcess(family, grant(device, 0)):
            with Broker(PATH) as connection, connection.open(device.bdf) as granted:
                stream = granted.notifications(numbers)
            firmware.notify(device.method, value)
            got.append(stream.read(10.0))
        got.append(stream.read(10.0))
        stream.close()
        firmware.notify(device.method, 0x190, count=3)
        firmware.flush_handlers()
    assert got == [Notification(0x181), None, Notification(0x182, lost=3), None]
