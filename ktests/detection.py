# SPDX-License-Identifier: GPL-2.0-only
"""Which mechanism the running kernel has, by what a VMM can see of it.

Each mechanism's record (`ktests.mechanisms`) has a sign: a look at the machine, and the text that
the look returns if the kernel has the mechanism. The looks that touch the least come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ktests import mechanisms
from ktests.acpi import Firmware, Unrelated
from ktests.contract import UNDETECTED, UNKNOWN
from ktests.debugger import Debugger
from ktests.mechanism import Sign, Site
from ktests.pci import Device


@dataclass(frozen=True)
class Detection:
    """The mechanism of the kernel: one of the table, or `UNDETECTED`, or `UNKNOWN`; and why."""

    mechanism: str
    how: str


def signs() -> dict[str, Sign]:
    """Return the signs of all mechanisms in the order in which they are looked for."""
    found = {name: record.sign for name, record in mechanisms.RECORDS.items()}
    return dict(sorted(found.items(), key=lambda item: (item[1].rank, item[0])))


def detect(site: Site, declared: str, table: Mapping[str, Sign] | None = None) -> Detection:
    """Look for the signs of all mechanisms.

    If a mechanism is ``declared`` (else `UNDETECTED`), stop as soon as nothing can contradict it:
    a look may be what a broken kernel crashes at, and tests tell more of a crash.
    """
    table = signs() if table is None else table
    seen: dict[str, str] = {}
    for name, sign in table.items():
        if declared != UNDETECTED and _settled(declared, seen, table):
            break
        try:
            seen[name] = sign.look(site)
        except (OSError, RuntimeError) as error:  # of a device that a series has broken, say
            seen[name] = f"the look for {name} fails: {error}"
    return conclude(seen, table)


def conclude(seen: Mapping[str, str], table: Mapping[str, Sign] | None = None) -> Detection:
    """Return the mechanism that the looks of some signs amount to. Does no I/O."""
    table = signs() if table is None else table
    looked = [name for name in table if name in seen]
    found = [name for name in looked if seen[name]]
    if not found:
        return Detection(UNDETECTED, "; ".join(table[name].absent for name in looked))
    how = "; ".join(seen[name] for name in found)
    if len(found) == 1 and seen[found[0]] == table[found[0]].text:
        return Detection(found[0], how)
    return Detection(UNKNOWN, how)


def _settled(declared: str, seen: Mapping[str, str], table: Mapping[str, Sign]) -> bool:
    """Return whether no further look can show another mechanism in the place of ``declared``."""
    shown = {name for name, text in seen.items() if text == table[name].text}
    left = table.keys() - seen.keys()
    return declared in shown or (not shown and left <= {declared})


@contextmanager
def site(machine: Mapping[str, Any]) -> Iterator[Site]:
    """Bind a device that has a companion, for the length of the block; see ktests/machine.toml."""
    name, facts = next(item for item in machine["devices"].items() if item[1]["path"])
    device = Device(name, **facts)
    device.bind()
    opened: list[Debugger] = []

    def firmware() -> Firmware:
        opened.append(Debugger())
        return Firmware(opened[-1], Unrelated(**machine["unrelated"]["fence"]))

    try:
        yield Site(device, firmware)
    finally:
        for debugger in opened:
            debugger.close()
        device.unbind()
