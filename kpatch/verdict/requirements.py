# SPDX-License-Identifier: GPL-2.0-only
"""Read the requirements (ktests/requirements.toml), and select those that apply to a mechanism.

Grammar: one table for each requirement; its name is the id.

    [REQ-EVT-05]
    text = "one sentence that can be false"
    needs = ["netlink"]     # the mechanisms that promise it; "none": the unpatched kernel;
                            # ["any"]: every kernel, patched or not; ["host"]: no kernel, but a
                            # VMM's relay (uapi/vmm/): its tests are in tests/, not in ktests/
    from = "7.3"            # optional: the first base that it can be tested on; on an older base
                            # it has no test, and the results show "-"
    flavor = "hypervisor"   # optional: the only flavor that it can be tested on; the same holds
    [REQ-EVT-05.limits]     # optional: mechanism that promises it = why it fails there
    netlink = "the type argument of acpi_bus_generate_netlink_event() is u8"
    [REQ-EVT-05.skips]      # optional: mechanism = reason why its test cannot run there
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.model import MechanismFolder
from kpatch.series import mechanism_folder
from kpatch.tables import paths
from kpatch.tables.flavors import FLAVORS
from kpatch.tables.outcomes import ExitCode, Outcome
from ktests import contract
from ktests.contract import ANY, HOST, NONE

PATH = paths.REQUIREMENTS

COSTS = Path(__file__).with_name("costs.json")
"""Seconds of each requirement's tests in a recorded run. They decide the order of tests only."""

_ID = re.compile(r"REQ-[A-Z]{2,}-\d{2,}")
_MECHANISM = re.compile(r"[a-z][a-z0-9-]*")
_LINE = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class Requirement:
    """One testable promise, with the mechanisms that make it (``needs``).

    ``limits`` has, by mechanism, the reason why the requirement's tests are known to fail;
    ``skips`` the reason why they cannot run. ``first`` is the oldest base on which the requirement
    can be tested ("7.3"), None for every base; ``flavors`` the only flavors, () for every flavor.
    """

    id: str
    text: str
    needs: tuple[str, ...]
    limits: Mapping[str, str] = field(default_factory=dict)
    skips: Mapping[str, str] = field(default_factory=dict)
    first: str | None = None
    flavors: tuple[str, ...] = ()

    def promised_by(self, mechanism: str) -> bool:
        """Return whether a kernel with ``mechanism`` has to meet the requirement.

        The mechanism of the unpatched kernel is "none".
        """
        return contract.promised(self.needs, mechanism)

    def expected(self, mechanism: str) -> Outcome:
        """Return the outcome that the requirement's tests must have on a kernel with ``mechanism``.

        SKIP and XFAIL are for the mechanisms in ``skips`` and ``limits``. FAIL is expected only on
        the negative control, for a requirement that the unpatched kernel does not promise: a test
        that passes there proves nothing. Otherwise it is PASS. The result is meaningless if the
        tests do not run on such a kernel (`ktests.contract.applies`).
        """
        if mechanism in self.skips:
            return Outcome.SKIP
        if mechanism in self.limits:
            return Outcome.XFAIL
        fails = mechanism == NONE and not self.promised_by(NONE)
        return Outcome.FAIL if fails else Outcome.PASS


def asked(
    table: Mapping[str, Requirement],
    mechanism: str,
    base: str | None = None,
    negative: Collection[str] | None = None,
    *,
    flavor: str | None = None,
) -> frozenset[str]:
    """Return the ids of those requirements whose tests run on a kernel with ``mechanism``.

    ``table`` has all requirements by id. The rule is `ktests.contract.applies`, which also
    describes ``negative``. Requirements that cannot be tested on the release line ``base`` ("7.3")
    are left out, and those that cannot on ``flavor``; None stands for any.
    """
    return frozenset(
        name
        for name, entry in table.items()
        if contract.applies(
            entry.needs,
            mechanism,
            entry.first,
            base,
            negative,
            wanted=entry.flavors,
            flavor=flavor,
        )
    )


def load(path: Path = PATH, folder: MechanismFolder | None = None) -> dict[str, Requirement]:
    """Return the requirements in the file ``path`` by id, in the order of the file.

    ``folder`` adds a mechanism of the user's own (`kpatch.series.mechanism_folder.claimed`).

    HarnessError if the file cannot be read or breaks the grammar. The exit code is 7, not 2,
    because the table is a part of the harness, not input. Exit 2 if ``folder`` claims a requirement
    that it cannot claim.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _error(path, error.strerror or str(error)) from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
        raise _error(path, f"is no TOML: {error}") from error
    if not tables:
        raise _error(path, "holds no requirement")
    if folder is not None:
        tables = mechanism_folder.claimed(tables, folder)
    return {name: _requirement(path, name, table) for name, table in tables.items()}


def cheapest_first() -> tuple[str, ...]:
    """Return the ids of the requirements in COSTS, the one with the shortest tests first."""
    seconds: dict[str, float] = json.loads(COSTS.read_text())["seconds"]
    return tuple(sorted(seconds, key=lambda name: (seconds[name], name)))


def of_other_flavors(
    table: Mapping[str, Requirement], mechanisms: Collection[str], flavor: str
) -> dict[str, str]:
    """Return the requirements that ``mechanisms`` promise and that ``flavor`` cannot show.

    Maps the id of each to the flavor that it takes, the first of several.
    """
    return {
        name: entry.flavors[0]
        for name, entry in table.items()
        if entry.flavors and flavor not in entry.flavors and any(map(entry.promised_by, mechanisms))
    }


def _requirement(path: Path, name: str, table: object) -> Requirement:
    if not _ID.fullmatch(name):
        raise _error(path, f"{name!r} is no id of the form REQ-XXX-01")
    if not isinstance(table, dict):
        raise _error(path, f"{name} is no table")
    for key in table:
        if key not in _KEYS:
            raise _error(path, f"{name} has the unknown key {key!r}")
    for key in ("text", "needs"):
        if key not in table:
            raise _error(path, f"{name} has no {key}")
    for key, value in table.items():
        complaint = _KEYS[key](value)
        if complaint:
            raise _error(path, f"{name}.{key} {complaint}")
    made = Requirement(
        id=name,
        text=table["text"],
        needs=tuple(table["needs"]),
        limits=table.get("limits", {}),
        skips=table.get("skips", {}),
        first=table.get("from"),
        flavors=tuple(table.get("flavors", ())),
    )
    for mechanism in made.limits:
        if not made.promised_by(mechanism):
            raise _error(path, f"{name} limits {mechanism!r}, which does not promise it")
    return made


def _text(value: object) -> str:
    return "" if isinstance(value, str) and value.strip() else "is no sentence"


def _needs(value: object) -> str:
    if not isinstance(value, list) or not value:
        return "is no list of mechanisms"
    if not all(isinstance(item, str) and _MECHANISM.fullmatch(item) for item in value):
        return "holds what is no mechanism's name"
    alone = {ANY, HOST} & set(value) and len(value) > 1
    return "names others beside any or host" if alone else ""


def _reasons(value: object) -> str:
    if not isinstance(value, dict):
        return "is no table of mechanism = reason"
    return next((f"of {name!r} gives no reason" for name in value if _text(value[name])), "")


def _base(value: object) -> str:
    known = isinstance(value, str) and _LINE.fullmatch(value)
    return "" if known else "is no release line like 7.3"


def _flavors(value: object) -> str:
    known = isinstance(value, list) and value and all(name in FLAVORS for name in value)
    return "" if known else f"is no list of flavors: {', '.join(FLAVORS)}"


_KEYS: dict[str, Callable[[object], str]] = {
    "text": _text,
    "needs": _needs,
    "limits": _reasons,
    "skips": _reasons,
    "from": _base,
    "flavors": _flavors,
}


def _error(path: Path, cause: str) -> HarnessError:
    return HarnessError(
        path.name, cause, hint="correct the table of requirements", code=ExitCode.LOST
    )
