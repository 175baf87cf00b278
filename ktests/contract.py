# SPDX-License-Identifier: GPL-2.0-only
"""The contract between host and guest: data and pure functions that both import.

It is the only module of the suite that the host imports. It imports only the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

# ---- the channel and the kernel's log ------------------------------------------------------------

PROTOCOL = 3
"""Version of the messages on the channel. The guest's hello and the host's job both contain it.

A side that receives another version reports that in one line and ends the run.
"""

ENTRIES_LIMIT = 64
"""The largest number of entries of one interrupt: of the notifications that the host hands over."""

PIECE = 512
"""The largest number of notifications that the firmware sends in one evaluation of a method.

ACPICA aborts a loop in AML after 30 s (ACPI_MAX_LOOP_TIMEOUT), and the kernel's watchdogs warn
earlier. A kernel with all checks, emulated on a busy host, sends about 50 notifications per second.
"""

INNER_MAILBOX = 0x800_0000
"""Address of the first ring in the memory of the inner guest (ktests/inner_guest.py)."""

INNER_PIN = 7
"""The interrupt of its table, an input of the I/O APIC."""

INNER_FOLDER = "inner"
"""Name of the folder in the suite's image that has the files of the inner guest."""

PORT = "vfio_acpi.records"
"""Name of the virtio-serial port that carries the messages."""

MARKER = "vfio_acpi: "
"""Prefix of the markers, the lines that the guest writes into the kernel's log.

BEGIN or END and the id of a test, or THROUGH, follow it.
"""

BEGIN, END = "begin", "end"

THROUGH = "through"
"""The text after MARKER in the last marker, which the guest writes when the suite has ended."""

COUNTERS_SUFFIX = ".gcda"
"""End of the name of a file with the counters of an object's lines (ktests/counters.py)."""

MEASURED = "measured"
"""Replaces the id of a requirement in the records of a measurement, which tests none."""

DETECTION = "detection"
"""Replaces the id of a test in the two markers that enclose the detection of the mechanism."""

MECHANISM_ARGUMENT = "vfio_acpi.mechanism"
"""Kernel argument that names the kernel's mechanism in a run by hand, where no host sends a job."""

FLAVOR_ARGUMENT = "vfio_acpi.flavor"
"""Kernel argument that names the flavor of the kernel's config."""

SEED_ARGUMENT = "vfio_acpi.seed"
"""Kernel argument with the number that decides what ktests/test_stateful.py generates."""

MECHANISM_FOLDER = "mechanism"
"""Name of the folder in the suite's image that has the modules of a mechanism of the user's own."""

MECHANISM_MODULE = "mechanism.py"
"""Name of the module in this folder that has the mechanism's record."""

MECHANISM_NAME = "name"
"""Name of the file in this folder that has the mechanism's name."""


class ContractError(ValueError):
    """A message violates the contract. The text describes the violation in one line."""


@dataclass(frozen=True)
class JobMessage:
    """The host's answer to the guest's hello: the tests or measurements that the guest has to run.

    ``mechanism`` is the kernel's mechanism: a name in kpatch/tables/mechanisms.py, NONE, UNDETECTED
    or UNKNOWN. ``negative`` is as in `applies`. If ``detect`` is True, the guest first detects the
    mechanism. ``expression`` is the
    argument of pytest's ``-k``, "" for all tests. ``done`` contains the ids of the tests that an
    earlier VM has begun. ``limit`` is the time limit in seconds of each test that has no limit of
    its own. If ``measure`` is not empty, the guest runs the measurements (ktests/measure/) with
    these parameters instead of tests. If ``order`` is not empty, the tests run in the order that
    their requirements have in it; those of other requirements come first.
    """

    mechanism: str
    detect: bool
    expression: str
    done: tuple[str, ...]
    limit: float
    negative: tuple[str, ...] | None = None
    measure: Mapping[str, int] = field(default_factory=dict)
    order: tuple[str, ...] = ()

    def message(self) -> dict[str, object]:
        """Return the job as an object for JSON, which `read` accepts."""
        own = asdict(self) | {"done": sorted(self.done), "order": list(self.order)}
        return {"type": "job", "protocol": PROTOCOL, **own}

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> JobMessage:
        """Return the job in a decoded message of the host.

        ContractError if the message is no job, has another protocol version, or has a missing, an
        unknown or a wrong field.
        """
        if message.get("type") != "job":
            raise ContractError(f"the host sent {message.get('type')!r} where a job comes next")
        # The version is checked before the fields: another version may have other fields.
        refuse_other_protocol("host", message.get("protocol"), "guest")
        names = _JOB_FIELDS.keys()
        given = message.keys() - {"type", "protocol"}
        if given != names:
            odd = ", ".join(sorted(given ^ names))
            raise ContractError(f"the host's job has not the fields of a job: {odd}")
        for name, fits in _JOB_FIELDS.items():
            if not fits(message[name]):
                raise ContractError(f"the host's job has a wrong {name}: {message[name]!r}")
        values = {name: message[name] for name in names}
        negative = message["negative"]
        return cls(
            **values
            | {
                "done": tuple(message["done"]),
                "order": tuple(message["order"]),
                "negative": None if negative is None else tuple(negative),
            }
        )


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


_JOB_FIELDS: dict[str, Callable[[Any], bool]] = {
    "mechanism": lambda value: isinstance(value, str),
    "detect": lambda value: isinstance(value, bool),
    "expression": lambda value: isinstance(value, str),
    "done": _is_names,
    "negative": lambda value: value is None or _is_names(value),
    "limit": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "measure": lambda value: (
        isinstance(value, dict) and all(type(it) is int for it in value.values())
    ),
    "order": _is_names,
}


def refuse_other_protocol(other: str, version: object, here: str) -> None:
    """Raise ContractError if ``version``, the protocol version of ``other``, is not PROTOCOL.

    ``other`` is the name of the sending side, ``here`` that of the receiving side, "host" or
    "guest".
    """
    if version != PROTOCOL:
        raise ContractError(f"the {other} speaks protocol {version}, the {here} {PROTOCOL}")


# ---- mechanisms, and which requirement applies to which kernel -----------------------------------

NONE = "none"
"""Stands for the mechanism of a kernel that is known to be unpatched: the negative control."""

UNDETECTED = "undetected"
"""Stands for the mechanism of a kernel in which none was detected, or none looked for yet."""

UNKNOWN = "unknown"
"""Stands for the mechanism of a kernel whose uAPI differs from that of every known mechanism."""

UNJUDGED = frozenset({UNDETECTED, UNKNOWN})
"""The values that name no mechanism: no requirement is judged that only mechanisms promise."""

ANY = "any"
"""The entry in ``needs`` of a requirement that every kernel has to meet, patched or not."""

HOST = "host"
"""The entry in ``needs`` of a requirement that no kernel has to meet, but a VMM's relay.

It is about uapi/vmm/. Its tests are some of the harness's own (tests/); none runs in the guest.
"""

Line = tuple[int, ...]


def release_line(release: str) -> Line:
    """Return the release line, the first two numbers, of a kernel version: (7, 3) for "7.3.4"."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])


def promised(needs: Collection[str], mechanism: str) -> bool:
    """Return whether a kernel with ``mechanism`` has to meet a requirement.

    ``needs`` is the key "needs" of the requirement: names of mechanisms, NONE or ANY. UNDETECTED is
    treated like NONE.
    """
    return ANY in needs or (NONE if mechanism == UNDETECTED else mechanism) in needs


def controlled(needs: Collection[str], negative: Collection[str] | None) -> list[str]:
    """Return the mechanisms in ``needs``, not HOST, that a negative control is tested with.

    ``negative`` are the mechanisms for which it is the negative control; None stands for all.
    """
    return [name for name in needs if name != HOST and (negative is None or name in negative)]


def testable(
    first: str | None,
    release: str | None,
    wanted: Collection[str] = (),
    flavor: str | None = None,
) -> bool:
    """Return whether a requirement can be tested on a kernel of version ``release``.

    The kernel has to be of the release line ``first`` or a later one, and of one of the flavors
    ``wanted``. None and () stand for any. ``flavor`` is the kernel's, None, as for ``release``, if
    it is not known; then it counts as right.
    """
    if wanted and flavor is not None and flavor not in wanted:
        return False
    if first is None or release is None:
        return True
    return release_line(first) <= release_line(release)


def applies(
    needs: Collection[str],
    mechanism: str,
    first: str | None,
    release: str | None,
    negative: Collection[str] | None = None,
    *,
    wanted: Collection[str] = (),
    flavor: str | None = None,
) -> bool:
    """Return whether the tests of a requirement run on a kernel of ``release`` with ``mechanism``.

    ``needs``, ``first`` and ``wanted`` are the keys "needs", "from" and "flavors" of the
    requirement, ``flavor`` is the kernel's. The tests run if the kernel has to meet the requirement
    (`promised`), and the requirement can be tested on it (`testable`). The unpatched kernel (NONE)
    is the negative control for the mechanisms in ``negative``, None for all: there the tests of
    their requirements run too, and have to fail.
    """
    included = promised(needs, mechanism) or (
        mechanism == NONE and bool(controlled(needs, negative))
    )
    return included and testable(first, release, wanted, flavor)
