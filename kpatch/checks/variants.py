# SPDX-License-Identifier: GPL-2.0-only
"""Check a series in other ways to build the kernel: one check for each row of VARIANTS."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from kpatch.build import coccinelle, touched, variant, worktree
from kpatch.build.coccinelle import Source
from kpatch.build.objects import PROGRAMS
from kpatch.checks import bisect, states
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.checks.states import Failure, State, Told
from kpatch.errors import HarnessError
from kpatch.model import Applied, Config, Finding
from kpatch.tables.flavors import DEFAULT_FLAVOR
from kpatch.tables.variants import Scope, Variant

MOST_INCLUDERS = 6

# Programs beside the kernel: their objects need files that make writes on the way to the image.
OWN_LINK = re.compile(r"arch/[^/]+/(?:boot|realmode|purgatory|entry/vdso)/")
"""Largest number of C files that are compiled because they include a certain changed header."""


def check(context: Context, chosen: Variant) -> Iterator[Finding]:
    """Yield a finding for each failure or warning that a patch adds in the variant ``chosen``.

    What a build of the plain config reports too is left out. HarnessError: exit 2 if a tool of the
    variant is missing, exit 4 if every Coccinelle script fails. CouldNotRunError if the base does
    not build, or the series does not build in the plain config either. NotApplicableError if the
    series changes nothing that the variant compiles or reads.
    """
    variant.tools(chosen)
    yield from _HOW[chosen.scope](context, chosen)


# ---- variants that are built ---------------------------------------------------------------------


def _built(context: Context, chosen: Variant) -> Iterator[Finding]:
    """Build the variant; yield the findings that the builds of the plain config do not give.

    Those of the plain config are findings of the check bisect. Raises the errors of `check`.
    """
    told = Told.of(bisect.plain(context))
    run = _Variant(context, chosen)
    base = run.state(0)
    if base.failure is not None:
        raise CouldNotRunError(f"the base does not build: {base.failure.cause}")
    made = run.every() if chosen.scope is Scope.OBJECTS else run.linked(told)
    again = _again(chosen)
    found = list(states.findings(made, severity=chosen.severity, told=told, make=again))
    last = made[-1].failure
    if last is not None and not any(finding.removed_by == 0 for finding in found):
        raise CouldNotRunError(f"does not build in the plain config either: {last.cause}")
    if not found:
        bisect.tell_what_is_missing(context, made[-1], chosen.name)
    yield from found


def _again(chosen: Variant) -> tuple[str, ...]:
    """Return the make command, without target, that compiles an object as the variant does.

    () if the variant needs a .config of its own.
    """
    if chosen.scope is not Scope.OBJECTS:
        return ()
    return ("make", *chosen.settings, *(variant.tools(chosen).settings if chosen.llvm else ()))


class _Variant:
    """The builds of one variant of the states of a series, each made once."""

    def __init__(self, context: Context, chosen: Variant) -> None:
        self._context = context
        self._chosen = chosen
        self._targets = _targets(context) if chosen.scope is Scope.OBJECTS else ()
        self._values = self._wishes()
        self._states: dict[int, State] = {}
        self._tools = variant.tools(chosen).identity

    def every(self) -> list[State]:
        """Return the states of the base and of the tree after each patch."""
        return [self.state(number) for number in range(len(self._context.patches) + 1)]

    def linked(self, told: Told) -> list[State]:
        """Return the results of building the base and the whole series.

        If the whole series gives a finding that is not ``told``, return those of `every`: of the
        base, and of the tree after each patch.
        """
        ends = [self.state(0), self.state(len(self._context.patches))]
        found = states.findings(ends, severity=self._chosen.severity, told=told)
        return self.every() if any(found) else ends

    def state(self, number: int) -> State:
        """Return the state after ``number`` patches (0: the base); build it if it is not cached."""
        if number not in self._states:
            self._states[number] = self._state(number)
        return self._states[number]

    def _state(self, number: int) -> State:
        context = self._context
        context.stage.advance(number, len(context.patches) + 1)
        tree = context.after(number) if number else context.base
        targets = [path for path in self._targets if context.content(tree, _source(path))]
        try:
            config = variant.resolve(tree, self._chosen, values=self._values, stage=context.stage)
        except HarnessError as error:
            return State({}, Failure.of(error))
        if number and bool(targets) == bool(self._targets):
            context.stage.command(
                variant.command(tree, self._chosen, config, targets=targets, jobs=context.jobs)
            )
        return states.kept(
            context,
            (self._chosen.name, variant.RECIPE, tree.tree.tree_id, tree.delta_id),
            (config.config_id, self._tools, *targets),
            make=lambda: self._build(tree, config, targets),
        )

    def _build(self, tree: Applied, config: Config, targets: Sequence[str]) -> State:
        context = self._context
        if self._targets and not targets:
            return State({})
        built = variant.build(
            tree, self._chosen, config, targets=targets, jobs=context.jobs, stage=context.stage
        )
        if not tree.changes:
            context.stage.say(f"{self._chosen.name}: base built in {built.seconds:.0f} s, and kept")
        failure = None if built.error is None else Failure.of(built.error)
        return State(built.record, failure, built.unbuilt)

    def _wishes(self) -> dict[str, str]:
        """Return values of Kconfig symbols for this series, beside those of the fragments.

        With a seed they are random, for the symbols around the changed files. For variants that
        compile objects they switch on what the changed sources depend on. Others have {}.
        """
        context, seed = self._context, self._chosen.seed
        paths = bisect.touched(context.applied)

        def read(path: str) -> str:
            return (context.content(context.applied, path) or b"").decode(errors="replace")

        if seed:
            values = dict(touched.randomised(paths, read, seed=seed))
            shown = " ".join(f"{name}={value}" for name, value in values.items())
            context.note(f"seed {seed}: {shown or 'no symbol is around the changed files'}")
            return values
        if self._chosen.scope is Scope.OBJECTS:
            return _switched_on(context, touched.guards(_sources(context), read))
        return {}


def _switched_on(context: Context, guards: Collection[str]) -> dict[str, str]:
    """Return values of symbols that switch on ``guards`` and what these depend on.

    A note names the latter. If the Kconfig files cannot be parsed, the guards alone are switched
    on, and a note says so.
    """
    try:
        values = variant.switched_on(context.applied, guards, stage=context.stage)
    except HarnessError as error:
        context.note(f"what the sources depend on is not switched on: {error.cause}")
        return dict.fromkeys(sorted(guards), "y")
    if more := sorted(values.keys() - guards):
        context.note(f"changed for the sources: {' '.join(f'{it}={values[it]}' for it in more)}")
    return values


def _sources(context: Context, ending: str = ".c") -> list[str]:
    """Return the changed files of the kernel with this ``ending``, sorted."""
    return [
        path
        for path in sorted(bisect.touched(context.applied))
        if path.endswith(ending) and not path.startswith(PROGRAMS)
    ]


def _source(path: str) -> str:
    return f"{path.removesuffix('.o')}.c"


def _targets(context: Context) -> tuple[str, ...]:
    """Return the objects of the changed C files, and of C files that include a changed header.

    The latter are at most MOST_INCLUDERS for each header, of those that the plain config compiles
    in the base, and are named in a note. Those in folders that the series touches come first.
    NotApplicableError if there are none.
    """
    sources = dict.fromkeys(_sources(context))
    objects = worktree.locate(context.base, DEFAULT_FLAVOR).obj
    folders = {path.rpartition("/")[0] for path in bisect.touched(context.applied)}
    for header in _sources(context, ".h"):
        every = nearest(
            (
                path
                for path in touched.includers(objects, header)
                if (context.tree.path / path).is_file()
            ),
            folders,
        )
        chosen = every[:MOST_INCLUDERS]
        sources |= dict.fromkeys(chosen)
        shown = ", ".join(chosen) or "nothing: the plain config compiles no source with it"
        context.note(f"{header} is judged in {len(chosen)} of {len(every)} sources: {shown}")
    if not sources:
        raise NotApplicableError("the series changes no source and no header that one includes")
    return tuple(f"{path.removesuffix('.c')}.o" for path in sources)


def nearest(sources: Iterable[str], folders: Collection[str]) -> list[str]:
    """Return the ``sources`` of the kernel sorted, those in ``folders`` first.

    Left out are sources of OWN_LINK.
    """
    kept = (path for path in sources if not OWN_LINK.match(path))
    return sorted(kept, key=lambda path: (path.rpartition("/")[0] not in folders, path))


# ---- variants that are read ----------------------------------------------------------------------


def _read(context: Context, chosen: Variant) -> Iterator[Finding]:
    """Run the tree's Coccinelle scripts; yield a finding for each report that the base lacks.

    They read the changed C files in the base and after the whole series; after each patch, only if
    that gives a finding. NotApplicableError if the series changes no C file.
    """
    if not _sources(context):
        raise NotApplicableError("the series changes no C source")
    for script in coccinelle.scripts(context.tree.path)[:1]:
        file = context.tree.path / _sources(context)[0]
        context.stage.command(coccinelle.argv(context.tree.path, script, file.parent))
    last = len(context.patches)
    made = _reported(context, chosen, (0, last))
    if any(states.findings(made, severity=chosen.severity)):
        made = _reported(context, chosen, range(last + 1))
    for missed in sorted({text for state in made for text in state.unbuilt}):
        context.note(missed)
    yield from states.findings(made, severity=chosen.severity)


def _reported(context: Context, chosen: Variant, numbers: Iterable[int]) -> list[State]:
    """Return the reports for the states ``numbers``; each content of a file is read only once."""
    parts = (coccinelle.RECIPE, context.tree.tree_id, variant.tools(chosen).identity)

    def name(source: Source) -> tuple[str, ...]:
        return (chosen.name, *parts, *source.key)

    every = [_contents(context, number) for number in numbers]
    distinct = sorted({source for some in every for source in some})
    unread = [source for source in distinct if not states.has(name(source))]

    @functools.cache
    def reports() -> dict[Source, State]:
        found, missed = coccinelle.reports(
            context.tree.path, unread, jobs=context.jobs, begun=context.stage.advance
        )
        return {source: State({source.path: found[source]}, None, missed) for source in unread}

    made = {}
    for source in distinct:
        make = functools.partial(lambda of: reports()[of], source)
        made[source] = states.kept(context, name(source), (), make=make)
    return [states.joined([made[source] for source in some]) for some in every]


def _contents(context: Context, number: int) -> list[Source]:
    """Return the C files that the series changes, as they are after ``number`` patches."""
    tree = context.after(number) if number else context.base
    contents = ((path, context.content(tree, path)) for path in _sources(context))
    return [Source(path, content) for path, content in contents if content is not None]


_HOW: Mapping[Scope, Callable[[Context, Variant], Iterator[Finding]]] = {
    Scope.OBJECTS: _built,
    Scope.KERNEL: _built,
    Scope.SOURCES: _read,
}
