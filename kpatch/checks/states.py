# SPDX-License-Identifier: GPL-2.0-only
"""The states of a series as builds show them, and what each patch brings that was not there before.

State 0 is the base, state n the tree after patch n.
"""

from __future__ import annotations

import dataclasses
import json
import os
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
"""Part of the key of what is kept. Increase it if the same build would be told of differently."""

_PLACE = re.compile(r"(?P<file>[^\s:]*[./][^\s:]*):(?:(?P<line>\d+):)? (?P<text>.+)")


@dataclass(frozen=True)
class Failure:
    """Why a state does not build: the first error of its log, and the lines around it."""

    cause: str
    details: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: HarnessError) -> Failure:
        """Return the failure that the error of a build tells of; raise errors of other kinds."""
        if error.code is not ExitCode.BUILD:
            raise error
        return cls(error.cause, tuple(error.details.splitlines()))

    @property
    def identity(self) -> str:
        """Return what stays the same if lines are added elsewhere."""
        return diagnostics.stable(self.cause)


@dataclass(frozen=True)
class State:
    """What a build says of one state: its warnings, or why it failed.

    ``unbuilt`` are objects that were asked for and that the config leaves out.
    """

    record: Record
    failure: Failure | None = None
    unbuilt: tuple[str, ...] = ()

    @property
    def known(self) -> dict[Identity, Diagnostic] | None:
        """Return the warnings by identity; None if the state does not build."""
        return None if self.failure else diagnostics.by_identity(self.record)


@dataclass(frozen=True)
class Told:
    """What another check tells of the same states: their warnings, failures, and which fail."""

    warnings: frozenset[Identity] = frozenset()
    failures: frozenset[str] = frozenset()
    failing: frozenset[int] = frozenset()

    @classmethod
    def of(cls, states: Sequence[State]) -> Told:
        """Return what the ``states`` have."""
        return cls(
            frozenset(one for state in states for one in diagnostics.by_identity(state.record)),
            frozenset(state.failure.identity for state in states if state.failure),
            frozenset(number for number, state in enumerate(states) if state.failure),
        )

    def has(self, number: int, found: Diagnostic) -> bool:
        """Return whether a warning is told of, or an error in a state that fails anyway."""
        return found.identity in self.warnings or (found.error and number in self.failing)


NOTHING = Told()


def kept(
    context: Context, name: Sequence[str], parts: Sequence[str], *, make: Callable[[], State]
) -> State:
    """Return the state that ``make`` makes, kept in the cache under ``name`` and ``parts``.

    They are all that it depends on. A build that was ended by a limit is not kept.
    """
    context.parts += 1
    file = _file(name, parts)
    if (state := _read(file)) is not None:
        context.reused += 1
        return state
    state = make()
    if state.failure is None or not state.failure.cause.startswith("was ended"):
        content = dataclasses.asdict(state) | {"record": diagnostics.content(state.record)}
        with cache.translate_os_errors():
            partial = file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(content), encoding="utf-8")
            partial.replace(file)
    return state


def has(name: Sequence[str]) -> bool:
    """Return whether a state is kept under ``name``."""
    return _read(_file(name, ())) is not None


def _file(name: Sequence[str], parts: Sequence[str]) -> Path:
    return cache.folder(KIND) / f"{cache.digest((RECIPE, *name, *parts))}.json"


def _read(file: Path) -> State | None:
    """Return the state in the file, None if there is none or it is damaged."""
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
    """Return the state whose parts were judged each for itself."""
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
    """Yield what the patches bring: states that do not build, and warnings.

    ``severity`` is that of a warning; one that a later patch takes away is a remark. What is
    ``told`` of elsewhere is left out. ``make`` is a command that shows a finding again in any
    configured tree; the object of the source is added to it. () if the config is needed too.
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
    """Yield a finding for each patch after which the tree fails in a way that it did not before."""
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
