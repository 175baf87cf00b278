# SPDX-License-Identifier: GPL-2.0-only
"""The input of a check: the series, the state after each patch, and the kernels of these."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kpatch.build import config, kernel, worktree
from kpatch.lib import cache
from kpatch.lib.progress import Progress
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Config, Finding, Kernel, Patch, Tree
from kpatch.report import result
from kpatch.report.output_dir import OutputDir
from kpatch.series import apply, catalog
from kpatch.tables.flavors import DEFAULT_FLAVOR, FLAVORS
from kpatch.tables.limits import DEFAULTS, Limits

KIND = "checks"
FINDINGS = "findings.json"

T = TypeVar("T")


class CouldNotRunError(Exception):
    """Raised by a check that cannot run here; the message is one line: the cause and the remedy."""


class NotApplicableError(Exception):
    """Raised by a check that has nothing to judge in this series; the message says why."""


@dataclass
class Context:
    """A series under review.

    ``applied`` is the whole series, ``series_argument`` the word that names it on a command line,
    ``kernel_argument`` that of the tree. ``stage`` is the progress of the check that runs; its
    commands become the check's. ``progress`` is for parts that are stages of their own. ``shared``
    holds what `once` has made, for later checks of the review. A check that reuses results of an
    earlier review counts them in ``reused`` of ``parts``. ``tools`` (names and versions) and
    ``configs`` (ids of the series' configs by flavor) are those of all checks of the review.
    """

    applied: Applied
    kernel_argument: str
    series_argument: str
    output: OutputDir
    progress: Progress
    stage: Stage
    shared: dict[str, object]
    jobs: int = 1
    accel: str = "auto"
    mechanism: str | None = None
    limits: Limits = DEFAULTS
    tools: dict[str, str] = field(default_factory=dict)
    configs: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    parts: int = 0
    reused: int = 0

    @property
    def tree(self) -> Tree:
        """Return the pristine tree."""
        return self.applied.tree

    @property
    def patches(self) -> tuple[Patch, ...]:
        """Return the patches in order; the first has number 1."""
        return self.applied.patches

    @property
    def base(self) -> Applied:
        """Return the negative control on the tree. Its builds are shared with other runs."""
        return Applied(self.tree, catalog.CONTROL, (), (), apply.delta_id(()))

    def after(self, count: int) -> Applied:
        """Return the state after the first ``count`` patches."""
        return apply.after(self.applied, count)

    def config(self, state: Applied, flavor: str = DEFAULT_FLAVOR) -> Config:
        """Return the .config of ``state``; HarnessError (exit 4) if it cannot be configured."""
        with worktree.config_source(state, flavor, stage=self.stage) as source:
            return config.resolve(
                source=source,
                source_id=worktree.config_id(state),
                version=state.tree.version,
                flavor=FLAVORS[flavor],
                stage=self.stage,
            )

    def kernel(self, state: Applied, flavor: str = DEFAULT_FLAVOR) -> Kernel:
        """Return the kernel of ``state``, built if it is not in the cache.

        HarnessError (exit 4) if it cannot be configured or does not build.
        """
        resolved = self.config(state, flavor)
        if state.delta_id == self.applied.delta_id:
            self.configs[flavor] = resolved.config_id
        return kernel.build(state, resolved, jobs=self.jobs, stage=self.stage)

    def content(self, state: Applied, path: str) -> bytes | None:
        """Return the file ``path`` of the tree in ``state``; None if it is not there."""
        for change in state.changes:
            if change.path == path:
                return change.content
        file = self.tree.path / path
        # A path of a patch has been checked against symbolic links (kpatch.series.apply).
        return file.read_bytes() if file.is_file() else None

    def tool(self, name: str, version: str) -> None:
        """Tell the reader of the review that the check uses the tool ``name`` in this version."""
        self.tools[name] = version

    def note(self, text: str) -> None:
        """Add a note to the check: a fact for the reader that is no finding."""
        self.notes.append(text)

    def once(self, key: str, kind: type[T], make: Callable[[], T]) -> T:
        """Return what ``make`` returns, a ``kind``; it is called once in a review for each key."""
        if key not in self.shared:
            self.shared[key] = make()
        made = self.shared[key]
        assert isinstance(made, kind)
        return made

    def memo(
        self, name: str, parts: Iterable[str], find: Callable[[], Iterable[Finding]]
    ) -> tuple[Finding, ...]:
        """Return the findings of ``find``, kept in the cache under ``name`` and ``parts``.

        ``parts`` have to name everything that the findings depend on: ids of the input, versions of
        tools.
        """
        self.parts += 1

        def fill(partial: Path) -> None:
            found = [dataclasses.asdict(finding) for finding in find()]
            (partial / FINDINGS).write_text(json.dumps(found), encoding="utf-8")

        folder, cached = cache.entry(KIND, cache.digest((name, *parts)), fill)
        self.reused += cached
        found = json.loads((folder / FINDINGS).read_text(encoding="utf-8"))
        return result.record(found, tuple[Finding, ...])
