# SPDX-License-Identifier: GPL-2.0-only
"""The cells of a matrix: bases × series × flavors × seeds or mutants, or planted faults × seeds.

A cell is data. Its job (`Cell.job`) is a command of the harness, which ends with an exit code and a
folder of results. A kind of command becomes a kind of cell by a row in KINDS.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.matrix import fault, mutation
from kpatch.matrix.job import HOURS, INPUTS, OUT, PYTHON, Job
from kpatch.model import Origin, Series
from kpatch.series import catalog, mail_files, mutant
from kpatch.tables import bases, flavors
from kpatch.tables.paths import CODE, PROJECT
from ktests.contract import UNDETECTED

# The commands that a cell can be, and the fields of the cell that they have options for.
KINDS: dict[str, tuple[str, ...]] = {
    "test": ("kernel", "series", "flavor", "tests", "mutant", "mechanism", "accel"),
    "compare": ("kernel", "series", "flavor", "tests", "accel"),
    "check": ("kernel", "series", "mechanism", "accel"),
}

# Seconds that are expected of a build and of a suite with the plain flavor. They decide the order
# of the cells, and whether a second host builds a kernel too; a wrong figure costs only time.
BUILD_SECONDS, SUITE_SECONDS, SELECTION_SECONDS = 400.0, 120.0, 30.0

LIMIT = 3 * HOURS

# What decides the result of a cell: the code of the harness and the suite, the planted faults, and
# the programs of a VMM's loop, which run in the guest.
SOURCES = (*CODE, "tests/data/faults")


@dataclass(frozen=True)
class Cell:
    """A cell: the command ``kind`` on the base ``kernel`` with a series and a flavor.

    ``series`` is the name of a carried series, or that of a series from mail; ``mail`` is then the
    digest of the mail, "" for a carried one. ``fault`` is the name of the planted fault, "" for
    none; ``mutant`` is the text form of a mutant (`kpatch.series.mutant`), "" for none. Cells that
    differ in ``seed`` alone repeat one another. The other fields are options of the command.
    """

    kind: str = "test"
    kernel: str = bases.DEFAULT_BASE
    series: str = catalog.BASE
    flavor: str = flavors.DEFAULT_FLAVOR
    fault: str = ""
    seed: int = 1
    tests: str = ""
    mechanism: str = ""
    accel: str = "auto"
    mail: str = ""
    mutant: str = ""

    @property
    def name(self) -> str:
        """Return the fields that tell it from the others of a matrix, for people."""
        words = [self.kind, self.kernel, self.series, self.flavor, self.planted]
        if not self.mutant:  # mutants are not repeated
            words.append(f"seed {self.seed}")
        return " ".join(word for word in words if word)

    @property
    def planted(self) -> str:
        """Return the name of the planted fault, or the mutant without white space at its ends."""
        if not self.mutant:
            return self.fault
        it = mutant.parse(self.mutant)
        return f"{it.place}: {it.change}"

    @property
    def group(self) -> Cell:
        """Return the cell without its seed: equal for cells that repeat one another."""
        return dataclasses.replace(self, seed=0)

    @property
    def shared_kernel(self) -> str:
        """Return the name of the kernel that its host needs first.

        That of the unpatched base for a planted fault: its worktree begins with those objects.
        """
        series = catalog.BASE if self.fault else f"{self.series}{self.mail[:8]}"
        return f"{self.kernel} {self.flavor} {series}"

    def key(self, project: str) -> str:
        """Return the key of its result in the store; ``project`` is `project_id`."""
        return cache.digest([project, *(f"{k}={v}" for k, v in dataclasses.asdict(self).items())])

    def job(self, project: str, *, jobs: int, limit: float = LIMIT) -> Job:
        """Return the job that runs the cell, with ``jobs`` processes for a build."""
        slowness = flavors.FLAVORS[self.flavor].slowness
        part = self.tests or self.mutant
        seconds = slowness * (SELECTION_SECONDS if part else SUITE_SECONDS)
        words = [*self._options(KINDS[self.kind]), "--jobs", str(jobs), "--out", OUT]
        if self.fault or self.mutant:
            words.append("--no-control")
        return Job(
            key=self.key(project),
            name=self.name,
            argv=(PYTHON, "-m", "kpatch", self.kind, *words),
            kernel=self.shared_kernel,
            inputs=self._inputs,
            env={"SEED": str(self.seed)},
            changed=fault.changed(self.fault),
            limit=limit,
            seconds=seconds,
        )

    def build(self, *, jobs: int) -> Job:
        """Return the job that builds the kernel `shared_kernel` on a host."""
        cell = dataclasses.replace(self, series=catalog.BASE, mail="") if self.fault else self
        words = [*cell._options(("kernel", "series", "flavor")), "--jobs", str(jobs)]
        return Job(
            key=cache.digest(["build", self.shared_kernel]),
            name=f"build {self.shared_kernel}",
            argv=(PYTHON, "-m", "kpatch", "build", *words),
            kernel=self.shared_kernel,
            inputs=cell._inputs,
            seconds=BUILD_SECONDS * flavors.FLAVORS[self.flavor].slowness ** 0.5,
            kept=False,
        )

    @property
    def _file(self) -> str:
        return f"{self.series}.mbox" if self.mail else ""

    @property
    def _inputs(self) -> dict[str, str]:
        return {self._file: self.mail} if self.mail else {}

    def _options(self, names: Iterable[str]) -> list[str]:
        values = dataclasses.asdict(self)
        if self.mail:
            values["series"] = f"{INPUTS}/{self._file}"
        return [word for name in names if values[name] for word in (f"--{name}", values[name])]


@dataclass(frozen=True)
class Axes:
    """The axes of a matrix: the options of the command ``matrix``.

    ``kernels`` and ``flavors`` are names, or "all". ``series`` are names or paths of mail; () means
    the unpatched kernel and the series that run by default. ``faults`` are names, or "all"; if
    there are any, the cells are those of the faults, whose rows say all else; ``whole`` runs the
    whole suite on each, not only what its row selects. ``seeds`` is the number of repetitions.
    ``mutants`` is the number of mutants of each series, 0 for the series without mutants;
    ``mutant_seed`` decides which ones they are.
    """

    kind: str = "test"
    kernels: tuple[str, ...] = (bases.DEFAULT_BASE,)
    series: tuple[str, ...] = ()
    flavors: tuple[str, ...] = (flavors.DEFAULT_FLAVOR,)
    faults: tuple[str, ...] = ()
    whole: bool = False
    seeds: int = 1
    tests: str = ""
    mechanism: str = ""
    accel: str = "auto"
    mutants: int = 0
    mutant_seed: int = mutation.SEED


_OF_FAULTS = {
    "kernels": "--kernel (KERNEL)",
    "series": "--series (SERIES)",
    "flavors": "--flavor (FLAVOR)",
    "tests": "--tests (TESTS)",
    "mechanism": "--mechanism (MECHANISM)",
    "mutants": "--mutants",
}
"""The options that a planted fault's row takes the place of, by axis."""

_FOR_FAULTS = {"whole": "--whole"}
"""The options for planted faults alone, by axis."""


@dataclass(frozen=True)
class Matrix:
    """The ``cells`` of a matrix; ``mails``, the content of the series from mail by digest.

    ``left_out`` has a line for each base and series without patches for it.
    """

    cells: tuple[Cell, ...]
    mails: dict[str, bytes]
    left_out: tuple[str, ...] = ()


def matrix(axes: Axes) -> Matrix:
    """Return the matrix of ``axes``; cells that share a kernel stand together.

    HarnessError (exit 2) if a value is unknown or would not count, or the mail of a series is not
    one file; also the errors of `kpatch.matrix.mutation`.
    """
    _refuse_idle(axes)
    axes = dataclasses.replace(
        axes,
        kernels=_named("KERNEL", axes.kernels, bases.BASES),
        flavors=_named("FLAVOR", axes.flavors, flavors.FLAVORS),
    )
    seeds = range(1, axes.seeds + 1)
    if axes.faults:
        planted = _planted(axes)
        cells = [dataclasses.replace(cell, seed=seed) for cell, _ in planted for seed in seeds]
        return Matrix(tuple(cells), {cell.mail: mail for cell, mail in planted})
    named = axes.series or (catalog.BASE, *catalog.default())
    both = itertools.chain.from_iterable(
        (catalog.BASE, *catalog.ready()) if name == catalog.ALL else (name,) for name in named
    )
    cells, mails, left_out = [], {}, []
    series = [_series(name) for name in dict.fromkeys(both)]
    if axes.mutants:
        return _mutants(axes, series)
    for kernel, (name, mail), flavor in itertools.product(axes.kernels, series, axes.flavors):
        if not mail and not catalog.has_patches(name, kernel):
            left_out.append(f"{name} has no patches for {kernel}")
            continue
        digest = hashlib.sha256(mail).hexdigest() if mail else ""
        if mail:
            mails[digest] = mail
        cells += [
            Cell(
                axes.kind,
                kernel,
                name,
                flavor,
                seed=seed,
                tests=axes.tests,
                mechanism=axes.mechanism if mail else "",
                accel=axes.accel,
                mail=digest,
            )
            for seed in seeds
        ]
    return Matrix(tuple(cells), mails, tuple(dict.fromkeys(left_out)))


def _refuse_idle(axes: Axes) -> None:
    """Raise HarnessError (exit 2) if a value was chosen that does not count with the others."""
    unset = Axes()
    for name, option in _OF_FAULTS.items() if axes.faults else _FOR_FAULTS.items():
        if getattr(axes, name) != getattr(unset, name):
            cause = "its row says that of a planted fault" if axes.faults else "needs --fault"
            raise HarnessError(option, cause, hint=f"leave {option} out")


def _planted(axes: Axes) -> list[tuple[Cell, bytes]]:
    """Return the cell and the mailbox of each of the planted faults."""
    areas, table = fault.load()
    known = {row.name: row for row in table}
    cells = []
    for name in _named("--fault", axes.faults, known):
        row = known[name]
        mail = fault.mailbox(row.patches)
        cell = Cell(
            kernel=fault.BASE,
            series=row.mailbox.removesuffix(".mbox"),
            flavor=row.flavor,
            fault=name,
            tests="" if axes.whole else row.selection(areas),
            mechanism="" if row.mechanism == UNDETECTED else row.mechanism,
            accel=axes.accel,
            mail=hashlib.sha256(mail).hexdigest(),
        )
        cells.append((cell, mail))
    return sorted(cells, key=lambda made: (made[0].shared_kernel, made[0].series))


def _mutants(axes: Axes, series: Sequence[tuple[str, bytes]]) -> Matrix:
    """Return the matrix of the mutants of ``series``, which are names with mail (`_series`).

    A carried series becomes mail, which is built in a worktree of its own.
    """
    if axes.kind != "test" or axes.seeds != 1:
        raise HarnessError(
            "--mutants", "mutants are cells of the kind test, without seeds", hint="leave them out"
        )
    cells, mails, left_out = [], {}, []
    for kernel, (name, mail), flavor in itertools.product(axes.kernels, series, axes.flavors):
        if name == catalog.BASE and not mail:
            left_out.append("base adds no line")
            continue
        if not mail and not catalog.has_patches(name, kernel):
            left_out.append(f"{name} has no patches for {kernel}")
            continue
        loaded = catalog.load(name, kernel) if not mail else _of_mail(name, mail, axes.mechanism)
        applied = mutation.applied(kernel, loaded)
        found = mutation.of_series(applied, seed=axes.mutant_seed, count=axes.mutants)
        text = mail or fault.mailbox(loaded.mailboxes)
        digest = hashlib.sha256(text).hexdigest()
        mails[digest] = text
        left_out += [f"{name} on {kernel}: {line}" for line in found.left_out]
        cells += [
            Cell(
                axes.kind,
                kernel,
                name,
                flavor,
                tests=axes.tests,
                mechanism=loaded.mechanism,
                accel=axes.accel,
                mail=digest,
                mutant=str(it),
            )
            for it in found.mutants
        ]
    if not cells:
        raise HarnessError("--mutants", "; ".join(left_out), hint="name a series: SERIES=NAME")
    return Matrix(tuple(cells), mails, tuple(dict.fromkeys(left_out)))


def _of_mail(name: str, mail: bytes, mechanism: str) -> Series:
    """Return the series in the text ``mail``, which is kept in the cache."""
    if not mechanism:
        raise HarnessError(
            f"SERIES={name}",
            "its mechanism is not given, and a mutant could hide it from its detection",
            hint="give MECHANISM=NAME; a run of the series without mutants prints it",
        )
    path = mail_files.keep(name, ".mbox", mail)
    return dataclasses.replace(catalog.load_file(path, mechanism=mechanism), name=name)


def sample(axes: Axes) -> list[Path]:
    """Draw the samples of the carried series of ``axes``, write their files, return the paths.

    HarnessError (exit 2) if a series is not carried; also the errors of `kpatch.matrix.mutation`.
    """
    written = []
    for kernel, name in itertools.product(axes.kernels, axes.series):
        if catalog.origin(name) is not Origin.CARRIED:
            raise HarnessError(f"SERIES={name}", "is not carried", hint="name a carried series")
        applied = mutation.applied(kernel, catalog.load(name, kernel))
        drawn = mutation.drawn(applied, seed=mutation.SEED, count=axes.mutants)
        path = mutation.path_of(applied)
        path.parent.mkdir(exist_ok=True)
        path.write_text(mutation.dump(drawn, applied, mutation.SEED))
        written.append(path)
    return written


def _series(name: str) -> tuple[str, bytes]:
    """Return the name of a series for a cell, and its mail, b"" if it is carried."""
    if catalog.origin(name) is not Origin.MBOX:
        if catalog.origin(name) is None:
            catalog.load(name, bases.DEFAULT_BASE)  # raises the error for an unknown name
        return name, b""
    path = catalog.place(name)
    try:
        mail = path.read_bytes()
    except OSError as error:
        raise HarnessError(
            f"SERIES={name}", f"cannot be read: {error.strerror}", hint="give an mbox, one file"
        ) from error
    return catalog.load_file(path).name, mail


def _named(what: str, values: Sequence[str], choices: Iterable[str]) -> tuple[str, ...]:
    """Return ``values``, or all ``choices`` if "all" is among them.

    HarnessError (exit 2) if one is no choice.
    """
    known = tuple(choices)
    for value in values:
        if value not in (*known, catalog.ALL):
            shown = ", ".join(known[:12])
            raise HarnessError(
                f"{what}={value}", "unknown to the matrix", hint=f"choose from {shown}, or all"
            )
    return known if catalog.ALL in values else tuple(values)


def shard(cells: Sequence[Cell], number: int, count: int) -> list[Cell]:
    """Return the ``number``-th (from 1) of ``count`` parts of ``cells``.

    Neighbours stay together, so that at most ``count`` - 1 kernels are built more than once. The
    parts are disjoint, all cells are in one of them, and their sizes differ by at most one.
    """
    return list(cells[len(cells) * (number - 1) // count : len(cells) * number // count])


@functools.cache
def project_id() -> str:
    """Return an id of the project's code, suite and planted faults: a digest of the files.

    The files are read once: all cells of a command have the same id.

    A result in the store counts for the code that it was made with. The kernel of a base is not
    part of it: the store does not notice that Debian has a newer package.
    """
    names = sorted(itertools.chain.from_iterable(_files(PROJECT / top) for top in SOURCES))
    return cache.digest(
        word
        for path in names
        for word in (str(path.relative_to(PROJECT)), hashlib.sha256(path.read_bytes()).hexdigest())
    )


def _files(folder: Path) -> Iterator[Path]:
    return (
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    )
