# SPDX-License-Identifier: GPL-2.0-only
"""Check that the kernel builds, links and stays free of new warnings after each patch."""

from __future__ import annotations

from collections.abc import Iterator

from kpatch.build import diagnostics, kernel, log
from kpatch.checks import states
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.checks.states import Failure, State
from kpatch.errors import HarnessError
from kpatch.model import Applied, Finding, Kernel
from kpatch.tables.outcomes import CheckOutcome

SOURCES = (".c", ".S")


def check(context: Context) -> Iterator[Finding]:
    """Build base and each patch; yield a finding for each patch that breaks the build or warns."""
    found = plain(context)
    if found[0].failure is not None:
        raise CouldNotRunError(f"the base does not build: {found[0].failure.cause}")
    _tell_of_the_base(context, found[0])
    yield from states.findings(found, severity=CheckOutcome.FAIL)


def plain(context: Context) -> list[State]:
    """Return what the builds of the plain flavor say of the base and of the tree after each patch.

    NotApplicableError if they compile none of what the series changes.
    """
    total = len(context.patches)
    made = [_state(context, number, total) for number in range(total + 1)]
    _require_compiled(context, next((one for _, one in reversed(made) if one is not None), None))
    return [state for state, _ in made]


def _state(context: Context, number: int, total: int) -> tuple[State, Kernel | None]:
    context.stage.advance(number, total + 1)
    context.parts += 1
    try:
        built = context.kernel(context.after(number) if number else context.base)
    except HarnessError as error:
        return State({}, Failure.of(error)), None
    context.reused += built.cached
    return State(kernel.record(built)), built


def _require_compiled(context: Context, last: Kernel | None) -> None:
    """Note the sources of the series that the last ``Kernel`` does not contain.

    NotApplicableError if nothing of the series becomes part of a kernel.
    """
    paths = [change.path for change in context.applied.changes if change.content is not None]
    sources = [path for path in paths if path.endswith(SOURCES)]
    others = [path for path in paths if path not in sources and _builds(path)]
    if not sources and not others and paths:
        raise NotApplicableError("the series changes nothing that a kernel is built from")
    if last is None or last.applied.delta_id != context.applied.delta_id:
        return
    targets = log.targets(last.log.read_text(errors="replace"))
    missing = [path for path in sources if f"{path.rpartition('.')[0]}.o" not in targets]
    if missing and len(missing) == len(sources) and not others:
        raise NotApplicableError(
            f"the plain config compiles none of the changed files: {', '.join(missing)}"
        )
    if missing:
        context.note(f"the plain config does not compile {', '.join(missing)}")


def _builds(path: str) -> bool:
    """Return whether a file that is no source can change what a kernel is built from."""
    name = path.rpartition("/")[2]
    return not path.startswith(("Documentation/", "tools/", "samples/")) and (
        name.endswith((".h", ".lds.S", ".sh", ".py", ".pl")) or name.startswith(("Kconfig", "Make"))
    )


def touched(applied: Applied) -> frozenset[str]:
    """Return every path that a patch of the series names in any state."""
    return frozenset(change.path for step in applied.steps for change in step)


def _tell_of_the_base(context: Context, base: State) -> None:
    """Note how many warnings the touched files have without the series."""
    paths = touched(context.applied)
    found = diagnostics.by_identity(base.record).values()
    count = sum(1 for one in found if one.file in paths)
    if count:
        context.note(f"{count} warnings in the touched files are the base's")
