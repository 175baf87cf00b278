# SPDX-License-Identifier: GPL-2.0-only
"""Parse the output of a kernel selftest: KTAP (Documentation/dev-tools/ktap.rst), or TAP 13.

    1..4
    #  RUN           fixture.variant.test ...
    # vfio_pci_device_test.c:62:test:Expected …
    not ok 1 fixture.variant.test
    ok 2 fixture.other # SKIP Device does not support reset
    ok 3 # SKIP no device of that kind
      KTAP version 1
      1..1
      ok 1 a test within the next
    ok 4 - around

The case of a directive does not matter, as TAP defines it. A test is bad if one of the tests nested
in it is bad, whatever its own result line says. A line that is no plan, result or version line is
output of the test whose result line follows it. Blank lines, and the lines directly in front of the
outermost plan, are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

VERSION = re.compile(r" *K?TAP version \d+$")
PLAN = re.compile(r"(?P<indent> *)1\.\.(?P<planned>\d+)(?: *#.*)?$")
RESULT = re.compile(r"(?P<indent> *)(?P<ok>ok|not ok) (?P<number>\d+)(?![^ ])(?P<rest>.*)")
BAIL_OUT = re.compile(r" *Bail out!", re.IGNORECASE)

# ksft_test_result_code() writes two spaces between "#" and a text that is no directive. Such a text
# may begin with "error", so that ERROR and TIMEOUT count only after a single space.
DIRECTIVE = re.compile(
    r"(?:^|\s)#(?:\s*(?P<word>SKIP|TODO|XFAIL|XPASS)| (?P<fault>TIMEOUT|ERROR))\b:?(?P<why>.*)",
    re.IGNORECASE,
)

EXPECTED_TO_FAIL = ("XFAIL", "TODO")
NO_SUCCESS = ("XPASS", "TIMEOUT", "ERROR")


@dataclass(frozen=True)
class Case:
    """One result line ("ok" or "not ok").

    ``name`` is the description in the line. If the line has no description, ``name`` is ``why``; if
    ``why`` is empty too, it is "test" and the number. ``directive`` is "SKIP", "TODO" or another
    word that `DIRECTIVE` matches, in upper case, or ""; ``why`` is the text after it. If the line
    has no directive, and all tests nested in this one were skipped, ``directive`` is "SKIP".
    ``lines`` are the test's output before the result line. ``flaws`` describe the faults in the
    tests that are nested in this one.
    """

    name: str
    ok: bool
    directive: str
    why: str
    lines: tuple[str, ...]
    flaws: tuple[str, ...] = ()

    @property
    def skipped(self) -> bool:
        """True if the test was skipped, whether its line says "ok" or "not ok"."""
        return self.directive == "SKIP"

    @property
    def bad(self) -> bool:
        """True if the result is a failure: "not ok" that is neither skipped nor expected to fail.

        A fault in a nested test and the directives XPASS, TIMEOUT and ERROR are failures too.
        """
        if self.flaws or self.directive in NO_SUCCESS:
            return True
        return not (self.ok or self.skipped or self.directive in EXPECTED_TO_FAIL)

    @property
    def passed(self) -> bool:
        """True if the result is "ok" without a directive, and no nested test has a fault."""
        return self.ok and not self.directive and not self.bad


@dataclass(frozen=True)
class SelftestReport:
    """All results of one selftest program.

    ``planned`` is the number of tests in the plan, None if no plan was printed. ``cases`` are the
    results that are not nested in another one. ``rest`` are the lines after the last result.
    ``flaws`` describe faults of the output as a whole, for example a plan that differs from the
    number of results, a number out of order, or a bail-out.
    """

    planned: int | None
    cases: tuple[Case, ...]
    rest: tuple[str, ...]
    flaws: tuple[str, ...] = ()

    @property
    def failed(self) -> list[Case]:
        """The cases whose result is a failure (`Case.bad`)."""
        return [case for case in self.cases if case.bad]

    @property
    def skipped(self) -> set[str]:
        """The names of the cases that were skipped."""
        return {case.name for case in self.cases if case.skipped}

    @property
    def complaint(self) -> str:
        """The reasons why the selftest did not succeed, one in a line; "" if it succeeded.

        It succeeded if it printed a plan and kept to it, no case is bad, and at least one case
        passed. The output of a bad case stands before its reason.
        """
        lines: list[str] = []
        for case in self.failed:
            lines += [*case.lines, f"not ok {case.name}", *case.flaws]
        lines += self.flaws
        if self.planned is None:
            lines.append("no plan")
        if not any(case.passed for case in self.cases):
            lines.append("no case passed")
        return "\n".join(lines)


@dataclass
class _Level:
    """The results at one level of indentation that were read so far.

    ``indent`` is the number of spaces before them. ``planned``, ``cases`` and ``flaws`` are as in
    `SelftestReport`. ``lines`` is the output since the last result. ``inner`` are the cases that
    are nested in the next result, and ``nested`` describes their faults.
    """

    indent: int
    planned: int | None = None
    cases: list[Case] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    inner: list[Case] = field(default_factory=list)

    def plan(self, planned: int) -> None:
        # A child process that was forked before stdout was flushed prints the same plan again.
        if self.planned not in (None, planned):
            self.flaws.append(f"a plan of {planned} after one of {self.planned}")
        if self.planned is None:
            self.planned, self.lines = planned, []

    def result(self, match: re.Match[str]) -> None:
        number = int(match["number"])
        if number != len(self.cases) + 1:
            self.flaws.append(f"result {number} where {len(self.cases) + 1} comes next")
        name, directive, why = _description(match["rest"])
        lines, flaws = tuple(self.lines), tuple(self.nested)
        name = name or why or f"test {number}"
        if not directive and self.inner and all(case.skipped for case in self.inner):
            directive, why = "SKIP", "so are all that are nested in it"
        self.cases.append(Case(name, match["ok"] == "ok", directive, why, lines, flaws))
        self.lines, self.nested, self.inner = [], [], []

    def close(self) -> list[str]:
        """Return the faults of this level, which is complete, without the faults of its cases."""
        flaws = [*self.flaws, *self.nested]
        if self.planned is not None and self.planned != len(self.cases):
            flaws.append(f"{self.planned} planned, {len(self.cases)} reported")
        return flaws


def parse(text: str) -> SelftestReport:
    """Parse the whole output of one selftest program. Faults in the output are in the report."""
    levels = [_Level(0)]
    for line in text.splitlines():
        if match := RESULT.match(line):
            _level(levels, len(match["indent"])).result(match)
        elif match := PLAN.match(line):
            _level(levels, len(match["indent"])).plan(int(match["planned"]))
        elif BAIL_OUT.match(line):
            levels[0].flaws.append(line.strip())
            levels[-1].lines.append(line)
        elif line.strip() and not VERSION.match(line):
            levels[-1].lines.append(line)
    outer = _level(levels, 0)
    return SelftestReport(
        outer.planned, tuple(outer.cases), tuple(outer.lines), tuple(outer.close())
    )


def _level(levels: list[_Level], indent: int) -> _Level:
    """Return the level with the indentation ``indent``, and make it the last of ``levels``.

    ``levels`` are the open levels, from the outermost to the innermost. Levels that are indented
    further than ``indent`` are closed: their cases become nested in the next result of the level
    around them. If no level has this indentation, a new one is added.
    """
    while levels[-1].indent > indent:
        inner = levels.pop()
        if levels[-1].indent < indent:  # the line is indented less than the results before it
            levels.append(_Level(indent))
        outer = levels[-1]
        bad = [f"nested: not ok {case.name}" for case in inner.cases if case.bad]
        outer.nested += [*bad, *(f"nested: {flaw}" for flaw in inner.close())]
        outer.inner += inner.cases
        for case in inner.cases:
            outer.lines += [*case.lines, f"{'ok' if case.ok else 'not ok'} {case.name}"]
        outer.lines += inner.lines
    if levels[-1].indent < indent:
        levels.append(_Level(indent))
    return levels[-1]


def _description(rest: str) -> tuple[str, str, str]:
    """Split ``rest``, the text after the number in a result line.

    Returns the name of the test, the directive in upper case, and the text after the directive;
    each is "" if it is missing.
    """
    match = DIRECTIVE.search(rest)
    name = rest[: match.start()] if match else rest
    name = name.partition("#")[0].strip().removeprefix("- ").strip().removeprefix("-").strip()
    if match is None:
        return name, "", ""
    return name, (match["word"] or match["fault"]).upper(), match["why"].strip()
