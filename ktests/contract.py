# SPDX-License-Identifier: GPL-2.0-only
"""What host and guest agree upon: data and pure functions, imported by both.

The one module of the suite that the host imports. It imports nothing but the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

# ---- the channel and the kernel's log ------------------------------------------------------------

PROTOCOL = 1
"""Version of the messages on the channel, told in the guest's hello and in the host's job.

A side that meets another version ends the run with one line that says so.
"""

PORT = "vfio_acpi.records"
"""Name of the virtio-serial port that the messages go through."""

MARKER = "vfio_acpi: "
"""What the guest's lines in the kernel's log start with; behind it BEGIN or END and a test's id."""

BEGIN, END = "begin", "end"

THROUGH = "through"
"""Behind MARKER: nothing of the suite comes after this line."""

DETECTION = "detection"
"""Name of the detection among the markers in the kernel's log, where tests have their ids."""

MECHANISM_ARGUMENT = "vfio_acpi.mechanism"
"""Kernel argument of a shell, where no host tells which mechanism the kernel has."""


class ContractError(ValueError):
    """A message that breaks the contract; the text says in one line in what."""


@dataclass(frozen=True)
class JobMessage:
    """The host's answer to the hello: what the guest shall run.

    ``mechanism`` is the kernel's, one of the tables or a word below; ``detect`` tells whether to
    look for the signs of all first. ``expression`` is pytest's ``-k``, "" for all tests. ``done``
    are the ids of tests that an earlier VM has run. ``limit`` is in seconds, for tests that have
    no limit of their own.
    """

    mechanism: str
    detect: bool
    expression: str
    done: tuple[str, ...]
    limit: float

    def message(self) -> dict[str, object]:
        """Return the message as it is sent."""
        return {"type": "job", "protocol": PROTOCOL, **asdict(self), "done": sorted(self.done)}

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> JobMessage:
        """Return the job in a message of the host's; ContractError if it holds none."""
        if message.get("type") != "job":
            raise ContractError(f"the host sent {message.get('type')!r} where a job comes next")
        # Before the fields: another version may have others.
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
    """Raise ContractError if ``version``, which the ``other`` side speaks, is not PROTOCOL."""
    if version != PROTOCOL:
        raise ContractError(f"the {other} speaks protocol {version}, the {here} {PROTOCOL}")


# ---- mechanisms, and which requirement applies to which kernel -----------------------------------

NONE = "none"
"""Mechanism of the unpatched kernel, the negative control."""

UNDETECTED = "undetected"
"""Mechanism of a kernel in which no sign of any mechanism was seen, or was looked for yet."""

UNKNOWN = "unknown"
"""Mechanism of a kernel with a uAPI that no mechanism of the table has."""

UNJUDGED = frozenset({UNDETECTED, UNKNOWN})
"""Of a kernel with one of these only what every kernel promises is judged."""

ANY = "any"
"""What a requirement needs that every kernel meets, patched or not."""

Line = tuple[int, ...]


def release_line(release: str) -> Line:
    """Return the release line that a kernel or a base is of: of "7.3.4-rc1" 7 and 3."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])


def promised(needs: Collection[str], mechanism: str) -> bool:
    """Return whether a kernel with ``mechanism`` has to meet a requirement that ``needs`` these.

    A kernel without any sign of a mechanism promises what the unpatched one does.
    """
    return ANY in needs or (NONE if mechanism == UNDETECTED else mechanism) in needs


def testable(first: str | None, release: str | None) -> bool:
    """Return whether a kernel of ``release`` is of the release line ``first`` or a later one.

    Without either every kernel is.
    """
    if first is None or release is None:
        return True
    return release_line(first) <= release_line(release)


def applies(needs: Collection[str], mechanism: str, first: str | None, release: str | None) -> bool:
    """Return whether the tests of a requirement run on a kernel of ``release`` with ``mechanism``.

    ``needs`` and ``first`` (the key "from") are the requirement's. All run on the negative
    control, where those of a mechanism have to fail.
    """
    held = mechanism == NONE or promised(needs, mechanism)
    return held and testable(first, release)
