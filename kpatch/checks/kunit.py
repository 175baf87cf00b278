# SPDX-License-Identifier: GPL-2.0-only
"""Run the KUnit suites that a series brings or changes, in a boot of a kernel that has them.

A suite is built in by the symbol that guards its file in the Makefile, or that the file's own
Kconfig entry defines. The kernel runs built-in suites during its boot and prints KTAP
(Documentation/dev-tools/kunit/run_manual.rst).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kpatch.build import compiler, config, kernel, touched, worktree
from kpatch.checks import bisect, suite
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.errors import HarnessError
from kpatch.model import Finding, Kernel
from kpatch.report import write
from kpatch.tables.flavors import DEFAULT_FLAVOR, FLAVORS
from kpatch.tables.outcomes import ExitCode

NAME = "kunit"
BOOT = "REQ-INT-07"
"""A test that runs after the boot, so that the boot is known to have ended."""

_SUITE = re.compile(r"\bstruct\s+kunit_suite\s+\w+\s*=\s*\{(?P<body>.*?)\n\};", re.DOTALL)
_TITLE = re.compile(r"\.name\s*=\s*\"([^\"\n]+)\"")
_KUNIT = re.compile(r"\bkunit_test_(?:init_section_)?suites?\s*\(")

# A line of KTAP in the kernel's log, behind its time stamp and, with CONFIG_PRINTK_CALLER, caller.
_KTAP = re.compile(r"\[[ \d.]+\](?:\[[^]]*\])? (?P<indent> *)(?P<text>(?:not )?ok \d+ .*|# .*)")
_RESULT = re.compile(r"(?P<ok>ok|not ok) \d+ (?:- )?(?P<name>[^#]*?)\s*(?:# (?P<directive>.*))?")


@dataclass(frozen=True)
class Results:
    """What a boot printed: the suites that passed or not, and the failed cases of each."""

    suites: dict[str, bool]
    failed: dict[str, tuple[str, ...]]


def check(context: Context) -> Iterator[Finding]:
    """Yield a finding for each suite of the series that fails, or does not run."""

    def read(path: str) -> str:
        return (context.content(context.applied, path) or b"").decode(errors="replace")

    changed = bisect.touched(context.applied)
    files = [path for path in sorted(changed) if _KUNIT.search(read(path))]
    suites = [name for path in files for name in _titles(read(path))]
    if not suites:
        raise NotApplicableError("the series brings and changes no KUnit suite")
    context.note(f"suites: {', '.join(suites)}")
    # A file of tests that another one includes has no line in a Makefile.
    named = {name for name in touched.symbols(changed, read) if "KUNIT" in name}
    try:
        built = _kernel(context, sorted(named | touched.guards(files, read)))
    except HarnessError as error:
        if error.code is not ExitCode.BUILD:
            raise
        yield Finding(f"does not build with its KUnit suites: {error.cause}")
        return
    suite.part(context, built, BOOT, name=NAME)
    log = (context.output.path / write.console_name(NAME, 1)).read_text(errors="replace")
    yield from judge(suites, parse(log))


def judge(suites: list[str], results: Results) -> Iterator[Finding]:
    """Yield a finding for each of ``suites`` that failed or did not run.

    CouldNotRunError if no suite ran at all: KUnit was not in the kernel.
    """
    if not results.suites:
        raise CouldNotRunError("the kernel printed no result of KUnit; see console-kunit-1.log")
    for name in suites:
        if name not in results.suites:
            yield Finding(f"KUnit suite {name} did not run: is its symbol in Kconfig and Makefile?")
        elif not results.suites[name]:
            cases = results.failed.get(name, ())
            yield Finding(f"KUnit suite {name} fails: {', '.join(cases)}", details=cases)


def parse(log: str) -> Results:
    """Return the results of KUnit in the console log of a boot."""
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


def _kernel(context: Context, symbols: list[str]) -> Kernel:
    """Return the kernel of the series in the plain flavor with KUnit and ``symbols``."""
    state = context.applied
    values = dict.fromkeys(["KUNIT", *symbols], "y")
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
