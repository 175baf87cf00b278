# SPDX-License-Identifier: GPL-2.0-only
"""A mutant: one line of a file that a series changes, replaced by another one.

Its text form is that of a command line and of the samples (`kpatch.matrix.mutation`):

    drivers/vfio/pci/vfio_pci_acpi.c:120: <tab>if (count) ==> <tab>if (!count)

The number of the line is that in the file with the whole series. No other line moves, so __LINE__
and the line numbers of the debug information stay the same in the rest of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from kpatch.errors import HarnessError
from kpatch.lib import sanitize
from kpatch.model import Applied
from kpatch.series import apply
from kpatch.tables.outcomes import ExitCode

ARROW = " ==> "
"""Stands between the two lines; also in the rules of universalmutator. C has no such operator."""

LONGEST = 4000
"""Number of characters of the longest text form that is accepted."""

_FORM = re.compile(rf"(?P<path>[^:\n]+):(?P<line>\d{{1,7}}): (?P<both>[^\n]*{ARROW}[^\n]*)")


@dataclass(frozen=True)
class Mutant:
    """The line number ``line`` of the file ``path``, ``before``, becomes ``after``.

    Both are without the line feed.
    """

    path: str
    line: int
    before: str
    after: str

    @property
    def place(self) -> str:
        """Return file and line as compilers print them."""
        return f"{self.path}:{self.line}"

    @property
    def change(self) -> str:
        """Return the two lines, without white space at the ends, for people."""
        return sanitize.line(f"{self.before.strip()}{ARROW}{self.after.strip()}")

    def __str__(self) -> str:
        return f"{self.place}: {self.before}{ARROW}{self.after}"


def parse(text: str) -> Mutant:
    """Return the mutant of the text form ``text``; HarnessError (exit 2) if it is none."""
    found = _FORM.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        raise HarnessError(
            f"--mutant {sanitize.line(text[:80])}",
            "is no mutant",
            hint=f"give it as FILE:LINE: TEXT OF THE LINE{ARROW}OTHER TEXT, as the report does",
        )
    before, _, after = found["both"].partition(ARROW)
    return Mutant(found["path"], int(found["line"]), before, after)


def plant(applied: Applied, mutant: Mutant) -> Applied:
    """Return ``applied`` with the ``mutant`` in it.

    HarnessError (exit 2) if the series does not change the file, or the line is another one.
    """
    changes = {change.path: change for change in applied.changes}
    change = changes.get(mutant.path)
    if change is None or change.content is None:
        raise HarnessError(
            what(mutant),
            f"series {applied.series.name} neither changes nor adds this file",
            hint="name a file of the series",
        )
    lines = change.content.split(b"\n")
    index, before = mutant.line - 1, mutant.before.encode(errors="surrogateescape")
    if not 0 <= index < len(lines) or lines[index] != before:
        raise HarnessError(
            what(mutant),
            "the line has another text with this version of kernel and series",
            hint="list the mutants again: kpatch matrix list --mutants N",
        )
    lines[index] = mutant.after.encode(errors="surrogateescape")
    changes[mutant.path] = replace(change, content=b"\n".join(lines))
    every = tuple(changes.values())
    return replace(
        applied,
        changes=every,
        delta_id=apply.delta_id(every),
        steps=(*applied.steps[:-1], every),
    )


def what(mutant: Mutant) -> str:
    """Return the name of ``mutant`` in an error about it."""
    return f"mutant {mutant.place}"


def equivalent(mutant: Mutant) -> HarnessError:
    """Return the error (exit 8) that the object code is the same with ``mutant``."""
    return HarnessError(
        what(mutant),
        "compiles to the same code as the series",
        hint="no test can tell them apart",
        code=ExitCode.NOT_JUDGED,
    )


@contextmanager
def blamed(mutant: Mutant) -> Iterator[None]:
    """Turn an error of a build (exit 4) in the block into one about ``mutant``."""
    try:
        yield
    except HarnessError as error:
        if error.code is not ExitCode.BUILD:
            raise
        raise HarnessError(
            what(mutant),
            f"does not compile: {error.cause}",
            hint=error.hint or "see the log",
            code=ExitCode.BUILD,
            details=error.details,
        ) from error
