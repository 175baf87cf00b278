# SPDX-License-Identifier: GPL-2.0-only
"""Run the stages in order, from a kernel tree and series to a verdict.

    source ──► apply ──► config ──► build ──► selftests ──► machine ──► suite ──► judge ──► result

Each stage is a function of another module and can be called alone. This module passes the output
of one stage to the next.
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from kpatch.build import code, config, kernel, selftests, worktree
from kpatch.build.selftests import Selftests
from kpatch.errors import HarnessError
from kpatch.lib import confine, tools
from kpatch.lib.progress import LiveStage, Progress
from kpatch.model import Applied, Config, Kernel, MechanismFolder, Origin, Series, Tree
from kpatch.report import result, write
from kpatch.report.output_dir import OutputDir, open_output_dir
from kpatch.run import runner
from kpatch.run.protocol import Detected
from kpatch.run.vm_run import VmRun
from kpatch.series import apply, catalog, mechanism_folder, mutant
from kpatch.source import resolve
from kpatch.source.download import public
from kpatch.tables import bases, flavors
from kpatch.tables.limits import DEFAULTS, Limits
from kpatch.tables.mechanisms import MECHANISMS
from kpatch.tables.outcomes import ExitCode
from kpatch.tables.paths import PROJECT
from kpatch.verdict import judge, requirements
from kpatch.vm import accel, acpid, guest_image, machine, qemu
from kpatch.vm.inner import files as inner
from ktests.contract import FLAVOR_ARGUMENT, NONE, SEED_ARGUMENT, UNDETECTED, UNJUDGED, UNKNOWN

# A work item that has run for 10 ms, as on a busy host any may, no longer keeps the next one from
# starting (since Linux 6.5). So a Notify handler could overtake another on its CPU, and the count
# of reordered notifications would not be that of the mechanism.
MEASURING = ("workqueue.cpu_intensive_thresh_us=0",)

PACKAGES = ("kconfiglib", "pyroute2", "pytest", "virtme-ng")


@dataclass(frozen=True)
class RunRequest:
    """The parameters of one run: the options of the command ``test`` for one kernel.

    ``series`` are names or paths of mail; () means the negative control and the carried series that
    run by default, `catalog.ALL` those that are no drafts. ``tests`` is pytest's -k, "" for all
    tests; ``jobs`` is the number of processes of a build. ``mechanism`` is the mechanism of the
    series from mail: its name, or the path of its folder (`kpatch.series.mechanism_folder`). None
    means that the guest detects it. ``control`` adds the negative control if a series is from mail.
    The control has to fail the tests of the mechanisms of the run's series; of all mechanisms if
    there is no series, or its mechanism is to be detected. If ``negative`` is false, it runs only
    the tests that every kernel has to pass.
    ``untrusted`` refuses to run without confinement. ``refresh`` looks for a newer kernel package
    than the cached one. ``mutant`` is the text form of a mutant of the one series, "" for none
    (`kpatch.series.mutant`): the kernel is built with it, the cheapest requirements are tested
    first, and the run ends with the first test that fails. ``seed`` decides the sequences that
    ktests/test_stateful.py generates.
    """

    kernel: str = bases.DEFAULT_BASE
    series: tuple[str, ...] = ()
    flavor: str = flavors.DEFAULT_FLAVOR
    accel: str = "auto"
    tests: str = ""
    jobs: int = 1
    mechanism: str | None = None
    control: bool = True
    negative: bool = True
    untrusted: bool = False
    refresh: bool = False
    mutant: str = ""
    seed: int = 1
    limits: Limits = DEFAULTS

    def names(self) -> tuple[str, ...]:
        """Return the names of the series to run, in order, for `catalog.ALL` those of all bases.

        If one of them is from mail and ``control`` is set, the negative control is the first:
        without it, faults of the unpatched kernel would be blamed on the series.
        """
        named = self.series or (catalog.BASE, *catalog.default())
        if self.control and not self.mutant and Origin.MBOX in map(catalog.origin, named):
            named = (catalog.BASE, *named)
        of_all = (catalog.BASE, *catalog.ready()) if catalog.ALL in named else ()
        lists = (of_all if name == catalog.ALL else (name,) for name in named)
        return tuple(dict.fromkeys(itertools.chain.from_iterable(lists)))

    def command(self, series: Series) -> list[str]:
        """Return the argv that repeats the run of ``series`` alone, in the project's folder.

        Relative paths have become absolute. If the negative control ran before ``series``, the
        command runs it too: faults that the control shows do not count against the series
        (`kpatch.verdict.judge.control_titles`).
        """
        # A series from mail is named by its path; it has exactly one mailbox.
        known = series.origin is not Origin.MBOX
        named = series.name if known else str(series.mailboxes[0])
        options = {
            "--kernel": from_anywhere(self.kernel),
            "--series": named,
            "--flavor": self.flavor,
            "--accel": self.accel,
            "--tests": self.tests,
            "--mutant": self.mutant,
            "--mechanism": "" if known else mechanism_from_anywhere(self.mechanism),
            "--jobs": str(self.jobs),
            "--boot-limit": f"{self.limits.boot:g}",
            "--test-limit": f"{self.limits.test:g}",
            "--run-limit": f"{self.limits.run:g}",
            "--seed": str(self.seed),
        }
        given = [word for name, value in options.items() if value for word in (name, value)]
        if not known:
            given.append("--control" if self.control else "--no-control")
        if catalog.BASE in self._before(series) and (known or not self.control):
            given = ["--series", catalog.BASE, *given]
        if self.untrusted:
            given.append("--untrusted")
        return [sys.executable, "-m", "kpatch", "test", *given]

    def _before(self, series: Series) -> tuple[str, ...]:
        """Return the names of the series that run before ``series``."""
        names = self.names()
        paths = [
            str(catalog.place(name)) if catalog.origin(name) is Origin.MBOX else name
            for name in names
        ]
        itself = {series.name, *map(str, series.mailboxes)}
        return names[: next((n for n, path in enumerate(paths) if path in itself), 0)]


def from_anywhere(kernel: str) -> str:
    """Return the value ``kernel`` of KERNEL= so that it is valid in any working directory.

    A relative path is made absolute. Passwords and tokens are removed from a URL, since the command
    that repeats a run is stored in the result; the user has to add them.
    """
    if "://" in kernel:
        return public(kernel)
    if kernel in bases.BASES or kernel.startswith("~"):
        return kernel
    return str(Path.cwd() / kernel)


def mechanism_from_anywhere(mechanism: str | None) -> str:
    """Return the value ``mechanism`` of MECHANISM= so that it is valid in any working directory.

    The path of a folder is made absolute. Returns "" for None.
    """
    if mechanism is None or mechanism in MECHANISMS:
        return mechanism or ""
    return str(Path.cwd() / mechanism)


@dataclass
class RunState:
    """The results of the stages that have run. If a run ends early, its result is made from them.

    ``configs`` and ``kernels`` map the name of a series to the id of its .config and to its kernel.
    ``clock`` is the monotonic time of the start in seconds.
    """

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.monotonic)
    tree: Tree | None = None
    configs: dict[str, str] = field(default_factory=dict)
    kernels: dict[str, Kernel | None] = field(default_factory=dict)
    series: list[result.SeriesInfo] = field(default_factory=list)
    accel: accel.Accel | None = None
    runs: list[judge.SeriesRun] = field(default_factory=list)


class Pipeline:
    """The stages for one request. They report to ``progress`` and store results in ``state``."""

    def __init__(self, request: RunRequest, progress: Progress) -> None:
        self.request = request
        self.progress = progress
        self.state = RunState()

    @property
    def flavor(self) -> flavors.Flavor:
        """Return the flavor that the request names; HarnessError (exit 2) if it is unknown."""
        flavor = flavors.FLAVORS.get(self.request.flavor)
        if flavor is None:
            raise HarnessError(
                f"FLAVOR={self.request.flavor}",
                "unknown flavor",
                hint=f"choose from {', '.join(flavors.FLAVORS)}",
            )
        return flavor

    @functools.cached_property
    def folder(self) -> MechanismFolder | None:
        """The user's own mechanism, None if the request names none.

        HarnessError (exit 2) if its folder is refused, or if no series of the request can have it.
        """
        folder = mechanism_folder.load(self.request.mechanism)
        names = self.request.names()
        judged = names == (catalog.BASE,) or Origin.MBOX in map(catalog.origin, names)
        if folder is not None and not judged:
            raise HarnessError(
                f"MECHANISM={self.request.mechanism}",
                "no series of the run has this mechanism: carried ones have their own",
                hint="give the series too: SERIES=its.mbox",
            )
        return folder

    @property
    def negative(self) -> tuple[str, ...] | None:
        """The mechanisms for which the control has to fail (`RunRequest`), None for all.

        A series whose mechanism was detected counts as one of that mechanism.
        """
        if not self.request.negative:
            return ()
        mechanisms = {info.mechanism for info in self.state.series} - {NONE}
        unknown = not mechanisms or mechanisms & UNJUDGED
        return None if unknown else tuple(sorted(mechanisms))

    @functools.cached_property
    def requirements(self) -> dict[str, requirements.Requirement]:
        """The requirements by id, with the claims of the user's own mechanism.

        Raises the errors of `folder` and of `kpatch.verdict.requirements.load`.
        """
        return requirements.load(folder=self.folder)

    @contextmanager
    def _stage(
        self, name: str, series_name: str | None = None, work: tuple[str, ...] = ()
    ) -> Iterator[LiveStage]:
        """Run the block as the stage ``name``, which ``progress`` displays; yield the stage.

        The time that it will take is estimated from earlier stages with the same name, kernel,
        flavor and ``work``.
        """
        kind = " ".join([from_anywhere(self.request.kernel), self.request.flavor, *work])
        with self.progress.stage(name, series=series_name, kind=kind) as stage:
            yield stage

    def source(self) -> Tree:
        """Return the kernel tree that the request names; get it at the first call.

        Raises the errors of `kpatch.source.resolve.resolve`.
        """
        if self.state.tree is None:
            with self._stage("source") as stage:
                tree = resolve.resolve(
                    self.request.kernel, stage=stage, refresh=self.request.refresh
                )
                stage.cached = tree.cached
            self.state.tree = tree
        return self.state.tree

    def apply(self, name: str) -> Applied:
        """Apply the series ``name`` to the kernel tree, which `source` returns.

        HarnessError: exit 2 if there is no such series or its mail is refused, exit 3 if it does
        not apply; also the errors of `source`.
        """
        tree = self.source()
        with self._stage("apply", name) as stage:
            mechanism = self.folder.name if self.folder else self.request.mechanism
            loaded = catalog.load(name, tree.base, mechanism=mechanism or UNDETECTED)
            applied = apply.apply(tree, loaded, stage=stage)
        facts = (loaded.name, loaded.title, loaded.mechanism, applied.subjects)
        info = result.SeriesInfo(*facts, delta_id=applied.delta_id)
        if self.folder is not None and loaded.mechanism == self.folder.name:
            info = replace(info, folder=result.folder_of(self.folder))
        self.state.series.append(info)
        return applied

    def apply_on(self, applied: Applied, patch: Path) -> Applied:
        """Apply the file ``patch`` on top of the series ``applied``, as one more of its patches.

        HarnessError (exit 3) if it does not apply.
        """
        series = applied.series
        with self._stage("apply", series.name) as stage:
            more = replace(series, mailboxes=(*series.mailboxes, patch))
            return apply.apply(applied.tree, more, stage=stage)

    def names(self) -> list[str]:
        """Return the names of the series to run on the kernel tree, in order.

        `catalog.ALL` stands for those that run by default, and those others that have patches for
        the tree's release line. Those that have none are reported and left out.
        """
        base, named = self.source().base, self.request.names()
        needed = {*self.request.series, *catalog.default()}
        left_out = [it for it in named if it not in needed and not catalog.has_patches(it, base)]
        if left_out:
            self.progress.say(f"left out, without patches for {base}: {', '.join(left_out)}")
        return [name for name in named if name not in left_out]

    def config(self, applied: Applied) -> Config:
        """Return the .config of the flavor for the tree with the series ``applied``.

        Raises the errors of `flavor` and of `kpatch.build.config.resolve`.
        """
        with (
            self._stage("config", applied.series.name) as stage,
            worktree.config_source(applied, self.flavor.name, stage=stage) as tree,
        ):
            resolved = config.resolve(
                source=tree,
                source_id=worktree.config_id(applied),
                version=applied.tree.version,
                flavor=self.flavor,
                stage=stage,
            )
            stage.cached = resolved.cached
        self.state.configs[applied.series.name] = resolved.config_id
        return resolved

    def explain(self, applied: Applied, symbol: str) -> str:
        """Return a text that explains the value of ``symbol`` in the .config of the flavor.

        Raises the errors of `flavor` and of `kpatch.build.config.explanations`.
        """
        with (
            self._stage("explain", applied.series.name) as stage,
            worktree.config_source(applied, self.flavor.name, stage=stage) as tree,
        ):
            return config.explanations(
                [symbol],
                source=tree,
                source_id=worktree.config_id(applied),
                version=applied.tree.version,
                flavor=self.flavor,
                stage=stage,
            )

    def build(self, applied: Applied) -> Kernel:
        """Build the kernel of ``applied`` with the .config of the flavor.

        For a series from mail, the unpatched kernel is built first if necessary (`_build_base`).
        Raises the errors of `config` and of `kpatch.build.kernel.build`.
        """
        if not applied.series.origin.trusted:
            self._build_base(applied.tree)
        resolved = self.config(applied)
        with self._stage("build", applied.series.name) as stage:
            built = kernel.build(
                applied, resolved, jobs=self.request.jobs, like=self.flavor.like, stage=stage
            )
            stage.cached = built.cached
        self.state.kernels[applied.series.name] = built
        return built

    def _build_base(self, tree: Tree) -> None:
        """Build the unpatched kernel if the cache has no objects of it. A failed build is ignored.

        The worktree of a series from mail starts with a copy of these objects. Such a series adds
        none to ccache, so without this build each of them would compile the whole kernel.
        """
        if worktree.has_objects(tree, self.flavor.name):
            return
        with self._stage("apply", catalog.BASE) as stage:
            base = apply.apply(tree, catalog.CONTROL, stage=stage)
        # A base that does not build says nothing of the series, which may repair it.
        with suppress(HarnessError):
            resolved = self.config(base)
            with self._stage("build", catalog.BASE) as stage:
                kernel.build(base, resolved, jobs=self.request.jobs, stage=stage)

    def build_mutant(self, applied: Applied) -> Kernel:
        """Build the kernel of the series ``applied`` with the mutant of the request.

        The series itself is built first: make then compiles only the changed source. HarnessError:
        exit 4 if the mutant does not compile, exit 8 if it compiles to the same code; ``what`` of
        both is `kpatch.series.mutant.what`. Also the errors of `kpatch.series.mutant.plant`, and of
        `build`, which are about the series.
        """
        wanted = mutant.parse(self.request.mutant)
        planted = mutant.plant(applied, wanted)
        whole = self.build(applied)
        jobs, like = self.request.jobs, self.flavor.like

        def identity(it: Applied, stage: LiveStage) -> str:
            return code.identity(it, whole.config, wanted.path, like=like, jobs=jobs, stage=stage)

        with self._stage("object", applied.series.name) as stage:
            before = identity(applied, stage)
            with mutant.blamed(wanted):
                after = identity(planted, stage)
        if before == after:
            raise mutant.equivalent(wanted)
        with self._stage("build", applied.series.name) as stage, mutant.blamed(wanted):
            built = kernel.build(
                planted, whole.config, like=like, renew=False, jobs=jobs, stage=stage
            )
            stage.cached = built.cached
        self.state.kernels[applied.series.name] = built
        return built

    def selftests(self, kernel: Kernel) -> Selftests | None:
        """Build the VFIO selftests in the tree of ``kernel``; return None if the tree has none.

        Raises the errors of `kpatch.build.selftests.build`.
        """
        if not selftests.present(kernel.applied):
            return None
        with self._stage("selftests", kernel.applied.series.name) as stage:
            built = selftests.build(kernel, jobs=self.request.jobs, stage=stage)
            stage.cached = built.cached
        return built

    def machine(self, kernel: Kernel, own: Selftests | None, *, more: bool = False) -> qemu.Setup:
        """Make the parts of a VM for ``kernel``: firmware, images, and the choice of KVM or TCG.

        ``own`` are the kernel's own selftests, None if it has none. With ``more``, the machine has
        the devices for the measurements too. HarnessError: exit 7 if a part cannot be made, exit 2
        if a tool is missing, or KVM is requested and cannot be used.
        """
        inner_guest = self.inner() if self.flavor.inner else None
        with self._stage("machine") as stage:
            table = machine.load(more=more)
            firmware = machine.aml(table, stage=stage)
            extras = guest_image.Extras(acpid.folder(stage=stage), self.folder, inner_guest)
            images = guest_image.images(table, extras, stage=stage)
            stage.cached = images.cached
            chosen = self.state.accel or accel.choose(self.request.accel, kernel.image)
        if self.state.accel is None:
            self.progress.say(f"acceleration: {chosen.used} ({chosen.reason})")
        self.state.accel = chosen
        image = None if own is None else own.image
        ours = (f"{FLAVOR_ARGUMENT}={self.flavor.name}", f"{SEED_ARGUMENT}={self.request.seed}")
        arguments = (*ours, *self.flavor.arguments)
        return qemu.Setup(
            *(kernel.image, table, firmware, images, chosen, image, arguments, self.flavor.cpus)
        )

    def inner(self) -> Path:
        """Return the folder of the inner guest, whose kernel is the base with a driver for edu.

        Raises the errors of `build` and of `kpatch.vm.inner.files.folder`.
        """
        # It is no series of the run.
        request = RunRequest(kernel=self.request.kernel, jobs=self.request.jobs)
        other = Pipeline(request, self.progress)
        kernel = other.build(other.apply_on(other.apply(catalog.BASE), inner.DRIVER))
        with self._stage("inner") as stage:
            return inner.folder(kernel.image, stage=stage)

    def shell(self, kernel: Kernel) -> int:
        """Boot ``kernel`` with a shell on this terminal. Returns QEMU's exit status."""
        setup = self.machine(kernel, self.selftests(kernel))
        with self._stage("boot", kernel.applied.series.name) as stage:
            argv = qemu.shell_command(setup, kernel.applied.series.mechanism, stage=stage)
        return qemu.shell(argv)

    def test(self, kernel: Kernel, output: OutputDir) -> judge.SeriesRun:
        """Run the suite on ``kernel``, in as many VMs as necessary, and return their results.

        Writes the VMs' console logs and the log of the selftests' build to ``output``. Raises the
        errors of `selftests`, of `machine` and of `kpatch.run.runner.run`.
        """
        series = kernel.applied.series
        name, mechanism, negative = series.name, series.mechanism, self.negative
        own = self.selftests(kernel)
        if own is not None:
            output.write(write.selftests_log_name(name), own.log.read_bytes())
        setup = self.machine(kernel, own)
        selection = runner.Selection(
            mechanism,
            self.request.tests,
            self.request.limits,
            self.flavor.slowness,
            detect=not series.origin.trusted,
            excused=judge.control_titles(self.state.runs),
            negative=negative,
            folder=self.folder,
            first=bool(self.request.mutant),
            order=requirements.cheapest_first() if self.request.mutant else (),
        )
        with self._stage("suite", name, work=(mechanism, self.request.tests)) as stage:
            stage.command(self.request.command(kernel.applied.series), cwd=PROJECT)
            vms = runner.run(
                setup,
                selection,
                lambda number: output.file(write.console_name(name, number)),
                stage=stage,
            )
        run = series_run(series.name, series.mechanism, vms, negative=negative)
        self.state.runs.append(run)
        self.state.series = [
            replace(info, mechanism=run.mechanism, detected=run.detected)
            if info.name == name
            else info
            for info in self.state.series
        ]
        if run.detected:
            self.progress.say(f"{name}: mechanism {run.mechanism} ({run.detected})")
        return run

    def measure(
        self, kernel: Kernel, output: OutputDir, parameters: Mapping[str, int]
    ) -> list[VmRun]:
        """Run the measurements with ``parameters`` on ``kernel``; return the VMs that ran them.

        Writes the VMs' console logs to ``output``. Raises the errors of `kpatch.run.runner.run`.
        """
        series = kernel.applied.series
        setup = self.machine(kernel, None, more=True)
        setup = replace(setup, arguments=(*setup.arguments, *MEASURING))
        selection = runner.Selection(
            series.mechanism,
            limits=self.request.limits,
            slowness=self.flavor.slowness,
            measure=parameters,
        )
        with self._stage("measure", series.name) as stage:
            return runner.run(
                setup,
                selection,
                lambda number: output.file(write.console_name(series.name, number)),
                stage=stage,
            )


def series_run(
    name: str, mechanism: str, vms: Sequence[VmRun], *, negative: tuple[str, ...] | None = None
) -> judge.SeriesRun:
    """Return the results of the VMs ``vms`` that ran the suite of the series ``name``.

    If ``mechanism`` is UNDETECTED, the result has the mechanism that the guest detected (UNKNOWN if
    it reported none), and ``detected`` says by which sign; else it has ``mechanism``, and
    ``detected`` is "". ``negative`` is as in `judge.SeriesRun`.
    """
    if mechanism != UNDETECTED:
        return judge.SeriesRun(name, mechanism, tuple(vms), negative=negative)
    detected = runner.detected(vms) or Detected(UNKNOWN, "the guest did not report a mechanism")
    return judge.SeriesRun(name, detected.mechanism, tuple(vms), detected.how)


def run(request: RunRequest, out: Path, progress: Progress) -> result.RunResult:
    """Run all stages for all series of ``request``; return the result and write it to ``out``.

    A HarnessError of a stage is not raised, but is part of the result. HarnessError (exit 2) if the
    folder ``out`` cannot be used. A KeyboardInterrupt is raised again after the results so far have
    been written.
    """
    with open_output_dir(out, names=write.FORMATS) as output:
        return run_in(Pipeline(request, progress), output)


def run_in(pipeline: Pipeline, output: OutputDir) -> result.RunResult:
    """Do the same as `run` with the request of ``pipeline``, and write the result to ``output``."""
    table: dict[str, requirements.Requirement] = {}
    error: HarnessError | None = None
    try:
        table = pipeline.requirements
        _stages(pipeline, output)
    except HarnessError as broken:
        error = broken
    except KeyboardInterrupt:
        stopped = HarnessError(
            "the run",
            "was interrupted",
            hint="run the same command again; what was built is kept",
            code=ExitCode.INTERRUPTED,
        )
        _write(output, _result(pipeline, table, stopped))
        raise
    return _write(output, _result(pipeline, table, error))


def _stages(pipeline: Pipeline, output: OutputDir) -> None:
    _ = pipeline.flavor  # raises for an unknown flavor before anything is downloaded
    tools.require_all()
    confine.require(demanded=pipeline.request.untrusted)
    pipeline.progress.say(f"confinement: {confine.described()}")
    # All series are applied before the first kernel is built, so that an error shows in seconds.
    all_applied = [pipeline.apply(name) for name in pipeline.names()]
    _refuse_same_names(all_applied)
    if pipeline.request.mutant:
        _refuse_undeclared(all_applied)
    for applied in all_applied:
        build = pipeline.build_mutant if pipeline.request.mutant else pipeline.build
        kernel = build(applied)
        name = applied.series.name
        output.write(write.config_name(name), kernel.config.text)
        output.write(write.build_log_name(name), kernel.log.read_bytes())
        pipeline.test(kernel, output)


def _refuse_same_names(applied: Sequence[Applied]) -> None:
    """Raise HarnessError (exit 2) if two series have the same name, which is in names of files."""
    first: dict[str, Series] = {}
    for series_ in (item.series for item in applied):
        other = first.setdefault(series_.name, series_)
        if other is not series_:
            raise HarnessError(
                f"SERIES={series_.mailboxes[0]}",
                f"has the same name, {series_.name}, as {other.mailboxes[0]}",
                hint="rename one of the files, or run them one after the other",
            )


def _refuse_undeclared(applied: Sequence[Applied]) -> None:
    """Raise HarnessError (exit 2) if not one series has to be tested, or its mechanism is unknown.

    A mutant may hide the mechanism from its detection: then nothing would be tested, or little.
    """
    if len(applied) != 1 or applied[0].series.origin is Origin.CONTROL:
        raise HarnessError(
            "--mutant", "a mutant is one of a series", hint="name one series: SERIES=NAME"
        )
    if applied[0].series.mechanism in UNJUDGED:
        raise HarnessError(
            "--mutant",
            "the mechanism of the series is not given, and a mutant could hide it",
            hint="give MECHANISM=NAME; a run of the series without a mutant prints it",
        )


def _write(output: OutputDir, outcome: result.RunResult) -> result.RunResult:
    write.write(output, outcome)
    return outcome


def _result(
    pipeline: Pipeline,
    table: dict[str, requirements.Requirement],
    error: HarnessError | None,
) -> result.RunResult:
    state, request = pipeline.state, pipeline.request
    tree = state.tree
    base = None if tree is None else tree.base
    complete = not (request.tests or request.mutant)
    judgement = judge.judge(table, state.runs, complete=complete, base=base, flavor=request.flavor)
    hellos = [vm.transcript.hello for run in state.runs for vm in run.vms]
    release = next((hello.release for hello in hellos if hello is not None), None)
    return result.RunResult(
        exit_code=error.code if error is not None else judgement.exit_code,
        flavor=request.flavor,
        started=_iso(state.started),
        seconds=round(time.monotonic() - state.clock, 3),
        kernel=None
        if tree is None
        else result.KernelInfo(tree.version, tree.provider, tree.tree_id, tree.origin, release),
        series=tuple(_as_built(item, state) for item in state.series),
        accel=state.accel,
        confinement=confine.described(),
        tools=versions(state),
        selection=request.tests,
        requirements={name: entry.text for name, entry in table.items()},
        not_judged=requirements.of_other_flavors(
            table, {run.mechanism for run in state.runs}, request.flavor
        ),
        stages=tuple(pipeline.progress.records),
        tests=judgement.tests,
        incidents=judgement.incidents,
        faults=judgement.faults,
        error=None if error is None else result.error_of(error),
    )


def _as_built(item: result.SeriesInfo, state: RunState) -> result.SeriesInfo:
    """Return ``item`` with the ids of its config and kernel, and the warnings of its build.

    An id is None, and the warnings are missing, as long as that stage has not run.
    """
    item = replace(item, config_id=state.configs.get(item.name))
    built = state.kernels.get(item.name)
    if built is None:
        return item
    base = state.kernels.get(catalog.BASE)
    return replace(
        item,
        kernel_id=built.kernel_id,
        warnings=result.warnings_of(kernel.warnings(built), kernel.base_warnings(built, base)),
    )


def folder_name(kernel: str) -> str:
    """Return a folder name for the result on ``kernel`` (KERNEL=), in a run on several kernels.

    Other characters than letters, digits, ".", "_" and "-" become "-".
    """
    shown = public(kernel) if "://" in kernel else kernel
    return re.sub(r"[^A-Za-z0-9._-]+", "-", shown).strip("-.") or "kernel"


def folder_names(kernels: Iterable[str]) -> dict[str, str]:
    """Return `folder_name` of each kernel (KERNEL=), by kernel.

    Of equal names, the second ends in "-2", the third in "-3", and so on.
    """
    names: dict[str, str] = {}
    for spec in dict.fromkeys(kernels):
        name = folder_name(spec)
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        candidates = itertools.chain([name], numbered)
        names[spec] = next(it for it in candidates if it not in names.values())
    return names


def versions(state: RunState) -> dict[str, str]:
    """Return the versions of the tools that the run has used, by name.

    The names are "python", PACKAGES, "compiler" (if a kernel was built; there may be several) and
    "qemu" (if the accelerator was chosen).
    """
    programs = {"python": platform.python_version()}
    programs |= {name: importlib.metadata.version(name) for name in PACKAGES}
    compilers = {kernel.compiler for kernel in state.kernels.values() if kernel is not None}
    if compilers:
        programs["compiler"] = ", ".join(sorted(compilers))
    if state.accel is not None:
        programs["qemu"] = qemu_version()
    return programs


def qemu_version() -> str:
    """Return the version that QEMU prints, "7.2.22"; "unknown" if it prints none."""
    argv = ["qemu-system-x86_64", "--version"]
    output = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    match = re.search(r"version (\S+)", output)
    return match[1] if match else "unknown"


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
