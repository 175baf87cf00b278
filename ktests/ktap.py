# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel selftest prints (Documentation/dev-tools/ktap.rst; kselftest.h writes TAP 13).

    1..2
    #  RUN           fixture.variant.test ...
    # vfio_pci_device_test.c:62:test:Expected …
    not ok 1 fixture.variant.test
    ok 2 fixture.other # SKIP Device does not support reset

Lines that are none of these are what the test itself printed, and belong to the result after them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PLAN = re.compile(r"1\.\.(\d+)\b")
RESULT = re.compile(
    r"(?P<ok>ok|not ok) \d+ (?P<name>\S+)(?:.*?# (?P<directive>SKIP|XFAIL|XPASS)\b ?(?P<why>.*))?"
)


@dataclass(frozen=True)
class Case:
    """One result: ``directive`` is SKIP, XFAIL, XPASS or nothing, ``lines`` came before it."""

    name: str
    ok: bool
    directive: str
    why: str
    lines: tuple[str, ...]

    @property
    def skipped(self) -> bool:
        """Whether it did not run."""
        return self.directive == "SKIP"

    @property
    def bad(self) -> bool:
        """Whether it did not end as it had to: an unexpected success is bad too."""
        return self.directive == "XPASS" or not (self.ok or self.directive == "XFAIL")


@dataclass(frozen=True)
class Report:
    """All results; ``planned`` is None where no plan was printed, ``rest`` came after the last."""

    planned: int | None
    cases: tuple[Case, ...]
    rest: tuple[str, ...]

    @property
    def failed(self) -> list[Case]:
        """The cases that are bad."""
        return [case for case in self.cases if case.bad]

    @property
    def skipped(self) -> set[str]:
        """The names of the cases that did not run."""
        return {case.name for case in self.cases if case.skipped}


def parse(text: str) -> Report:
    """Read the output of one selftest."""
    planned = None
    cases: list[Case] = []
    lines: list[str] = []
    for line in text.splitlines():
        if match := RESULT.match(line):
            words = (match["name"], match["ok"] == "ok", match["directive"] or "")
            cases.append(Case(*words, (match["why"] or "").strip(), tuple(lines)))
            lines = []
        elif planned is None and (match := PLAN.match(line)):
            planned = int(match[1])
            lines = []
        elif line.strip():
            lines.append(line)
    return Report(planned, tuple(cases), tuple(lines))
