# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Check the running kernel with one device: ``python -m uapi conformance``.

Runs on any host that has a device bound to vfio-pci and not in use. The checks cause loopbacks
instead of notifications by firmware. The device is opened and closed, which resets it, and is left
disarmed. Nothing else on the host is changed.

The checks cover those requirements of docs/evidence.md for a kernel with the eventfd series that
loopbacks can test. Most checks skip a notification by firmware. It can disturb a check that
compares a whole word or expects a loopback in one of two eventfds. A check that fails, and whose
eventfds have received such a notification meanwhile, therefore runs again, `TRIES` times in all.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from . import checks, support
from .bench import Bench, BrokenError
from .errors import FormatError
from .vfio import ACPI

PASS = "pass"
FAIL = "fail"
DISTURBED = "disturbed"

# How often a check runs at most. It runs again only if firmware notified the device meanwhile.
TRIES = 3


@dataclass(frozen=True)
class Check:
    """The result of one check.

    ``outcome`` is "pass", "fail", or "disturbed" if firmware notified the device each time that the
    check failed, so that the kernel may be right. ``message`` is the reason of the last two.
    ``requirement`` is the id in docs/evidence.md; ``title`` says what the check expects.
    ``disturbances`` is the number of failures that did not count.
    """

    requirement: str
    title: str
    outcome: str
    message: str = ""
    disturbances: int = 0


@dataclass(frozen=True)
class Report:
    """The results of all checks on one device.

    ``device`` is the BDF, ``open_method`` "cdev" or "group", ``kernel`` the release as in uname(2).
    ``companion`` tells whether the device has an ACPI companion.
    """

    device: str
    open_method: str
    kernel: str
    companion: bool
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether at least one check ran, and all that ran passed."""
        return bool(self.checks) and all(check.outcome == PASS for check in self.checks)

    def json(self) -> str:
        """Return a JSON object: "passed", and the fields of this class and of each `Check`."""
        return json.dumps(asdict(self) | {"passed": self.passed}, indent=2)

    def __str__(self) -> str:
        companion = "" if self.companion else ", without an ACPI companion"
        lines = [f"{self.device} through {self.open_method}{companion}, Linux {self.kernel}", ""]
        lines += map(_line, self.checks)
        count = Counter(check.outcome for check in self.checks)
        total = f"{count[PASS]} passed, {count[FAIL]} failed"
        if count[DISTURBED]:
            total += f", {count[DISTURBED]} disturbed by firmware: run again when it is quiet"
        return "\n".join([*lines, "", total])


def run(bdf: str, open_method: str | None = None) -> list[Check]:
    """Run the checks as `report` does, and return only their results."""
    return list(report(bdf, open_method).checks)


def report(bdf: str, open_method: str | None = None) -> Report:
    """Run the checks on the device ``bdf`` and return their results.

    Checks for a device with an ACPI companion are left out if it has none, and the reverse.
    ``open_method`` is "cdev" or "group"; None takes "cdev" if the kernel has it. Raises OpenError
    if the device cannot be opened, or (ENOTSUP) if the kernel lacks VFIO_PCI_ACPI_IRQ_INDEX, or the
    eventfd of the device's index counts or has to be acknowledged.
    """
    with Bench(bdf, open_method) as bench:
        support.require_index(bench.device)
        companion = bench.device.irq_info(ACPI).count > 0
        if companion:
            support.require_word(bench.device)
        wanted = [item for item in checks.ALL if item.companion in (None, companion)]
        return Report(
            device=bench.device.bdf,
            open_method=bench.device.open_method,
            kernel=os.uname().release,
            companion=companion,
            checks=tuple(_run(wanted, bench)),
        )


def _run(wanted: Iterable[checks.Item], bench: Bench) -> Iterable[Check]:
    for item in wanted:
        for before in range(TRIES):
            check = _try(item, bench, before)
            if check.outcome != DISTURBED:
                break
        yield check


def _try(item: checks.Item, bench: Bench, before: int) -> Check:
    """Run a check once. ``before`` is the number of its disturbances so far."""
    foreign = bench.foreign
    message = ""
    try:
        item.function(bench)
    except (BrokenError, FormatError, OSError) as error:
        message = str(error)
    bench.restore()  # also finds notifications that the check has not read
    if not message:
        return Check(item.requirement, item.title, PASS, disturbances=before)
    if bench.foreign == foreign:
        return Check(item.requirement, item.title, FAIL, message, before)
    message += " (firmware notified the device meanwhile)"
    return Check(item.requirement, item.title, DISTURBED, message, before + 1)


def _line(check: Check) -> str:
    again = f" (after {check.disturbances} disturbed by firmware)" if check.disturbances else ""
    line = f"{check.requirement}  {check.outcome}  {check.title}{again}"
    return f"{line}\n{'':12}      {check.message}" if check.message else line
