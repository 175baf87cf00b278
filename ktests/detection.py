# SPDX-License-Identifier: GPL-2.0-only
"""Detect the mechanism of the running kernel by the uAPI that a VMM sees.

Each mechanism's record (`ktests.mechanisms`) has a `Sign`: a function that looks for the mechanism,
and the text that it returns if the kernel has the mechanism. The functions are called in the order
of their rank, so that those that have the least effect on the machine come first. Before them all
comes the sign of a mechanism of the user's own: if the kernel has it, the others are not looked
for. Such a mechanism may use the number of a known one, whose sign would then be a contradiction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ktests import mechanisms
from ktests.acpi import Firmware, Unrelated
from ktests.contract import UNDETECTED, UNKNOWN
from ktests.debugger import Debugger
from ktests.mechanism import OWN_RANK, Sign, Site
from ktests.pci import PciDevice


@dataclass(frozen=True)
class Detection:
    """The result of the detection.

    ``mechanism`` is the name of a mechanism, `UNDETECTED` or `UNKNOWN`. ``how`` describes the signs
    that were found, or says of each sign that was looked for that it was not found.
    """

    mechanism: str
    how: str


def signs() -> dict[str, Sign]:
    """Return the signs of all mechanisms by name, in the order in which they are looked for."""
    by_name = {name: record.sign for name, record in mechanisms.RECORDS.items()}
    return dict(sorted(by_name.items(), key=lambda item: (item[1].rank, item[0])))


def detect(site: Site, declared: str, table: Mapping[str, Sign] | None = None) -> Detection:
    """Look for the signs of the mechanisms on ``site``, and return the detected mechanism.

    ``table`` has the signs to look for, by default those of `signs`. ``declared`` is the mechanism
    that the host declares, or `UNDETECTED`. If one is declared, stop as soon as no further sign can
    contradict it: looking for a sign may crash a broken kernel, and a crash during a test is
    reported with the name of the test. If a look raises OSError or RuntimeError, the mechanism
    is unknown.
    """
    table = signs() if table is None else table
    seen: dict[str, str] = {}
    results: dict[Callable[[Site], str], str] = {}
    for name, sign in table.items():
        if declared != UNDETECTED and _settled(declared, seen, table):
            break
        if sign.look not in results:
            try:
                results[sign.look] = sign.look(site)
            except (OSError, RuntimeError) as error:  # a series may have broken the device
                results[sign.look] = f"the look for {name} fails: {error}"
        seen[name] = results[sign.look]
        if sign.rank == OWN_RANK and seen[name] == sign.text:
            break
    return conclude(seen, table)


def conclude(seen: Mapping[str, str], table: Mapping[str, Sign] | None = None) -> Detection:
    """Return the mechanism that follows from the results of `Sign.look`. Does no I/O.

    ``seen`` maps the names of mechanisms to these results. If all are "", no mechanism was
    detected. If all others are the same, and are the text of a sign, the kernel has the mechanism
    of that sign. Otherwise the mechanism is unknown.
    """
    table = signs() if table is None else table
    looked = [name for name in table if name in seen]
    shown = list(dict.fromkeys(seen[name] for name in looked if seen[name]))
    if not shown:
        absent = dict.fromkeys(table[name].absent for name in looked)
        return Detection(UNDETECTED, "; ".join(absent))
    of_text = {table[name].text: name for name in reversed(looked)}
    found = of_text.get(shown[0], UNKNOWN) if len(shown) == 1 else UNKNOWN
    return Detection(found, "; ".join(shown))


def _settled(declared: str, seen: Mapping[str, str], table: Mapping[str, Sign]) -> bool:
    """Return whether the signs that were not looked for yet cannot contradict ``declared``.

    That is so if the sign of ``declared`` was found, or if no sign was found and only the sign of
    ``declared`` is left.
    """
    shown = {name for name, text in seen.items() if text == table[name].text}
    left = table.keys() - seen.keys()
    return declared in shown or (not shown and left <= {declared})


@contextmanager
def site(machine: Mapping[str, Any]) -> Iterator[Site]:
    """Bind a device to vfio-pci, the first one with a companion, and yield a `Site` with it.

    ``machine`` describes the test machine; the host generates it from ktests/machine.toml. At the
    end of the block the device is unbound, and the ACPI debugger is closed if it was opened.
    """
    name, facts = next(item for item in machine["devices"].items() if item[1]["path"])
    device = PciDevice(name, **facts)
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
