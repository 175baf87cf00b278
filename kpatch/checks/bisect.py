# SPDX-License-Identifier: GPL-2.0-only
"""Check that the plain kernel builds and links, without new warnings, after each patch."""

from __future__ import annotations

from collections.abc import Iterator

from kpatch.build import compiler, diagnostics, kernel, objects
from kpatch.checks import states
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.checks.states import Failure, State
from kpatch.errors import HarnessError
from kpatch.model import Applied, Finding
from kpatch.tables.outcomes import CheckOutcome


def check(context: Context) -> Iterator[Finding]:
    """Build the base and the tree after each patch; yield each new failure, warning or error.

    CouldNotRunError if the base does not build. NotApplicableError if the series changes nothing
    that the plain config compiles.
    """
    found = plain(context)
    if found[0].failure is not None:
        raise CouldNotRunError(f"the base does not build: {found[0].failure.cause}")
    tell_what_is_missing(context, found[-1], "the plain config")
    _tell_of_the_base(context, found[0])
    yield from states.findings(found, severity=CheckOutcome.FAIL, make=("make",))


def plain(context: Context) -> list[State]:
    """Build the base and the tree after each patch in the plain flavor; return their states.

    NotApplicableError if the series changes no file that a kernel is built from.
    """
    if not any(map(_builds, touched(context.applied))):
        raise NotApplicableError("the series changes nothing that a kernel is built from")
    return [_state(context, number) for number in range(len(context.patches) + 1)]


def _state(context: Context, number: int) -> State:
    """Return the state after ``number`` patches (0: the base); build it if it is not cached."""
    context.stage.advance(number, len(context.patches) + 1)
    tree = context.after(number) if number else context.base
    try:
        resolved = context.config(tree)
    except HarnessError as error:
        return State({}, Failure.of(error))
    name = kernel.kernel_id(tree, resolved, compiler.detect())
    return states.kept(context, ("plain", name), (), make=lambda: _build(context, tree))


def _build(context: Context, tree: Applied) -> State:
    try:
        built = context.kernel(tree)
    except HarnessError as error:
        return State({}, Failure.of(error))
    missing = objects.left_out(tree, built.log.read_text(errors="replace"))
    return State(kernel.record(built), None, missing)


def tell_what_is_missing(context: Context, last: State, what: str) -> None:
    """Add a note with the objects of changed sources that the config leaves out.

    ``last`` is the state of the whole series, ``what`` names the config in the note.
    NotApplicableError if the series changes no other file that a kernel is built from.
    """
    if not last.unbuilt:
        return
    missing = f"{what} does not compile {', '.join(last.unbuilt)}"
    changed = [path for path in touched(context.applied) if _builds(path)]
    if len(changed) <= len(last.unbuilt):
        raise NotApplicableError(missing)
    context.note(missing)


def _builds(path: str) -> bool:
    """Return whether a kernel may be built from the file ``path``, by its folder and name."""
    name = path.rpartition("/")[2]
    return not path.startswith(("Documentation/", "tools/", "samples/")) and (
        name.endswith((*objects.SOURCES, ".h", ".lds", ".tbl", ".sh", ".py", ".pl"))
        or name.startswith(("Kconfig", "Makefile", "Kbuild"))
    )


def touched(applied: Applied) -> frozenset[str]:
    """Return the paths of all files that differ from the base after some patch of the series."""
    return frozenset(change.path for step in applied.steps for change in step)


def _tell_of_the_base(context: Context, base: State) -> None:
    """Add a note with the number of the base's warnings in the changed files, if it is not 0."""
    paths = touched(context.applied)
    found = diagnostics.by_identity(base.record).values()
    count = sum(1 for one in found if one.file in paths)
    if count:
        shown = (
            "1 warning in the changed files is"
            if count == 1
            else f"{count} warnings in the changed files are"
        )
        context.note(f"{shown} the base's")
