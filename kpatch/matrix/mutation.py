# SPDX-License-Identifier: GPL-2.0-only
"""Mutants of the lines that a series adds to C sources: made by universalmutator, and sampled.

universalmutator applies the rules of mutants.rules to single lines. Its own rules for C are not
used: most of what they make of kernel code does not compile.

The samples of carried series are kept in FOLDER, in the order in which they were drawn: the first N
are a sample of N. They were fixed before the first of them was run.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import random
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kpatch.build.objects import OUTSIDE
from kpatch.errors import HarnessError
from kpatch.lib import environment, process
from kpatch.lib.stage import Silent
from kpatch.matrix.store import missing
from kpatch.model import Applied, Change, Origin, Series
from kpatch.series import apply, mutant
from kpatch.series.mutant import Mutant
from kpatch.source import resolve
from kpatch.tables.outcomes import ExitCode
from kpatch.tables.paths import PROJECT

FOLDER = PROJECT / "tests" / "data" / "mutants"
RULES = Path(__file__).with_name("mutants.rules")

SEED = 1
"""The seed of the kept samples."""

# A longer line is not mutated, and no source beyond this size in bytes of all sources: the time for
# regular expressions has to be bounded.
LONGEST_LINE = 200
LARGEST = 4 << 20

_COMMENT = re.compile(r"/\*|\*/")
_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """Mutants of a series, in the order in which they were drawn.

    ``total`` is the number of those that they were drawn from. ``left_out`` has a line for each
    file and each mutant that cannot be used.
    """

    mutants: tuple[Mutant, ...]
    total: int
    left_out: tuple[str, ...] = ()


def applied(kernel: str, series: Series) -> Applied:
    """Return ``series`` applied to the base ``kernel``; the errors of the stages source, apply."""
    return apply.apply(resolve.resolve(kernel, stage=Silent()), series, stage=Silent())


def of_series(applied: Applied, *, seed: int, count: int) -> Sample:
    """Return ``count`` mutants of the series ``applied``: the kept ones, if ``seed`` is theirs.

    HarnessError (exit 2) if universalmutator is needed and not installed, or the series adds no
    line that can be mutated.
    """
    kept = path_of(applied)
    if applied.series.origin is Origin.CARRIED and seed == SEED and kept.is_file():
        found = load(kept, applied)
        return replace(found, mutants=found.mutants[:count])
    return drawn(applied, seed=seed, count=count)


def drawn(applied: Applied, *, seed: int, count: int) -> Sample:
    """Return a sample of ``count`` mutants of the series; the errors of `of_series`."""
    made: list[Mutant] = []
    left_out = []
    size = 0
    for change in sources(applied):
        assert change.content is not None
        size += len(change.content)
        if size > LARGEST:
            left_out.append(f"{change.path}: the sources are too large for mutants")
        else:
            made += generate(change.path, change.content, added(applied, change))
    if not made:
        raise HarnessError(
            f"series {applied.series.name}",
            "adds no line to a C source of the kernel that can be mutated",
            hint="choose another series",
        )
    return Sample(tuple(sample(made, seed=seed, count=count)), len(made), tuple(left_out))


def sources(applied: Applied) -> Iterator[Change]:
    """Yield the C sources of the kernel that the series changes or adds, sorted by path."""
    for change in applied.changes:
        inside = not change.path.startswith(OUTSIDE)
        if change.path.endswith(".c") and change.content is not None and inside:
            yield change


def added(applied: Applied, change: Change) -> frozenset[int]:
    """Return the numbers of the lines of ``change`` that the unpatched file does not have.

    HarnessError (exit 7) if git fails.
    """
    old = applied.tree.path / change.path
    with tempfile.TemporaryDirectory(prefix="vfio-acpi-mutants.") as folder:
        before, after = Path(folder) / "before", Path(folder) / "after"
        before.write_bytes(old.read_bytes() if old.is_file() else b"")
        after.write_bytes(change.content or b"")
        argv = ["git", "diff", "--no-index", "--text", "--unified=0", "--no-color", "--no-ext-diff"]
        status, output = process.capture(
            [*argv, "--", before.name, after.name], cwd=Path(folder), env=environment.clean()
        )
    if status not in (0, 1):
        raise HarnessError(
            change.path, "git cannot compare it", hint=output.strip(), code=ExitCode.LOST
        )
    return frozenset(
        number
        for match in _HUNK.finditer(output)
        for number in range(int(match[1]), int(match[1]) + int(match[2] or 1))
    )


def generate(path: str, content: bytes, numbers: Iterable[int]) -> list[Mutant]:
    """Return all mutants of the lines ``numbers`` of the C source ``path``, sorted by line.

    HarnessError (exit 2) if universalmutator is not installed.
    """
    try:
        from universalmutator import mutator
    except ImportError as error:
        raise missing("universalmutator", "mutants-ready") from error
    wanted = frozenset(numbers)
    lines = content.split(b"\n")
    texts = [f"{_text(line, number in wanted)}\n" for number, line in enumerate(lines, 1)]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the names of its files
        found = mutator.mutants_regexp(texts, ruleFiles=[str(RULES)], ignorePatterns=[])
    made = {
        Mutant(path, number, texts[number - 1][:-1], text.removesuffix("\n")): None
        for number, text, *_ in found
        if number in wanted and text.count("\n") == 1
    }
    return sorted(made, key=lambda it: (it.line, it.after))


def _text(line: bytes, wanted: bool) -> str:
    """Return a line as text, or only where comments begin and end in it if it is not to be mutated.

    It is not if it is not ``wanted``, too long, or has characters that are not printable.
    """
    text = line.decode("utf-8", errors="replace")
    plain = text.replace("\t", "")
    exact = text.encode() == line and plain.isprintable() and mutant.ARROW not in text
    usable = wanted and exact and len(text) <= LONGEST_LINE
    return text if usable else "".join(_COMMENT.findall(text))


def sample(mutants: Sequence[Mutant], *, seed: int, count: int) -> list[Mutant]:
    """Draw ``count`` of ``mutants`` in an order that depends on ``seed``.

    Every line has its turn before one has a second mutant: a line with many operators is not worth
    more than another.
    """
    chance = random.Random(f"mutants {seed}")  # noqa: S311
    lines: dict[tuple[str, int], list[Mutant]] = {}
    for it in mutants:
        lines.setdefault((it.path, it.line), []).append(it)
    queues = list(lines.values())
    chance.shuffle(queues)
    for queue in queues:
        chance.shuffle(queue)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    return list(itertools.islice((it for it in turns if it is not None), count))


# ---- the kept samples ----------------------------------------------------------------------------


def path_of(applied: Applied) -> Path:
    """Return the path of the kept sample of a carried series; it need not exist."""
    return FOLDER / f"{applied.series.name}-{applied.tree.base}.mutants"


def dump(sample: Sample, applied: Applied, seed: int) -> str:
    """Return the text of the file of a kept sample, which `load` reads."""
    head = [
        "# SPDX-License-Identifier: GPL-2.0-only",
        f"# {len(sample.mutants)} of {sample.total} mutants of the series {applied.series.name} "
        f"on {applied.tree.version}, drawn with the seed {seed}, in the order of the draw.",
        "# Written by: kpatch matrix sample (docs/mutants.md)",
    ]
    return "".join(f"{line}\n" for line in [*head, *map(str, sample.mutants)])


def load(path: Path, applied: Applied) -> Sample:
    """Return the kept sample in the file ``path`` for the series ``applied``.

    A later point release may move lines: a mutant counts for the nearest added line of the same
    text; without one it is left out. HarnessError (exit 2) if a line of the file is no mutant.
    """
    rows = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    places: dict[tuple[str, str], list[int]] = {}
    for change in sources(applied):
        assert change.content is not None
        lines = change.content.split(b"\n")
        for number in sorted(added(applied, change)):
            text = lines[number - 1].decode(errors="replace")
            places.setdefault((change.path, text), []).append(number)
    kept, left_out = [], []
    for it in map(mutant.parse, rows):
        numbers = places.get((it.path, it.before), [])
        if numbers:
            _, nearest = min((abs(number - it.line), number) for number in numbers)
            kept.append(replace(it, line=nearest))
        else:
            left_out.append(f"{it.place}: the line is no longer there ({it.change})")
    return Sample(tuple(kept), len(rows), tuple(left_out))
