# SPDX-License-Identifier: GPL-2.0-only
"""The states of a series as builds show them, and what each patch brings that was not there before.

State 0 is the base, state n the tree after patch n.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from kpatch.build import diagnostics
from kpatch.build.diagnostics import Diagnostic, Identity, Record
from kpatch.errors import HarnessError
from kpatch.model import Finding
from kpatch.tables.outcomes import CheckOutcome, ExitCode

_PLACE = re.compile(r"(?P<file>[^\s:]+?):(?:(?P<line>\d+):)? (?P<text>.+)")


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
    """What a build says of one state: its warnings, or why it failed."""

    record: Record
    failure: Failure | None = None

    @property
    def known(self) -> dict[Identity, Diagnostic] | None:
        """Return the warnings by identity; None if the state does not build."""
        return None if self.failure else diagnostics.by_identity(self.record)


def findings(
    states: Sequence[State],
    *,
    severity: CheckOutcome,
    elsewhere: Collection[Identity] = (),
    but: Collection[str] = (),
) -> Iterator[Finding]:
    """Yield what the patches bring: states that do not build, and warnings.

    ``severity`` is that of a warning; one that a later patch takes away is a remark. Left out are
    warnings whose identity is in ``elsewhere`` and failures whose identity is in ``but``: another
    check tells of them.
    """
    yield from _failures(states, but)
    for number, gone, found in diagnostics.new([state.known for state in states]):
        if found.identity in elsewhere:
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


def _failures(states: Sequence[State], but: Collection[str]) -> Iterator[Finding]:
    """Yield a finding for each patch after which the tree fails in a way that it did not before."""
    before: str | None = None
    for number, state in enumerate(states):
        failure = state.failure
        identity = None if failure is None else failure.identity
        if failure is not None and number and identity not in (before, *but):
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
