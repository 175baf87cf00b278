# SPDX-License-Identifier: GPL-2.0-only
"""Generated sequences of what two VMMs, their devices and firmware do, beside a model of each VMM.

hypothesis generates the sequences, and makes one that fails shorter. The model is a list: what was
sent to a device while its VMM was registered, and was not read yet.
"""

from __future__ import annotations

import select
from dataclasses import dataclass
from typing import ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ktests.acpi import Firmware
from ktests.conftest import Bind
from ktests.mechanism import Mechanism, Vmm
from ktests.ordered_notify import one_by_one
from uapi import probe

EXAMPLES, STEPS = 40, 20

# A sequence that fails is made shorter for so long. hypothesis has no setting for that; its own
# limit is longer than that of a test.
engine.MAX_SHRINKING_SECONDS = 30

# Few values, so that they repeat. A VMM that does not read gets fewer than each mechanism keeps.
VALUES = st.lists(st.sampled_from((0x80, 0xD1, 0xFF)), min_size=1, max_size=4)
NAMES = st.sampled_from(("alpha", "beta"))


@dataclass(frozen=True)
class World:
    """What a sequence works on. ``sources`` are firmwares by the way they are made to notify."""

    mechanism: Mechanism
    bind: Bind
    sources: dict[str, Firmware]
    family: probe.Family


class AnyOrder(RuleBasedStateMachine):
    """A sequence of steps, each a rule; a subclass has the ``world``."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.vmms: dict[str, Vmm] = {}
        self.unread: dict[str, list[int]] = {}

    @precondition(lambda self: len(self.vmms) < 2)
    @rule(name=NAMES)
    def start(self, name: str) -> None:
        """Start the VMM of a device that has none."""
        if name not in self.vmms:
            world = self.world
            device, firmware = world.bind(name), world.sources["debugger"]
            self.vmms[name] = world.mechanism.vmm(device, firmware, world.family)
            self.unread[name] = []

    @rule(name=NAMES, values=VALUES, by=st.sampled_from(("debugger", "interrupt")))
    def notify(self, name: str, values: list[int], by: str) -> None:
        """Have firmware notify a device, whether it has a VMM or not."""
        one_by_one(self.world.sources[by], self.world.bind(name), values)
        if name in self.vmms:
            self.unread[name] += values

    @precondition(lambda self: self.vmms)
    @rule(data=st.data(), values=VALUES)
    def exchange(self, data: st.DataObject, values: list[int]) -> None:
        """Have a VMM read after each of several notifications."""
        name = data.draw(st.sampled_from(sorted(self.vmms)))
        for value in values:
            self.notify(name, [value], "debugger")
            self.check_values(name)

    @precondition(lambda self: self.vmms)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        """Read all that has arrived."""
        self.check_values(data.draw(st.sampled_from(sorted(self.vmms))))

    @precondition(lambda self: self.vmms and not self.world.mechanism.of_all_devices)
    @rule(data=st.data())
    def poll(self, data: st.DataObject) -> None:
        """Ask whether there is something to read."""
        name = data.draw(st.sampled_from(sorted(self.vmms)))
        ready = bool(select.select([self.vmms[name].fileno()], [], [], 0)[0])
        assert ready == bool(self.unread[name]), f"{name}: readable is {ready}"

    @precondition(lambda self: any(vmm.pauses() for vmm in self.vmms.values()))
    @rule(data=st.data(), values=VALUES)
    def pause(self, data: st.DataObject, values: list[int]) -> None:
        """Read all, deregister, notify, and register again: that notification is lost."""
        name = data.draw(st.sampled_from(sorted(self.vmms)))
        self.check_values(name)
        with data.draw(st.sampled_from(self.vmms[name].pauses())):
            one_by_one(self.world.sources["debugger"], self.world.bind(name), values)

    @precondition(lambda self: self.vmms)
    @rule(data=st.data(), reads=st.booleans())
    def stop(self, data: st.DataObject, reads: bool) -> None:
        """End a VMM, which reads what there is before, or does not."""
        name = data.draw(st.sampled_from(sorted(self.vmms)))
        if reads:
            self.check_values(name)
        self.vmms.pop(name).close()

    @precondition(lambda self: len(self.vmms) < 2)
    @rule(name=NAMES)
    def rebind(self, name: str) -> None:
        """Unbind a device that has no VMM, and bind it again."""
        if name not in self.vmms:
            self.world.bind(name).unbind()
            self.world.bind(name)

    def check_values(self, name: str) -> None:
        """Assert that the VMM of a device reads what the model says."""
        expected, self.unread[name] = self.unread[name], []
        got = self.vmms[name].values()
        assert got == self.world.mechanism.seen(expected), name

    def teardown(self) -> None:
        """Read what is left, and end the VMMs."""
        try:
            for name in self.vmms:
                self.check_values(name)
        finally:
            for vmm in self.vmms.values():
                vmm.close()


def run(world: World, number: int, *, shrink: bool) -> None:
    """Run the sequences that the seed ``number`` decides.

    What the first sequence raises that fails is raised here, with its steps as notes; with
    ``shrink``, it is made shorter before.
    """
    machine = seed(number)(type("Generated", (AnyOrder,), {"world": world}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=(Phase.generate, *((Phase.shrink,) if shrink else ())),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
