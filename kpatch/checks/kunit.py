# SPDX-License-Identifier: GPL-2.0-only
"""Run the KUnit suites that a series brings or changes, in a boot of a kernel that has them.

To build a suite into the kernel, the check sets the symbols to "y" on which the file of the suite
depends in Makefiles, and the symbols with KUNIT in their name that the changed files mention or the
Kconfig files beside them define. The kernel runs built-in suites during its boot and prints their
results as KTAP (Documentation/dev-tools/kunit/run_manual.rst).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kpatch.build import compiler, config, kernel, touched, worktree
from kpatch.checks import bisect, suite
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.errors import HarnessError
from kpatch.lib import sanitize
from kpatch.model import Applied, Finding, Kernel
from kpatch.report import write
from kpatch.tables.flavors import DEFAULT_FLAVOR, FLAVORS
from kpatch.tables.outcomes import ExitCode, Outcome

NAME = "kunit"
SYMBOLS = ("KUNIT", "KUNIT_DEFAULT_ENABLED", "KUNIT_AUTORUN_ENABLED")
"""The symbols that make a kernel run its suites at boot.

They are "y" by default, but the flavors start from allnoconfig. Kernels without the symbol
KUNIT_AUTORUN_ENABLED (6.12) always run built-in suites.
"""

BOOT = "REQ-INT-07"
"""Selection (pytest's -k) of a test that runs after the boot, when KUnit has finished."""

_SUITE = re.compile(r"\bstruct\s+kunit_suite\s+\w+\s*=\s*\{(?P<body>.*?)\n\};", re.DOTALL)
_TITLE = re.compile(r"\.name\s*=\s*\"([^\"\n]+)\"")
_KUNIT = re.compile(r"\bkunit_test_(?:init_section_)?suites?\s*\(")

# A line of KTAP in the kernel's log, after the time stamp and (CONFIG_PRINTK_CALLER) the caller.
_KTAP = re.compile(r"\[[ \d.]+\](?:\[[^]]*\])? (?P<indent> *)(?P<text>(?:not )?ok \d+ .*|# .*)")
_RESULT = re.compile(r"(?P<ok>ok|not ok) \d+ (?:- )?(?P<name>[^#]*?)\s*(?:# (?P<directive>.*))?")


@dataclass(frozen=True)
class Results:
    """KUnit's results in one boot: whether each suite passed, and the failed test cases of each."""

    suites: dict[str, bool]
    failed: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Boot:
    """The boot of one state of the series with KUnit.

    ``suites`` are the names of the suites in the files that the series touches, as they are in this
    state. ``failure`` is why the kernel with these suites does not build, "" if it does. ``ended``
    is the first fault outside of tests (a crash, a hang, a lost VM), which may be why a suite has
    no result; "" if there is none.
    """

    suites: tuple[str, ...] = ()
    results: Results = Results({}, {})
    failure: str = ""
    ended: str = ""

    def problem(self, suite_name: str) -> str:
        """Return why the suite does not pass; "" if it does, or is not in this state.

        With the name "", return why the kernel with all suites does not build; "" if it does. If it
        does not, the result for any other name is "".
        """
        if not suite_name:
            return self.failure and f"does not build with its KUnit suites: {self.failure}"
        if self.failure or suite_name not in self.suites:
            return ""
        if suite_name not in self.results.suites:
            if self.ended:
                return f"KUnit suite {suite_name} has no result: {self.ended}"
            return f"KUnit suite {suite_name} did not run: is its symbol in Kconfig and Makefile?"
        if self.results.suites[suite_name]:
            return ""
        return f"KUnit suite {suite_name} fails: {', '.join(self.results.failed[suite_name])}"


def check(context: Context) -> Iterator[Finding]:
    """Yield a finding for each suite that fails or does not run, with the patch that causes it.

    If the kernel does not build with its suites, that is the only finding. The suites are those in
    files that the series touches. A problem that every state has, the base too, is a note.
    NotApplicableError if there is no suite. CouldNotRunError if a kernel prints no result of KUnit,
    or the VM was lost.
    """
    count = len(context.patches)
    last = _boot(context, count)
    if not last.suites:
        raise NotApplicableError("the series brings and changes no KUnit suite")
    context.note(f"suites: {', '.join(last.suites)}")
    for name in ("", *last.suites):
        if not (problem := last.problem(name)):
            continue
        if first := first_bad(name, count, lambda number: _boot(context, number)):
            details = last.results.failed.get(name, ())
            yield Finding(problem, patch=first, details=details)
        else:
            context.note(f"the unpatched kernel has the problem too: {problem}")


def first_bad(suite_name: str, count: int, boot: Callable[[int], Boot]) -> int:
    """Return the number of the patch since which a suite has a problem.

    The suite has to have one after all ``count`` patches. ``boot`` returns the Boot of the state
    after the given number of patches. Returns 0 if the suite has a problem in every state, the base
    included. ``suite_name`` is as in `Boot.problem`.
    """
    first = count
    for number in range(count - 1, -1, -1):
        state = boot(number)
        if suite_name and state.failure:  # it does not build, so the suite was not run
            continue
        if not state.problem(suite_name):
            return first
        first = number
    return 0


def _boot(context: Context, number: int) -> Boot:
    """Return the Boot of the state after ``number`` patches; a review boots each state once."""
    name = f"{NAME}-{number}"
    return context.once(name, Boot, lambda: _booted(context, name, number))


def _booted(context: Context, name: str, number: int) -> Boot:
    state = context.after(number) if number else context.base

    def read(path: str) -> str:
        return (context.content(state, path) or b"").decode(errors="replace")

    changed = bisect.touched(context.applied)
    files = [path for path in sorted(changed) if _KUNIT.search(read(path))]
    suites = tuple(title for path in files for title in _titles(read(path)))
    if not suites:
        return Boot()
    # A file of tests that another one includes has no line in a Makefile.
    named = {symbol for symbol in touched.symbols(changed, read) if "KUNIT" in symbol}
    try:
        built = _kernel(context, state, sorted(named | touched.guards(files, read)))
    except HarnessError as error:
        if error.code is not ExitCode.BUILD:
            raise
        return Boot(suites, failure=error.cause)
    done = suite.part(context, built, BOOT, name=name)
    log = context.output.path / write.console_name(name, 1)
    faults = (one for one in done.incidents if one.outcome is not Outcome.NOT_JUDGED)
    ended = next((sanitize.line(incident.message) for incident in faults), "")
    boot = Boot(suites, parse(log.read_text(errors="replace")), ended=ended)
    if not boot.results.suites and not boot.ended:
        raise CouldNotRunError("the kernel printed no result of KUnit; see its console log")
    if not boot.results.suites.keys() >= set(suites) and (lost := suite.lost(done, name)):
        raise suite.incomplete(lost)
    return boot


def parse(log: str) -> Results:
    """Return KUnit's results in ``log``, the console log of a boot.

    The result of a suite is a line of KTAP without indentation; that of a case has four spaces.
    """
    suites: dict[str, bool] = {}
    failed: dict[str, list[str]] = {}
    cases: list[str] = []
    for match in filter(None, map(_KTAP.match, log.splitlines())):
        found = _RESULT.fullmatch(match["text"])
        if match["text"].startswith("# Subtest: ") and len(match["indent"]) == 4:
            cases = []
        elif found is None:
            continue
        elif not match["indent"]:
            suites[found["name"]] = found["ok"] == "ok"
            failed[found["name"]] = cases
            cases = []
        elif len(match["indent"]) == 4 and found["ok"] == "not ok":
            cases.append(found["name"])
    return Results(suites, {name: tuple(names) for name, names in failed.items()})


def _kernel(context: Context, state: Applied, symbols: list[str]) -> Kernel:
    """Build ``state`` in the plain flavor, with SYMBOLS and ``symbols`` set to "y".

    A symbol that does not stick is no error. HarnessError (exit 4) if the kernel does not build.
    """
    values = dict.fromkeys([*SYMBOLS, *symbols], "y")
    with worktree.config_source(state, NAME, like=DEFAULT_FLAVOR, stage=context.stage) as source:
        resolved = config.derive(
            FLAVORS[DEFAULT_FLAVOR],
            NAME,
            fragments=(),
            values=values,
            settings=(),
            tools=compiler.detect().identity,
            source=source,
            source_id=worktree.config_id(state),
            version=state.tree.version,
            stage=context.stage,
        )
    return kernel.build(
        state, resolved, like=DEFAULT_FLAVOR, jobs=context.jobs, stage=context.stage
    )


def _titles(text: str) -> list[str]:
    bodies = (match["body"] for match in _SUITE.finditer(text))
    return [name for body in bodies for name in _TITLE.findall(body)]
