# SPDX-License-Identifier: GPL-2.0-only
"""Write the cover letter of an exported series: its purpose, and the results of runs as evidence.

The purpose is taken from ``cover.txt`` in the folder of a carried series: first lines that begin
with "#" (left out of the letter), then a title, an empty line, text. A series without that file
gets placeholders. The template of the letter is templates/cover-letter.j2.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kpatch import __version__
from kpatch.errors import HarnessError
from kpatch.lib import sanitize, template
from kpatch.model import Applied, Origin, Series
from kpatch.report import result, tables
from kpatch.report.result import RunResult
from kpatch.series import catalog
from kpatch.series.export import Cover, describe
from kpatch.tables.outcomes import Outcome
from kpatch.verdict import requirements

if TYPE_CHECKING:
    from rich.text import Text

TEMPLATE = Path(__file__).parent / "templates" / "cover-letter.j2"
COVER = "cover.txt"

# The placeholders of git format-patch for title and text; git send-email refuses to send the first.
NO_TITLE, NO_TEXT = "*** SUBJECT HERE ***", "*** BLURB HERE ***"

MAIL_WIDTH = 75


@dataclass(frozen=True)
class _Run:
    """One run as texts for the template of the cover letter.

    ``version`` and ``origin`` describe the kernel tree; ``patches`` is the number of patches.
    ``counts`` are the tests on the series by outcome, ``control`` those on the negative control.
    ``how`` names flavor, accelerator, QEMU and compiler. ``command`` repeats the run.
    """

    version: str
    verdict: str
    counts: str
    patches: str
    origin: str
    control: str
    how: str
    command: str


def evidence(paths: Sequence[Path], applied: Applied) -> tuple[RunResult, ...]:
    """Read the results of runs from the files ``paths`` (each a result.json).

    HarnessError (exit 2) if a file is no result, has no test of the series of ``applied``, or is of
    a run that tested other changes under the name of this series, on the same tree.
    """
    return tuple(_evidence(path, applied) for path in paths)


def _evidence(path: Path, applied: Applied) -> RunResult:
    what, name = f"--evidence {path}", applied.series.name
    try:
        run = result.load(path)
    except HarnessError as error:
        raise HarnessError(
            what, error.cause, hint="give the result.json of a run", details=error.details
        ) from None
    series = next((item for item in run.series if item.name == name), None)
    if run.kernel is None or series is None or not any(test.series == name for test in run.tests):
        raise HarnessError(
            what, f"has no test of series {name}", hint="give the result.json of a run of it"
        )
    same_tree = run.kernel.tree_id == applied.tree.tree_id
    if same_tree and series.delta_id not in (None, applied.delta_id):
        raise HarnessError(
            what,
            f"is of series {name} as it was before it was changed",
            hint=f"test it again: make kernel-test SERIES='base {name}'",
        )
    return run


def write(
    applied: Applied,
    evidence: Sequence[RunResult] = (),
    *,
    version: int = 1,
    comparison: str = "",
) -> Cover:
    """Return the cover letter of the series ``applied``.

    The letter quotes the results of runs in ``evidence``. ``version`` is the number of the posting
    (2 for v2). ``comparison`` is the part about other mechanisms, "" if there is none.
    """
    title, blurb = NO_TITLE, NO_TEXT
    if applied.series.origin is Origin.CARRIED:
        title, blurb = purpose(applied.series.name)
    body = template.render(
        TEMPLATE,
        blurb=blurb,
        comparison=comparison,
        runs=[_run(run, applied) for run in evidence],
        table=_table(evidence, applied.series.name),
        limits=_limits(evidence, applied.series),
        project=__version__,
        version=version,
    )
    return Cover(title, re.sub(r"\n{3,}", "\n\n", body).strip())


def purpose(name: str) -> tuple[str, str]:
    """Return the title and the text of cover.txt of the carried series ``name``.

    Returns NO_TITLE and NO_TEXT if there is no such file.
    """
    path = catalog.FOLDER / name / COVER
    if not path.is_file():
        return NO_TITLE, NO_TEXT
    lines = path.read_text(encoding="utf-8").splitlines()
    while lines and lines[0].startswith("#"):
        del lines[0]
    title, _, body = "\n".join(lines).strip().partition("\n")
    return title, body.strip()


def _table(evidence: Sequence[RunResult], name: str) -> str:
    """Return a table of the outcomes in ``evidence``, as text for a mail.

    It has a column for each run, and a row for each requirement with a test on the series ``name``
    that is not expected to fail.
    """
    tested = [test for run in evidence for test in run.tests if test.series == name]
    kept = {test.requirement for test in tested if test.expected is not Outcome.FAIL}
    sentences = {key: entry for run in evidence for key, entry in run.requirements.items()}
    order = [key for key in requirements.load() if key in kept]
    order += sorted(kept - set(order))
    rows: list[list[str | Text]] = [
        [key, *(tables.cell(run, key, name) for run in evidence)] for key in order
    ]
    headers = ["requirement", *(_version(run) for run in evidence)]
    file = io.StringIO()
    texts = [sentences.get(key, "") for key in order]
    tables.print_grid(headers, rows, file, texts, width=MAIL_WIDTH)
    return file.getvalue().rstrip()


def _limits(evidence: Sequence[RunResult], of: Series) -> list[str]:
    """Return the documented limits of the mechanism of the series ``of``.

    Only requirements that were tested in ``evidence`` are included. Each limit is a paragraph of
    mail: the requirement's id, and the reason why its tests fail.
    """
    tested = {test.requirement for run in evidence for test in run.tests if test.series == of.name}
    wrapper = textwrap.TextWrapper(MAIL_WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return [
        wrapper.fill(f"{key}: {entry.limits[of.mechanism]}")
        for key, entry in requirements.load().items()
        if key in tested and of.mechanism in entry.limits
    ]


def _run(run: RunResult, applied: Applied) -> _Run:
    assert run.kernel is not None
    name = applied.series.name
    series = next(item for item in run.series if item.name == name)
    compiler = run.tools.get("compiler", "").partition(";")[0]
    how = [run.flavor, run.accel.used if run.accel else "", f"QEMU {run.tools.get('qemu', '')}"]
    return _Run(
        version=_version(run),
        verdict=run.verdict,
        counts=_counts(run, name),
        patches=f"{len(series.patches)} patch{'es' if len(series.patches) != 1 else ''}",
        origin=describe(run.kernel.version, run.kernel.provider, run.kernel.origin),
        control=_counts(run, catalog.BASE) or "not run",
        how=", ".join(word for word in (*how, compiler) if word.strip()),
        command=_command(run, applied.series),
    )


def _version(run: RunResult) -> str:
    return run.kernel.version if run.kernel else "no kernel"


_WORDS = {
    Outcome.PASS: "passed",
    Outcome.FAIL: "failed as they must",
    Outcome.XFAIL: "at a documented limit",
    Outcome.SKIP: "skipped as documented",
}


def _counts(run: RunResult, name: str) -> str:
    """Return the number of tests on the series ``name`` by outcome: "12 passed, 1 NOT OK".

    "NOT OK" counts the tests with an unexpected outcome. Returns "" without tests.
    """
    tests = [test for test in run.tests if test.series == name]
    counts = Counter(_WORDS[test.expected] if test.ok else "NOT OK" for test in tests)
    words = (*_WORDS.values(), "NOT OK")
    return ", ".join(f"{counts[word]} {word}" for word in words if counts[word])


def _command(run: RunResult, series: Series) -> str:
    """Return the command that repeats ``run`` on another machine: a line of ``make kernel-test``.

    It names ``series``, and the negative control if that was run. The user has to provide a kernel
    tree where it says LINUX, and the mail of a series that is not carried, as NAME.mbox.
    """
    assert run.kernel is not None
    kernel = {
        "debian": ".".join(run.kernel.version.split(".")[:2]),
        "git": f"LINUX@{run.kernel.origin.get('commit', '')[:12]}",
    }.get(run.kernel.provider, "LINUX")
    known = {
        catalog.BASE: catalog.BASE,
        series.name: f"{series.name}.mbox" if series.origin is Origin.MBOX else series.name,
    }
    listed = [item for item in run.series if item.name in known]
    names = " ".join(known[item.name] for item in listed)
    mechanism = next(
        (f" MECHANISM={item.mechanism}" for item in listed if known[item.name] != item.name), ""
    )
    tests = f" TESTS='{run.selection}'" if run.selection else ""
    flavor = f" FLAVOR={run.flavor}" if run.flavor != "plain" else ""
    return sanitize.line(
        f'make kernel-test KERNEL={kernel} SERIES="{names}"{mechanism}{flavor}{tests}'
    )
