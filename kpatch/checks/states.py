# SPDX-License-Identifier: GPL-2.0-only
"""The results of building each state of a series, and the findings that follow from them.

State 0 is the base, state n the tree after patch n. Findings are failures to build that the state
before does not have, and warnings and errors that the base does not have.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpatch.build import diagnostics
from kpatch.build.diagnostics import Diagnostic, Identity, Record
from kpatch.checks.context import Context
from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.stage import shell_line
from kpatch.model import Finding
from kpatch.tables.outcomes import CheckOutcome, ExitCode

KIND = "states"

RECIPE = "1"
"""Part of the cache key of a State. Increase it if a change here alters the State of a build."""

_PLACE = re.compile(r"(?P<file>[^\s:]*[./][^\s:]*):(?:(?P<line>\d+):)? (?P<text>.+)")


@dataclass(frozen=True)
class Failure:
    """A failed build of a state: ``cause`` is the first error, ``details`` are lines of the log."""

    cause: str
    details: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: HarnessError) -> Failure:
        """Return the Failure for ``error`` if its exit code is 4 (BUILD); raise any other error."""
        if error.code is not ExitCode.BUILD:
            raise error
        return cls(error.cause, tuple(error.details.splitlines()))

    @property
    def identity(self) -> str:
        """Return the cause without line numbers, offsets and counters: equal for equal failures."""
        return diagnostics.stable(self.cause)


@dataclass(frozen=True)
class State:
    """The result of building one state, or of running Coccinelle on it.

    ``record`` has the warnings and errors; ``failure`` is None if it builds. ``unbuilt`` are the
    objects that were to be built and that the config leaves out; for Coccinelle, a sentence for
    each script that failed or was ended.
    """

    record: Record
    failure: Failure | None = None
    unbuilt: tuple[str, ...] = ()

    @property
    def known(self) -> dict[Identity, Diagnostic] | None:
        """Return the warnings and errors by identity; None if the state does not build."""
        return None if self.failure else diagnostics.by_identity(self.record)


@dataclass(frozen=True)
class Told:
    """The results of another check for the same states, which are not reported twice.

    ``warnings`` and ``failures`` are identities of warnings and of failed builds in any state.
    ``failing`` are the numbers of the states that do not build.
    """

    warnings: frozenset[Identity] = frozenset()
    failures: frozenset[str] = frozenset()
    failing: frozenset[int] = frozenset()

    @classmethod
    def of(cls, states: Sequence[State]) -> Told:
        """Return the Told with all results of ``states``, the base first."""
        return cls(
            frozenset(one for state in states for one in diagnostics.by_identity(state.record)),
            frozenset(state.failure.identity for state in states if state.failure),
            frozenset(number for number, state in enumerate(states) if state.failure),
        )

    def has(self, number: int, found: Diagnostic) -> bool:
        """Return whether the other check reports ``found``, a warning or error of state ``number``.

        It does if ``warnings`` has it; an error, also if that state does not build.
        """
        return found.identity in self.warnings or (found.error and number in self.failing)


NOTHING = Told()


def kept(
    context: Context, name: Sequence[str], parts: Sequence[str], *, make: Callable[[], State]
) -> State:
    """Return the State from the cache; if the cache does not have it, call ``make`` and store it.

    The cache key is ``name`` and ``parts``, which have to contain everything on which the State
    depends. A failure because a build exceeded a limit is not stored. ``context`` counts the call
    in its ``parts``, and in ``reused`` if ``make`` was not called.
    """
    context.parts += 1
    file = _file(name, parts)
    if (state := _read(file)) is not None:
        context.reused += 1
        return state
    state = make()
    if state.failure is None or not state.failure.cause.startswith("was ended"):
        content = dataclasses.asdict(state) | {"record": diagnostics.content(state.record)}
        cache.write(file, json.dumps(content).encode())
    return state


def has(name: Sequence[str]) -> bool:
    """Return whether the cache has a State under ``name`` and without ``parts`` (`kept`)."""
    return _read(_file(name, ())) is not None


def _file(name: Sequence[str], parts: Sequence[str]) -> Path:
    return cache.folder(KIND) / f"{cache.digest((RECIPE, *name, *parts))}.json"


def _read(file: Path) -> State | None:
    """Return the State in ``file``; None if there is no such file, or it is damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        failure = content["failure"]
        return State(
            diagnostics.record_of(content["record"]),
            failure and Failure(failure["cause"], tuple(failure["details"])),
            tuple(content["unbuilt"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def joined(parts: Sequence[State]) -> State:
    """Return the State of a tree from the States of its files; the first failure is kept."""
    return State(
        {step: found for part in parts for step, found in part.record.items()},
        next((part.failure for part in parts if part.failure), None),
        tuple(dict.fromkeys(path for part in parts for path in part.unbuilt)),
    )


def findings(
    states: Sequence[State],
    *,
    severity: CheckOutcome,
    told: Told = NOTHING,
    make: Sequence[str] = (),
) -> Iterator[Finding]:
    """Yield a finding for each failure to build and each warning or error that is new in a state.

    ``states`` begin with the base. A new failure or error is FAIL, a new warning has the outcome
    ``severity``; a warning or error that a later patch removes is WARN. What ``told`` has is left
    out. ``make`` is the make command, as words, that shows a finding in a C file again in a
    configured tree; it lacks its target, the object of that file. () if it would need the check's
    own .config.
    """
    for finding in _findings(states, severity, told):
        source, _, suffix = finding.file.rpartition(".")
        again = shell_line([*make, f"{source}.o"]) if make and suffix == "c" else ""
        yield dataclasses.replace(finding, command=again)


def _findings(states: Sequence[State], severity: CheckOutcome, told: Told) -> Iterator[Finding]:
    yield from _failures(states, told)
    for number, gone, found in diagnostics.new([state.known for state in states]):
        if told.has(number, found):
            continue
        kind = "error" if found.error else "warning"
        of = f" in {found.function}()" if found.function else ""
        yield Finding(
            f"new {kind}{of}: {found.message}",
            CheckOutcome.WARN if gone else CheckOutcome.FAIL if found.error else severity,
            patch=number,
            file=found.file,
            line=found.line,
            details=found.details,
            removed_by=gone,
        )


def _failures(states: Sequence[State], told: Told) -> Iterator[Finding]:
    """Yield a finding for each state after the base that does not build.

    Left out are those that fail for the same cause as the state before, and causes in ``told``.
    """
    before: str | None = None
    for number, state in enumerate(states):
        failure = state.failure
        identity = None if failure is None else failure.identity
        if failure is not None and number and identity != before and identity not in told.failures:
            later = range(number + 1, len(states))
            place = _PLACE.fullmatch(failure.cause)
            yield Finding(
                f"does not build: {place['text'] if place else failure.cause}",
                patch=number,
                file=place["file"] if place else "",
                line=int(place["line"]) if place and place["line"] else None,
                details=failure.details,
                removed_by=next((n for n in later if states[n].failure is None), 0),
            )
        before = identity
