# SPDX-License-Identifier: GPL-2.0-only
"""Compare the mirror of the uAPI in `uapi` with the headers of every base with every series.

cffi cannot find differences: its ABI mode does not read the headers, and its API mode silently
adapts to a header that differs. So this module makes a static assertion of every size, offset, type
and constant of the mirror, and gcc checks it against the headers, for 64 and for 32 bit. The names
on both sides are compared as well, as far as the patterns of `kpatch.build.headers.HEADERS` match
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cffi import FFI

from kpatch.abi import golden, probe
from kpatch.abi.golden import Measured
from kpatch.abi.probe import Compiler, Names
from kpatch.build import headers
from kpatch.build.headers import Header
from kpatch.errors import HarnessError
from kpatch.lib.progress import Progress
from kpatch.model import Applied
from kpatch.series.catalog import ALL, BASE, default
from kpatch.source.download import public
from kpatch.tables import bases
from uapi import names, structures, vectors

MODULE = Path(structures.__file__).with_name("_mirror.py")

# cffi's type name: the kernel's name, for assertions, and a short name, for the golden JSON.
TYPES = {
    "uint8_t": ("__u8", "u8"),
    "uint16_t": ("__u16", "u16"),
    "uint32_t": ("__u32", "u32"),
    "uint64_t": ("__u64", "u64"),
    "int32_t": ("__s32", "s32"),
    "char": ("char", "char"),
}


@dataclass(frozen=True)
class Field:
    """A member of a structure of the mirror of the uAPI.

    ``offset`` is in bytes. ``kind`` is the kernel's name of its type ("__u32"), ``short`` the name
    of its type in the golden JSON ("u32").
    """

    offset: int
    kind: str
    short: str


@dataclass(frozen=True)
class Struct:
    """A structure of the mirror of the uAPI: its size in bytes, and its members by name."""

    size: int
    fields: dict[str, Field]


@dataclass(frozen=True)
class Mirror:
    """The constants and structures that a kernel should have according to the mirror.

    ``elsewhere`` has all names of the mirror, also those that only other kernels have. ``least``
    has the names of the constants that may have a larger value in the kernel than in the mirror.
    """

    constants: Mapping[str, int | str]
    structs: Mapping[str, Struct]
    elsewhere: frozenset[str] = frozenset()
    least: frozenset[str] = frozenset()

    @classmethod
    def of(cls, constants: Mapping[str, int | str], declarations: Mapping[str, str]) -> Mirror:
        """Build a Mirror from ``constants`` (value by name) and ``declarations``.

        ``declarations`` has the C declaration of each structure by its name, without "struct".
        """
        ffi = FFI()
        ffi.cdef("".join(declarations.values()))
        return cls(constants, {name: _struct(ffi, name) for name in declarations})

    @classmethod
    def for_kernel(cls, release: str, mechanism: str) -> Mirror:
        """Return the part of the mirror for a kernel of ``release`` ("7.3").

        ``mechanism`` is that of the kernel's series ("netlink"; "none" for the unpatched kernel).
        """
        there = cls.of(names.constants(release, mechanism), names.structures(release, mechanism))
        known = {*names.everything(), *structures.STRUCTURES, *names.GATES}
        least = (name for name, gate in names.GATES.items() if gate.least)
        return cls(there.constants, there.structs, frozenset(known), frozenset(least))


@dataclass(frozen=True)
class KernelDrift:
    """The differences between the mirror and the headers of one kernel.

    ``differences`` maps the text of each difference to the ABI widths (64, 32) that have it.
    ``abis`` has the measured constants and structures by width.
    """

    differences: Mapping[str, tuple[int, ...]]
    abis: golden.Abis

    def lines(self, kernel: str) -> list[str]:
        """Return a line for each difference: the name ``kernel``, the ABI widths, the text."""
        return [
            f"{kernel}, {' and '.join(map(str, widths))} bit: {text}"
            for text, widths in self.differences.items()
        ]


@dataclass
class Drift:
    """The result of `compare_kernels`.

    ``differences`` are lines, ``written`` the files that were written or removed. ``kernels`` is
    the number of compared kernels; a kernel counts once for each series.
    """

    differences: list[str] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    kernels: int = 0


def compare(
    mirror: Mirror,
    folders: tuple[Path, ...],
    wanted: Sequence[Header],
    widths: Iterable[int] = probe.WIDTHS,
) -> KernelDrift:
    """Compare ``mirror`` with the headers ``wanted`` in ``folders``, and return the differences.

    ``widths`` are the ABI widths (64, 32) to compare. HarnessError: exit 1 if the headers do not
    compile or cannot be parsed, exit 2 if gcc is not installed.
    """
    differences: dict[str, tuple[int, ...]] = {}
    abis = {}
    for width in widths:
        compiler = Compiler(folders, width)
        declared = compiler.names(wanted)
        measured = _measure(compiler, wanted, declared, mirror)
        abis[width] = measured
        for line in (
            *_unmatched(mirror, declared),
            *_refuted(compiler, wanted, mirror, declared, measured),
        ):
            differences[line] = (*differences.get(line, ()), width)
    return KernelDrift(differences, abis)


def compare_kernel(applied: Applied, installed: headers.Installed) -> KernelDrift:
    """Compare the project's mirror with the headers ``installed`` from the kernel ``applied``.

    The release of its tree and the mechanism of its series select the part of the mirror. Raises
    the errors of `compare`.
    """
    mirror = Mirror.for_kernel(applied.tree.base, applied.series.mechanism)
    return compare(mirror, installed.folders, installed.headers)


def compare_kernels(
    kernels: Sequence[str],
    applier: Callable[[str, Sequence[str]], Iterable[Applied]],
    *,
    progress: Progress,
    series: Sequence[str] = (),
    jobs: int = 1,
    write: bool = False,
    folder: Path = golden.FOLDER,
) -> Drift:
    """Compare the mirror and the golden JSON with the headers of each kernel with each series.

    ``kernels`` are values of KERNEL. ``series`` are names; () stands for `catalog.ALL`.
    ``applier(kernel, series)`` applies the series of these names to that kernel, one after the
    other. ``folder`` has the golden JSON, which has files for bases alone.

    With ``write`` the golden JSON and cffi's module (`MODULE`) are written instead of compared.
    The golden JSON of a kernel that differs from the mirror is not written. HarnessError (exit 2)
    for ``write`` with only some of the series. Raises the errors of ``applier``, of
    `headers.install`, `Installed.require_complete`, `compare_kernel` and `golden.differences`, too.
    """
    series = series or (ALL,)
    if write and ALL not in series:
        raise HarnessError(
            "--write", "needs all series, as they share files", hint="leave out --series"
        )
    outcome = Drift()
    _module(outcome, write=write)
    for kernel in kernels:
        kind = public(kernel)
        measured: dict[str, golden.Abis] = {}
        before = len(outcome.differences)
        for applied in applier(kernel, series):
            name = applied.series.name
            with progress.stage("headers", series=name, kind=kind) as stage:
                installed = headers.install(applied, jobs=jobs, stage=stage)
                installed.require_complete()
                stage.cached = installed.cached
            with progress.stage("drift", series=name, kind=kind):
                report = compare_kernel(applied, installed)
            outcome.kernels += 1
            outcome.differences += report.lines(f"{applied.tree.version} {name}")
            # The golden JSON has files for bases only; a user's tree is compared with the mirror.
            if kernel in bases.BASES and applied.series.origin.trusted:
                measured[name] = report.abis
        if not write:
            for name, abis in measured.items():
                outcome.differences += golden.differences(kernel, name, abis, folder=folder)
        elif measured and len(outcome.differences) == before:
            # A file that series share has the name of one that runs by default, if one does.
            first = {BASE, *default()} & measured.keys()
            ordered = sorted(measured.items(), key=lambda item: item[0] not in first)
            outcome.written += golden.write(kernel, dict(ordered), folder=folder)
    _vectors(outcome, folder, write=write)
    return outcome


def _module(outcome: Drift, *, write: bool, path: Path = MODULE) -> None:
    """Compare ``path``, the module that cffi generates from uapi/structures.py, with that source.

    With ``write`` an outdated module is written again. The difference, or the path of the written
    module, is added to ``outcome``.
    """
    text = structures.module()
    if path.is_file() and path.read_text() == text:
        return
    if write:
        path.write_text(text)
        outcome.written.append(path)
    else:
        outcome.differences.append(
            f"uapi/{path.name} is not made from uapi/structures.py as it is (drift --write does it)"
        )


def _vectors(outcome: Drift, folder: Path, *, write: bool) -> None:
    """Compare the vectors in ``folder`` with the golden JSON there that they are made from.

    With ``write`` they are written. Differences or written files are added to ``outcome``.
    """
    found = vectors.outdated(folder, write=write)
    if write:
        outcome.written += found
    else:
        outcome.differences += [
            f"uapi/golden/{path.name} is not made from the golden JSON as it is "
            "(python -m uapi.vectors --write does it)"
            for path in found
        ]


def _struct(ffi: FFI, name: str) -> Struct:
    kind = ffi.typeof(f"struct {name}")
    return Struct(
        ffi.sizeof(kind),
        {member: _field(place.offset, place.type.cname) for member, place in kind.fields},
    )


def _field(offset: int, cname: str) -> Field:
    """Return the Field at ``offset`` (bytes) of a member with the C type ``cname`` ("char[20]").

    The kernel and the golden JSON have a structure's own name, "struct vfio_info_cap_header".
    """
    word, bracket, length = cname.partition("[")
    kernel, short = TYPES.get(word, (word, word))
    return Field(offset, kernel + bracket + length, short + bracket + length)


def _measure(
    compiler: Compiler, wanted: Sequence[Header], declared: Names, mirror: Mirror
) -> Measured:
    """Measure, in the headers ``wanted``, the constants and structures that the mirror has, too.

    ``declared`` are the names that the headers declare. A member that only the headers have gets
    the type "?".
    """
    common = [name for name in declared.constants if name in mirror.constants]
    texts = compiler.texts(wanted, common)
    numbers = compiler.values(wanted, {name: name for name in common if name not in texts})
    layouts = compiler.layouts(
        wanted,
        {
            name: structure
            for name, structure in declared.structures.items()
            if name in mirror.structs
        },
    )
    types = {
        name: {
            member: mirror.structs[name].fields[member].short
            if member in mirror.structs[name].fields
            else "?"
            for member in layout.members
        }
        for name, layout in layouts.items()
    }
    return Measured({**numbers, **texts}, layouts, types)


def _unmatched(mirror: Mirror, declared: Names) -> Iterator[str]:
    """Yield a line for each constant, structure and member in the mirror or the headers alone."""
    yield from _compare_names("", mirror.constants, declared.constants, mirror.elsewhere)
    there = {name: structure.header for name, structure in declared.structures.items()}
    yield from _compare_names("struct ", mirror.structs, there, mirror.elsewhere)
    for name in (name for name in mirror.structs if name in there):
        members = dict.fromkeys(declared.structures[name].members, there[name])
        fields = mirror.structs[name].fields
        yield from _compare_names(
            "",
            [f"{name}.{member}" for member in fields],
            {f"{name}.{member}": header for member, header in members.items()},
            mirror.elsewhere,
            there[name],
        )


def _compare_names(
    word: str,
    ours: Iterable[str],
    theirs: Mapping[str, str],
    elsewhere: frozenset[str],
    header: str = "the headers",
) -> Iterator[str]:
    known_here = set(ours)
    for name in ours:
        if name not in theirs:
            yield f"{word}{name} is in the mirror, but not in {header}"
    for name in (name for name in theirs if name not in known_here):
        known = name in elsewhere or f"{word}{name}" in elsewhere
        where = "which has it for other kernels only" if known else "which lacks it"
        yield f"{word}{name} is in {theirs[name]}, but not in the mirror, {where}"


def _refuted(
    compiler: Compiler,
    wanted: Sequence[Header],
    mirror: Mirror,
    declared: Names,
    measured: Measured,
) -> Iterator[str]:
    """Yield a line for each value, size, offset or type in which mirror and headers differ.

    gcc checks a static assertion for each. Names that only the mirror or only the headers have are
    left to `_unmatched`. ``measured`` has the headers' values, for the text of the lines.
    """
    claims: dict[str, tuple[str, str]] = {}
    for name, theirs in measured.constants.items():
        ours = mirror.constants[name]
        where = declared.constants[name]
        least = name in mirror.least
        claims[name] = (
            _equal(name, ours, theirs, than=">=" if least else "=="),
            f"{name} is {theirs!r} in {where}, {'at least ' * least}{ours!r} in the mirror",
        )
    for name, layout in measured.structures.items():
        where, struct = declared.structures[name].header, mirror.structs[name]
        claims[f"sizeof {name}"] = (
            f"sizeof(struct {name}) == {struct.size}",
            f"struct {name} has {layout.size} bytes in {where}, {struct.size} in the mirror",
        )
        for member, place in layout.members.items():
            field_ = struct.fields.get(member)
            if field_ is None:
                continue
            claims[f"offset {name}.{member}"] = (
                f"{probe.offset(name, member)} == {field_.offset}",
                f"{name}.{member} is at offset {place.offset} in {where}, "
                f"{field_.offset} in the mirror",
            )
            claims[f"type {name}.{member}"] = (
                probe.same_type(name, member, field_.kind),
                f"{name}.{member} is no {field_.kind} in {where}, as it is in the mirror",
            )
    for key in compiler.broken(wanted, {key: text for key, (text, _) in claims.items()}):
        yield claims[key][1]


def _equal(name: str, ours: int | str, theirs: int | str, *, than: str) -> str:
    """Return a C assertion about the constant ``name``: it compares the headers with the mirror.

    The constant has to be equal to ``ours``, the mirror's value, if ``than`` is "=="; at least
    ``ours`` if it is ">=". A text always has to be equal. ``theirs`` is the headers' value. If one
    of them is a text and the other a number, the assertion is "0", which always fails.
    """
    if isinstance(ours, str) and isinstance(theirs, str):
        return probe.same_text(name, ours)
    if isinstance(ours, int) and isinstance(theirs, int):
        # ULL is needed for numbers with bit 63 set, which do not fit a signed type.
        return f"({name}) {than} {ours}{'ULL' if ours > 0x7FFFFFFF else ''}"
    return "0"
