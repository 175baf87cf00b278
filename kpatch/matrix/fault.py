# SPDX-License-Identifier: GPL-2.0-only
"""The planted faults (tests/data/faults/faults.toml): where each is planted, and what it breaks.

A fault of a kernel is a patch. One of our own programs, which run in the guest, is planted in a
copy of the project.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpatch.report.result import RunResult
from kpatch.series import catalog
from kpatch.tables import flavors
from kpatch.tables.paths import PROJECT
from ktests.contract import UNDETECTED

FOLDER = PROJECT / "tests" / "data" / "faults"

BASE = "7.3"
"""The base that the faults are patches for."""

SAMPLE = "sample"
"""The table's one key that is no fault."""


@dataclass(frozen=True)
class Fault:
    """A row of the table, whose comments describe the fields."""

    name: str
    series: str
    breaks: tuple[str, ...]
    tests: str
    spoils: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    ends: tuple[str, ...] = ("fail",)
    flavor: str = flavors.DEFAULT_FLAVOR
    file: str = ""
    changes: tuple[tuple[str, str], ...] = ()

    @property
    def patch(self) -> Path:
        """Return the patch that plants the fault in a kernel."""
        return FOLDER / f"{self.name}.patch"

    @property
    def patches(self) -> tuple[Path, ...]:
        """Return the patches of the series and, if it is in the kernel, of the fault."""
        series = () if self.series == catalog.BASE else catalog.load(self.series, BASE).mailboxes
        return (*series, *(() if self.file else (self.patch,)))

    @property
    def changed(self) -> dict[str, str]:
        """Return the text of the project's file with the fault, by its path; {} for a kernel's.

        ValueError if the text to replace is not there exactly once.
        """
        return {self.file: replaced(self.file, self.changes)} if self.file else {}

    @property
    def mechanism(self) -> str:
        """Return the mechanism to judge by, because a changed base must not be detected."""
        if self.series == catalog.BASE:
            return UNDETECTED
        return catalog.load(self.series, BASE).mechanism

    def selection(self, areas: dict[str, str]) -> str:
        """Return the tests that show it, and those of the sample ``areas`` that it does not spoil.

        Where the kernel hangs or crashes the tests that follow have nothing to say.
        """
        sample = [f"({test})" for area, test in areas.items() if area not in self.spoils]
        return " or ".join([self.tests, *(sample if "fail" in self.ends else ())])

    @property
    def mailbox(self) -> str:
        """Return the file name of the mailbox with the fault: one name for each series.

        The cache has a worktree for each path, so that make builds only what the fault changes.
        """
        return f"faults-in-{self.series}.mbox"


def load() -> tuple[dict[str, str], list[Fault]]:
    """Return the table: the sample's tests by area, and the faults."""
    table = tomllib.loads((FOLDER / "faults.toml").read_text(encoding="utf-8"))
    areas = table.pop(SAMPLE)
    return areas, [Fault(name, **_frozen(row)) for name, row in table.items()]


@functools.cache
def _by_name() -> dict[str, Fault]:
    return {fault.name: fault for fault in load()[1]}


def changed(name: str) -> dict[str, str]:
    """Return `Fault.changed` of the fault ``name``; {} if it is ""."""
    return _by_name()[name].changed if name else {}


def replaced(file: str, changes: Iterable[Sequence[str]]) -> str:
    """Return the text of the project's ``file`` in which the first text of each pair is the second.

    ValueError if a text to replace is not there exactly once.
    """
    text = (PROJECT / file).read_text(encoding="utf-8")
    for before, after in changes:
        if (count := text.count(before)) != 1:
            raise ValueError(f"{before!r} is {count} times in {file}")
        text = text.replace(before, after)
    return text


def mailbox(patches: Sequence[Path]) -> bytes:
    """Return the ``patches`` as one mailbox."""
    return b"\n".join(patch.read_bytes() for patch in patches)


def shown(fault: Fault, found: RunResult, *, whole: bool = False) -> bool:
    """Return whether the run ``found`` of the fault's selection breaks what the table says.

    Exactly those requirements, the run ends as it may, and something else holds. With ``whole`` the
    run was of the whole suite.
    """
    broken = {test.requirement for test in found.tests if not test.ok}
    holds = {test.requirement for test in found.tests if test.ok} - broken
    expected = {*fault.breaks, *(fault.also if whole else ())}
    return found.verdict in fault.ends and broken == expected and bool(holds)


def _frozen(row: dict[str, Any]) -> dict[str, Any]:
    return {key: _tuples(value) for key, value in row.items()}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
