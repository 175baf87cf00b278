# SPDX-License-Identifier: GPL-2.0-only
"""The contract between host and guest: data and pure functions that both import.

No other module of the suite is imported by the host. This one imports only the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

# ---- the channel and the kernel's log ------------------------------------------------------------

PROTOCOL = 1
"""Version of the messages on the channel. The guest's hello and the host's job both contain it.

A side that receives another version reports it in one line and ends the run.
"""

PORT = "vfio_acpi.records"
"""Name of the virtio-serial port that carries the messages."""

MARKER = "vfio_acpi: "
"""Prefix of the guest's lines in the kernel's log. BEGIN or END and the id of a test follow it."""

BEGIN, END = "begin", "end"

THROUGH = "through"
"""Follows MARKER in the suite's last line of the kernel's log."""

DETECTION = "detection"
"""Stands for the detection in the markers in the kernel's log, in the place of a test's id."""

MECHANISM_ARGUMENT = "vfio_acpi.mechanism"
"""Kernel argument that names the kernel's mechanism in a shell, where there is no host."""


class ContractError(ValueError):
    """A message violates the contract. The text describes the violation in one line."""


@dataclass(frozen=True)
class JobMessage:
    """The host's answer to the guest's hello: the tests that the guest has to run.

    ``mechanism`` is the kernel's mechanism: a name in the table of mechanisms, NONE, UNDETECTED or
    UNKNOWN. If ``detect`` is set, the guest first looks for the signs of all mechanisms.
    ``expression`` is pytest's ``-k``, "" for all tests. ``done`` contains the ids of the tests that
    an earlier VM has run. ``limit`` is the time limit in seconds of each test that has no limit of
    its own.
    """

    mechanism: str
    detect: bool
    expression: str
    done: tuple[str, ...]
    limit: float

    def message(self) -> dict[str, object]:
        """Return the job as a message that `read` accepts."""
        return {"type": "job", "protocol": PROTOCOL, **asdict(self), "done": sorted(self.done)}

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> JobMessage:
        """Return the job that a message of the host contains; ContractError if it contains none."""
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
        return cls(**values | {"done": tuple(message["done"])})


_JOB_FIELDS: dict[str, Callable[[Any], bool]] = {
    "mechanism": lambda value: isinstance(value, str),
    "detect": lambda value: isinstance(value, bool),
    "expression": lambda value: isinstance(value, str),
    "done": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
    "limit": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def refuse_other_protocol(other: str, version: object, here: str) -> None:
    """Raise ContractError if ``version``, the protocol version of ``other``, is not PROTOCOL.

    ``other`` and ``here`` name the sending and the receiving side for the message of the error.
    """
    if version != PROTOCOL:
        raise ContractError(f"the {other} speaks protocol {version}, the {here} {PROTOCOL}")


# ---- mechanisms, and which requirement applies to which kernel -----------------------------------

NONE = "none"
"""Mechanism of the unpatched kernel, the negative control."""

UNDETECTED = "undetected"
"""Mechanism of a kernel in which no sign was found, or in which none has been looked for yet."""

UNKNOWN = "unknown"
"""Mechanism of a kernel whose uAPI matches no mechanism of the table."""

UNJUDGED = frozenset({UNDETECTED, UNKNOWN})
"""Mechanisms for which only the requirements that hold for every kernel are judged."""

ANY = "any"
"""An entry in ``needs`` of a requirement: every kernel has to meet it, patched or not."""

Line = tuple[int, ...]


def release_line(release: str) -> Line:
    """Return the release line of a kernel version: (7, 3) for "7.3.4-rc1"."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])


def promised(needs: Collection[str], mechanism: str) -> bool:
    """Return whether a kernel with ``mechanism`` has to meet a requirement.

    ``needs`` are the mechanisms for which the requirement holds. UNDETECTED is treated like NONE.
    """
    return ANY in needs or (NONE if mechanism == UNDETECTED else mechanism) in needs


def tested(mechanism: str, *, negative: bool) -> str:
    """Return the mechanism whose requirements are tested on a kernel with ``mechanism``.

    An unpatched kernel that is no ``negative`` control is tested as if none had been detected: the
    tests that it has to fail are left out.
    """
    return UNDETECTED if mechanism == NONE and not negative else mechanism


def testable(first: str | None, release: str | None) -> bool:
    """Return whether the kernel version ``release`` belongs to the release line ``first`` or later.

    Returns True if either is None.
    """
    if first is None or release is None:
        return True
    return release_line(first) <= release_line(release)


def applies(needs: Collection[str], mechanism: str, first: str | None, release: str | None) -> bool:
    """Return whether the tests of a requirement run on a kernel of ``release`` with ``mechanism``.

    ``needs`` and ``first`` are the keys "needs" and "from" of the requirement. The tests run if the
    kernel has to meet the requirement (`promised`), and its release is ``first`` or later. On the
    negative control (NONE) the tests of all requirements run; those that only a mechanism promises
    have to fail.
    """
    included = mechanism == NONE or promised(needs, mechanism)
    return included and testable(first, release)
