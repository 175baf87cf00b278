# SPDX-License-Identifier: GPL-2.0-only
"""Read the table of errnos (docs/errnos.toml), which has its grammar at its head."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpatch.tables.paths import PROJECT

PATH = PROJECT / "docs" / "errnos.toml"


@dataclass(frozen=True)
class Errno:
    """An errno of a call, its cause, and the tests of the suite that show it.

    ``kernel`` names the file and the function of the unpatched kernel that returns the errno; None
    if a carried patch does.
    """

    name: str
    cause: str
    tests: tuple[str, ...]
    kernel: str | None


@dataclass(frozen=True)
class Call:
    """A call and its errnos. ``mechanism`` "any" is every kernel, patched or not.

    ``functions`` are those of the carried patches whose errnos the call returns; ``not_seen`` has
    the errnos that they name and no caller sees, with the reasons.
    """

    mechanism: str
    name: str
    functions: tuple[str, ...]
    errnos: tuple[Errno, ...]
    not_seen: Mapping[str, str]


def load(path: Path = PATH) -> list[Call]:
    """Return the calls in the order of the table."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        _call(mechanism, name, dict(fields))
        for mechanism, calls in table.items()
        for name, fields in calls.items()
    ]


def _call(mechanism: str, name: str, fields: dict[str, Any]) -> Call:
    functions, not_seen = fields.pop("functions"), fields.pop("not_seen", {})
    errnos = tuple(
        Errno(errno, row["cause"], tuple(row["tests"]), row.get("kernel"))
        for errno, row in fields.items()
    )
    return Call(mechanism, name, tuple(functions), errnos, not_seen)
