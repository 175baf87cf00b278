# SPDX-License-Identifier: GPL-2.0-only
"""The measurements of one series on one kernel, from the records of its VMs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kpatch.compare import times
from kpatch.compare.times import Times
from kpatch.run.protocol import Scalar
from kpatch.run.vm_run import VmRun
from kpatch.tables.outcomes import Outcome
from kpatch.verdict import judge
from kpatch.verdict.judge import TestResult
from kpatch.verdict.requirements import Requirement
from ktests.contract import ANY, MEASURED

# The keys of the guest's values that are lists of times, and the reason why there is no figure
# (ktests/measure/measurements.py).
MECHANISM, REFERENCE, ABSENT = "mechanism", "reference", "absent"


@dataclass(frozen=True)
class Measured:
    """One measurement.

    ``name`` is that of ktests/measure/measurements.py. ``outcome`` is "pass" if it was made;
    ``message`` says why it was not. ``values`` are its numbers and facts, ``mechanism`` and
    ``reference`` its times.
    """

    kernel: str
    series: str
    name: str
    outcome: Outcome
    message: str = ""
    seconds: float | None = None
    values: Mapping[str, Scalar] = field(default_factory=dict)
    mechanism: Times | None = None
    reference: Times | None = None

    @property
    def absent(self) -> str:
        """Return why the mechanism does not have what is measured; "" if it does."""
        return str(self.values.get(ABSENT, ""))


def measured(kernel: str, series: str, mechanism: str, vms: Sequence[VmRun]) -> list[Measured]:
    """Return the measurements that ``vms`` made, on the kernel version ``kernel``.

    A measurement during which the kernel complained has the outcome "crash", as a test has
    (`kpatch.verdict.judge`). If the VMs failed outside of all measurements, one more has the name
    "boot" and the reason.
    """
    table = {MEASURED: Requirement(MEASURED, "It is measured.", (ANY,))}
    run = judge.SeriesRun(series, mechanism, tuple(vms))
    judged = judge.judge(table, [run], complete=False)
    failures = [
        Measured(kernel, series, "boot", incident.outcome, incident.message)
        for incident in judged.incidents
        if incident.outcome is not Outcome.NOT_JUDGED
    ]
    return [_measured(kernel, series, test) for test in judged.tests] + failures


def _measured(kernel: str, series: str, test: TestResult) -> Measured:
    lists = (MECHANISM, REFERENCE)
    plain = {key: value for key, value in test.values.items() if key not in lists}
    outcome, message = test.outcome, test.message
    found: dict[str, Times] = {}
    try:
        found = {key: _times(test.values[key]) for key in lists if key in test.values}
    except ValueError as error:
        outcome, message = Outcome.FAIL, f"its times are none: {error}"
    return Measured(kernel, series, test.id, outcome, message, test.seconds, plain, **found)


def _times(text: Scalar) -> Times:
    numbers = [int(word) for word in str(text).split()]
    if min(numbers, default=0) <= 0:
        raise ValueError("a time is not positive")
    return times.times(numbers)
