# SPDX-License-Identifier: GPL-2.0-only
"""The input of a check: the series, its state after each patch, and their configs and kernels."""

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
    """Raised by a check that cannot run, or not completely.

    The message is one line: the cause and the remedy.
    """


class NotApplicableError(Exception):
    """Raised by a check that has nothing to judge in this series; the message is the reason."""


@dataclass
class Context:
    """The input of one check of a review, and what the check reports beside its findings.

    ``applied`` is the whole series on its tree. ``kernel_argument`` and ``series_argument`` are the
    values of --kernel and --series for commands that repeat a part of the review. ``output`` is the
    review's folder. ``jobs``, ``accel``, ``mechanism`` and ``limits`` are as in
    `kpatch.pipeline.RunRequest`.

    ``stage`` shows the progress of the check, and takes the commands that repeat it. ``progress``
    begins further stages, for runs of the suite. ``notes`` are facts that are no findings.
    ``parts`` is the number of patches or builds that the check examines; for ``reused`` of them the
    result was in the cache.

    The checks of a review share ``shared`` (results of `once`, by key), ``tools`` (versions by
    name) and ``configs`` (ids of the whole series' configs, by flavor).
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
        """Return the negative control: the unpatched tree, whose builds other runs share."""
        return Applied(self.tree, catalog.CONTROL, (), (), apply.delta_id(()))

    def after(self, count: int) -> Applied:
        """Return the series with only its first ``count`` patches applied."""
        return apply.after(self.applied, count)

    def config(self, state: Applied, flavor: str = DEFAULT_FLAVOR) -> Config:
        """Return the .config of ``state`` with ``flavor``.

        HarnessError (exit 4) if a requested symbol does not stick.
        """
        with worktree.config_source(state, flavor, stage=self.stage) as source:
            return config.resolve(
                source=source,
                source_id=worktree.config_id(state),
                version=state.tree.version,
                flavor=FLAVORS[flavor],
                stage=self.stage,
            )

    def kernel(self, state: Applied, flavor: str = DEFAULT_FLAVOR) -> Kernel:
        """Return the kernel of ``state`` with ``flavor``; build it if it is not in the cache.

        HarnessError (exit 4) if it cannot be configured or does not build.
        """
        resolved = self.config(state, flavor)
        if state.delta_id == self.applied.delta_id:
            self.configs[flavor] = resolved.config_id
        return kernel.build(state, resolved, jobs=self.jobs, stage=self.stage)

    def content(self, state: Applied, path: str) -> bytes | None:
        """Return the content of the file ``path`` in ``state``; None if there is no such file."""
        return apply.content(state, path)

    def tool(self, name: str, version: str) -> None:
        """Record that the review uses ``version`` of the tool ``name``; its reports list them."""
        self.tools[name] = version

    def note(self, text: str) -> None:
        """Add a note to the check: a fact for the reader that is no finding."""
        self.notes.append(text)

    def once(self, key: str, kind: type[T], make: Callable[[], T]) -> T:
        """Call ``make`` and return its result, which is of the type ``kind``.

        Later calls with the same ``key``, by any check of the review, return the same object.
        """
        if key not in self.shared:
            self.shared[key] = make()
        made = self.shared[key]
        assert isinstance(made, kind)
        return made

    def memo(
        self, name: str, parts: Iterable[str], find: Callable[[], Iterable[Finding]]
    ) -> tuple[Finding, ...]:
        """Return the findings of ``find``; it is called only if the cache does not have them.

        The cache key is ``name`` and ``parts``. ``parts`` have to contain everything on which the
        findings depend: ids of the input, versions of tools. The context counts the call as one of
        its ``parts``, and as ``reused`` if ``find`` was not called.
        """
        self.parts += 1

        def fill(partial: Path) -> None:
            found = [dataclasses.asdict(finding) for finding in find()]
            (partial / FINDINGS).write_text(json.dumps(found), encoding="utf-8")

        folder, cached = cache.entry(KIND, cache.digest((name, *parts)), fill)
        self.reused += cached
        found = json.loads((folder / FINDINGS).read_text(encoding="utf-8"))
        return result.record(found, tuple[Finding, ...])
