# SPDX-License-Identifier: GPL-2.0-only
"""Check that a series does not break user space by its uAPI headers, and takes free numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from kpatch.abi import compare, measure, surface
from kpatch.abi.compare import Newest, Remark
from kpatch.abi.measure import Bench
from kpatch.abi.probe import WIDTHS
from kpatch.abi.surface import Surface
from kpatch.checks.context import Context, CouldNotRunError, NotApplicableError
from kpatch.errors import HarnessError
from kpatch.model import Applied, Finding, Tree
from kpatch.series import apply, catalog
from kpatch.source import resolve
from kpatch.tables.bases import DEFAULT_BASE
from kpatch.tables.outcomes import CheckOutcome

_UAPI = re.compile(r"(?:arch/\w+/)?include/uapi/.*\.h")

NEWEST = DEFAULT_BASE
"""The base in which a new number has to be free."""


def check(context: Context) -> Iterator[Finding]:
    """Compare each changed uAPI header with that of the base, after each patch; yield the findings.

    NotApplicableError if the series changes no uAPI header. CouldNotRunError if all of them are of
    other architectures, or do not compile in the base.
    """
    touched = {path for patch in context.patches for path in patch.paths if _UAPI.fullmatch(path)}
    if not touched:
        raise NotApplicableError("no header of the uAPI is touched")
    measured = sorted(path for path in touched if measure.installed_name(path))
    if foreign := sorted(touched - set(measured)):
        context.note(f"not compared, since gcc compiles for x86 alone: {', '.join(foreign)}")
    if not measured:
        raise CouldNotRunError(f"gcc compiles for x86 alone: {', '.join(foreign)}; compare by hand")
    header = _Headers(context)
    judged = [path for path in measured if header.judged(path)]
    for path in judged:
        yield from _follow(context, header, path)
    if not judged:
        raise CouldNotRunError(f"no changed header compiles in the base: {', '.join(measured)}")


class _Headers:
    """Compiles and reads headers: in the base, after each patch, and in the newest base."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._read: dict[Path, Surface] = {}
        tree = self._resolve()
        self._bench = self._set_up(context.base, tree)
        self._newest = None if tree is None else self._bench
        if tree is not None and tree != context.tree:
            self._newest = self._set_up(_unpatched(tree), tree)

    def before(self, path: str) -> Surface:
        """Return the header in the base; an empty Surface if the base does not have it."""
        return self._surface(self._bench, self._context.base, path, {})

    def after(self, path: str, count: int) -> Surface | None:
        """Return the header after ``count`` patches; None if it does not exist then."""
        state = self._context.after(count)
        changed = {
            change.path: change.content
            for change in state.changes
            if change.content is not None and measure.installed_name(change.path)
        }
        if path not in changed:
            gone = self._context.content(state, path) is None
            return None if gone else self.before(path)
        return self._surface(self._bench, state, path, changed)

    def newest(self, path: str) -> Newest:
        """Return the header in the newest base; an empty one if that base is not available."""
        if self._newest is None:
            return Newest("", Surface(measure.installed_name(path)))
        base = self._newest.base
        return Newest(base.tree.version, self._surface(self._newest, base, path, {}))

    def judged(self, path: str) -> bool:
        """Return whether the header can be compared.

        It cannot, and a note says so, if it exists in the base and does not compile there.
        """
        there = self._context.content(self._context.base, path) is not None
        if there and not self.before(path).abis:
            self._context.note(f"not compared, since it does not compile in the base: {path}")
            return False
        return True

    def _surface(
        self, bench: Bench, state: Applied, path: str, changed: Mapping[str, bytes]
    ) -> Surface:
        name = measure.installed_name(path)
        if self._context.content(state, path) is None:
            return Surface(name)
        entry, cached = measure.measure(bench, path, changed)
        if entry not in self._read:
            self._context.parts += 1
            self._context.reused += cached
            self._read[entry] = surface.read(entry, name)
            if changed:
                self._tell(bench, entry, name)
        return self._read[entry]

    def _tell(self, bench: Bench, entry: Path, name: str) -> None:
        """Record the commands that compile the header ``name`` alone, for 64 and for 32 bit.

        Their include path names the cache entry, which also has the objects (for pahole).
        """
        for width in WIDTHS:
            gcc = ["gcc", f"-m{width}", *measure.search(bench, entry)]
            self._context.stage.command([*gcc, *measure.alone(name)])

    def _set_up(self, base: Applied, newest: Tree | None) -> Bench:
        context = self._context
        return measure.bench(base, spare=newest, jobs=context.jobs, stage=context.stage)

    def _resolve(self) -> Tree | None:
        """Return the tree of the newest base; None, with a note, if it is not available."""
        context = self._context
        if context.tree.base == NEWEST:
            return context.tree
        try:
            return resolve.resolve(NEWEST, stage=context.stage)
        except HarnessError as error:
            context.note(f"whether numbers are free in {NEWEST} is not known: {error}")
            return None


def _unpatched(tree: Tree) -> Applied:
    return Applied(tree, catalog.CONTROL, (), (), apply.delta_id(()))


def _follow(context: Context, header: _Headers, path: str) -> Iterator[Finding]:
    """Yield the findings on the header ``path``, each with the patch that causes it.

    Additions, and other remarks that are no findings, become notes.
    """
    before, newest = header.before(path), header.newest(path)
    states = [
        {one.key: one for one in _remarks(before, header.after(path, count), newest)}
        for count in range(len(context.patches) + 1)
    ]
    for number in range(1, len(states)):
        context.stage.advance(number, len(context.patches))
        brought = [one for key, one in states[number].items() if key not in states[number - 1]]
        for remark in compare.collapse(brought):
            if remark.outcome is CheckOutcome.PASS:
                context.note(f"{path}: {remark.text}")
                continue
            if remark.key.startswith("padding ") and _moved(context, number, remark.name):
                context.note(f"{path}: {remark.text}; the patch moves the structure here")
                continue
            later = (n for n in range(number + 1, len(states)) if remark.key not in states[n])
            yield Finding(
                remark.text,
                remark.outcome,
                patch=number,
                file=path,
                line=line(context.content(context.after(number), path), remark.name),
                details=remark.details,
                removed_by=next(later, 0),
            )


def _moved(context: Context, number: int, name: str) -> bool:
    """Return whether a source of the kernel that the patch changes defines ``name`` in the base."""
    definition = re.compile(rf"^struct {re.escape(name)} \{{".encode(), re.MULTILINE)
    paths = (path for path in context.patches[number - 1].paths if not _UAPI.fullmatch(path))
    contents = (context.content(context.base, path) for path in paths)
    return any(content and definition.search(content) for content in contents)


def _remarks(before: Surface, now: Surface | None, newest: Newest) -> Iterator[Remark]:
    if now is None:
        yield Remark("gone", CheckOutcome.FAIL, f"removes the header <{before.name}>")
    elif now is not before:
        yield from compare.compare(before, now, newest)


def line(content: bytes | None, name: str) -> int | None:
    """Return the number of the line of a header that declares ``name``.

    If none does, it is the first line with that word. None if there is none, or ``content`` is None
    or ``name`` "".
    """
    if content is None or not name:
        return None
    lines = content.decode(errors="replace").splitlines()
    word = re.escape(name)
    for pattern in (
        rf"\s*#\s*define\s+{word}\b|\s*(?:struct|union|enum)\s+{word}\s*\{{|\s*{word}\s*[,=]",
        rf".*\b{word}\b",
    ):
        for number, text in enumerate(lines, 1):
            if re.match(pattern, text):
                return number
    return None
