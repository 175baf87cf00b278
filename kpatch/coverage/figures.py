# SPDX-License-Identifier: GPL-2.0-only
"""The coverage of a series as data, and its JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Line:
    """An executable line that a series adds.

    ``path`` and ``number`` are its place in the tree with the whole series, ``patch`` is the number
    of the patch that adds it. ``hits`` tells how often it ran. The compiler made ``branches`` of
    it, of which ``taken`` were taken at least once. ``reason`` says why no test runs it, "" if that
    is not explained.
    """

    path: str
    number: int
    patch: int
    function: str
    text: str
    hits: int
    branches: int = 0
    taken: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Totals:
    """Numbers of lines: ``added`` to C files, ``executable`` and ``run``; and of branches."""

    added: int
    executable: int
    run: int
    branches: int
    taken: int

    @property
    def percent(self) -> float:
        """Return the share of executable lines that ran, 0 to 100; 100 if there are none."""
        return 100.0 * self.run / self.executable if self.executable else 100.0


@dataclass(frozen=True)
class Patch:
    """A patch: ``subject``, and ``added``, the number of its lines in C files of the kernel."""

    number: int
    subject: str
    added: int


@dataclass(frozen=True)
class Coverage:
    """The coverage of the series ``series`` on the Linux version ``kernel``.

    ``lines`` are all executable lines that it adds, sorted by place. ``vms`` is the number of VMs
    that ran the suite, ``silent`` of which ended without counters: what they ran is missing.
    ``unbuilt`` are C sources that the config leaves out. ``needed`` says whether every line that
    was not run has to be explained. ``stale`` are explanations of lines that ran or are not there.
    """

    kernel: str
    series: str
    patches: tuple[Patch, ...]
    lines: tuple[Line, ...]
    vms: int
    silent: int
    unbuilt: tuple[str, ...] = ()
    needed: bool = False
    stale: tuple[str, ...] = ()

    def totals(self, patch: int = 0) -> Totals:
        """Return the numbers of the patch with the number ``patch``; 0 means the whole series."""
        lines = [line for line in self.lines if patch in (0, line.patch)]
        return Totals(
            added=sum(one.added for one in self.patches if patch in (0, one.number)),
            executable=len(lines),
            run=sum(line.hits > 0 for line in lines),
            branches=sum(line.branches for line in lines),
            taken=sum(line.taken for line in lines),
        )

    @property
    def missed(self) -> tuple[Line, ...]:
        """Return the lines that did not run."""
        return tuple(line for line in self.lines if not line.hits)

    def failures(self, bar: float) -> list[str]:
        """Return a sentence for each reason why the coverage does not meet the ``bar`` (percent).

        It is also not met if a line that was not run has to be explained and is not.
        """
        found = []
        totals = self.totals()
        if totals.percent < bar:
            found.append(f"{totals.percent:.1f} % of the lines were run, less than {bar:g} %")
        open_ = [line for line in self.missed if self.needed and not line.reason]
        if open_:
            found.append(f"{len(open_)} lines were not run and are not explained")
        return found


def runs(lines: Iterable[Line]) -> list[list[Line]]:
    """Group ``lines``, sorted by place: those of one function, patch and reason, in their order."""
    groups: list[list[Line]] = []
    for line in lines:
        last = groups[-1][-1] if groups else None
        if last is None or _group(last) != _group(line):
            groups.append([])
        groups[-1].append(line)
    return groups


def _group(line: Line) -> tuple[str, str, int, str]:
    return line.path, line.function, line.patch, line.reason


def dump(found: Sequence[Coverage]) -> str:
    """Return the JSON text of ``found``: the fields of Coverage, and the totals by patch."""
    data = [
        dataclasses.asdict(one)
        | {
            "totals": _totals(one),
            "by_patch": {patch.number: _totals(one, patch.number) for patch in one.patches},
        }
        for one in found
    ]
    return json.dumps({"schema_version": SCHEMA_VERSION, "coverage": data}, indent=1) + "\n"


def _totals(one: Coverage, patch: int = 0) -> dict[str, float]:
    totals = one.totals(patch)
    return dataclasses.asdict(totals) | {"percent": round(totals.percent, 2)}
