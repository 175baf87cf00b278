# SPDX-License-Identifier: GPL-2.0-only
"""Print tables of results for a reader: of one run, or of several runs side by side.

On a terminal the tables have colours, and the sentences of the requirements are cut at its width;
in a file they are plain text. An outcome in capitals is not the expected one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING

from kpatch.lib import sanitize
from kpatch.report.result import RunResult
from kpatch.tables.outcomes import EXIT_BY_OUTCOME, EXIT_MEANING, Outcome
from kpatch.verdict.judge import TestResult
from ktests.contract import UNJUDGED

if TYPE_CHECKING:
    from rich.text import Text

PLAIN_WIDTH = 10_000
MESSAGE_WIDTH = 160
WARNINGS = 20  # largest number of warnings to print for one series

_WORST_FIRST = (*(outcome for outcome, _ in EXIT_BY_OUTCOME), Outcome.XFAIL, Outcome.PASS)

# Spaces between columns; and the least width for sentences. With less, all sentences are left out.
GAP = 2
LEAST_SENTENCE = 24

# Outcomes that look harmless: if another one was expected, the cell also says "(unexpected)".
_HARMLESS = frozenset({Outcome.PASS, Outcome.XFAIL, Outcome.SKIP})

_COLOURS = {Outcome.PASS: "green", Outcome.XFAIL: "yellow", Outcome.FAIL: "dim"}


def show(result: RunResult, file: IO[str]) -> None:
    """Print the result of one run to ``file``.

    The table has a row for each requirement (see `_requirements`) and a column for each series.
    Below the table are lines for the detected mechanisms, and for the limits that the author of a
    mechanism of their own declares; for unexpected outcomes, incidents and
    the run's error; for build warnings, at most WARNINGS for each series; and for kernel reports
    that do not count, with their number. The last line is the `summary`.
    """
    series = [item.name for item in result.series]
    rows: list[list[str | Text]] = [
        [name, *(cell(result, name, column) for column in series)]
        for name in _requirements([result])
    ]
    if rows and series:
        sentences = [result.requirements.get(str(row[0]), "") for row in rows]
        print_grid(["requirement", *series], rows, file, sentences)
    _print_lines([*_paragraph(_notes(result)), "", summary(result)], file)


def show_all(results: Sequence[RunResult], file: IO[str]) -> None:
    """Print the results of several runs to ``file`` in one table.

    The table has a row for each pair of series and requirement, and a column for each run, headed
    by the version of its kernel. Below are the same lines as in `show`, for each run.
    """
    names = list(dict.fromkeys(item.name for result in results for item in result.series))
    rows: list[list[str | Text]] = [
        [requirement, name, *(cell(result, requirement, name) for result in results)]
        for name in names
        for requirement in _requirements(results)
    ]
    if rows:
        headers = ["requirement", "series", *(_kernel(result) for result in results)]
        print_grid(headers, rows, file)
    notes = [f"{_kernel(result)}: {line}" for result in results for line in _notes(result)]
    summaries = [summary(result) for result in results]
    _print_lines([*_paragraph(notes), "", *summaries], file)


def summary(result: RunResult) -> str:
    """Return one line that sums up a run.

    It has verdict, kernel, flavor, accelerator, counts of tests, duration, and exit code. A limit
    that the author of a mechanism of their own declares is a reservation to the verdict.
    """
    declared = _declared(result)
    counts = Counter(_counted(test, declared) for test in result.tests)
    parts = [f"{counts[word]} {word}" for word in _COUNTED if counts[word]]
    accel = result.accel.used if result.accel else "not booted"
    limits = len({key for key in declared if any(_key(test) == key for test in result.tests)})
    but = f", but for {limits} declared limit{'s' * (limits > 1)}" if limits else ""
    return (
        f"{result.verdict}{but}: {_kernel(result)} ({result.flavor}, {accel}), "
        f"{', '.join(parts) or 'no tests'}, {sanitize.duration(result.seconds)}; "
        f"exit {int(result.exit_code)}: {EXIT_MEANING[result.exit_code]}"
    )


def render(result: RunResult) -> str:
    """Return what `show` prints, as plain text."""
    import io

    file = io.StringIO()
    show(result, file)
    return file.getvalue()


_DECLARED = "at a limit that the mechanism's author declares"
_COUNTED = (
    *("passed", "failed as expected", "at a known limit", _DECLARED, "skipped as documented"),
    "NOT OK",
)
_WORDS = {
    Outcome.PASS: "passed",
    Outcome.FAIL: "failed as expected",
    Outcome.XFAIL: "at a known limit",
    Outcome.SKIP: "skipped as documented",
}


def _counted(test: TestResult, declared: Mapping[tuple[str, str], str]) -> str:
    """Return the word of _COUNTED under which the summary counts the test.

    ``declared`` are the limits that authors of mechanisms declare (`_declared`).
    """
    if not test.ok:
        return "NOT OK"
    if test.expected is Outcome.XFAIL and _key(test) in declared:
        return _DECLARED
    return _WORDS[test.expected]


def _key(test: TestResult) -> tuple[str, str]:
    return test.series, test.requirement


def _declared(result: RunResult) -> dict[tuple[str, str], str]:
    """Return the limits that authors of mechanisms of their own declare.

    The result has the reason by the name of the series and the id of the requirement.
    """
    return {
        (series.name, requirement): reason
        for series in result.series
        if series.folder is not None
        for requirement, reason in series.folder.limits.items()
    }


def _requirements(results: Iterable[RunResult]) -> list[str]:
    """Return the ids of the requirements that get a row.

    Those are the ids with a test: first those in the requirements' table, in its order, then those
    that only tests name.
    """
    results = list(results)
    tested = dict.fromkeys(test.requirement for result in results for test in result.tests)
    listed = dict.fromkeys(name for result in results for name in result.requirements)
    return [name for name in listed if name in tested] + [
        name for name in tested if name not in listed
    ]


def cell(result: RunResult, requirement: str, series: str) -> Text:
    """Return the table's cell for the id ``requirement`` and the name ``series``.

    If tests have unexpected outcomes, the cell has the worst of these in capitals, with their
    share: "FAIL 1/3". Otherwise it has the worst outcome and the number of tests: "pass 3x". Share
    and number are left out for a single test. The cell is "-" without a test.
    """
    return _cell(
        [test for test in result.tests if (test.requirement, test.series) == (requirement, series)]
    )


def _cell(tests: Sequence[TestResult]) -> Text:
    from rich.text import Text

    if not tests:
        return Text("-", style="dim")
    bad = [test for test in tests if not test.ok]
    if bad:
        worst = min((test.outcome for test in bad), key=_WORST_FIRST.index)
        share = f" {len(bad)}/{len(tests)}" if len(tests) > 1 else ""
        note = " (unexpected)" if worst in _HARMLESS else ""
        return Text(f"{worst.value.upper()}{share}{note}", style="bold red")
    worst = min((test.outcome for test in tests), key=_WORST_FIRST.index)
    note = " (expected)" if tests[0].expected is Outcome.FAIL else ""
    count = f" {len(tests)}x" if len(tests) > 1 else ""
    return Text(f"{worst.value}{count}{note}", style=_COLOURS.get(worst, ""))


def _notes(result: RunResult) -> list[str]:
    """Return the lines below the table, except for the summary."""
    return [
        *_detected(result),
        *_own_mechanisms(result),
        *_troubles(result),
        *_warnings(result),
        *_known(result),
        *_not_judged(result),
    ]


def _not_judged(result: RunResult) -> list[str]:
    """Return a line for each other flavor that requirements take which are promised."""
    names: dict[str, list[str]] = {}
    for name, flavor in result.not_judged.items():
        names.setdefault(flavor, []).append(name)
    return [
        f"not judged without FLAVOR={flavor}: {', '.join(sorted(ids))}"
        for flavor, ids in names.items()
    ]


def _own_mechanisms(result: RunResult) -> list[str]:
    """Return a line for each mechanism of the user's own, and one for each limit of it."""
    lines = []
    for series in result.series:
        if series.folder is not None:
            lines.append(
                f"{series.name}: mechanism {series.mechanism}, of {series.folder.path}: "
                f"{series.folder.description}"
            )
            lines += [
                f"{series.name}: {name} is a limit that the mechanism's author declares: {reason}"
                for name, reason in series.folder.limits.items()
            ]
    return lines


def _detected(result: RunResult) -> list[str]:
    """Return a line for each series in whose kernel the guest has detected a known mechanism."""
    return [
        f"{series.name}: mechanism {series.mechanism}, detected: {series.detected}"
        for series in result.series
        if series.detected and series.mechanism not in UNJUDGED
    ]


def _warnings(result: RunResult) -> list[str]:
    """Return a line for each warning of the builds, at most WARNINGS for each series.

    A further line has the number of warnings of a series that are left out. Warnings that the build
    of the base has too come after the other warnings of their series.
    """
    lines = []
    for series in result.series:
        # Warnings that the base's build has too (``new`` is False) have the key True: they come
        # last.
        ordered = sorted(series.warnings, key=lambda warning: warning.new is False)
        lines += [
            f"{series.name}: {sanitize.line(str(warning), limit=MESSAGE_WIDTH)}"
            for warning in ordered[:WARNINGS]
        ]
        if len(ordered) > WARNINGS:
            lines.append(f"{series.name}: {len(ordered) - WARNINGS} warnings more, in result.json")
    return lines


def _known(result: RunResult) -> list[str]:
    """Return lines about the kernel reports that do not count against a series, with their number.

    There is a line for each known issue (`kpatch.tables.known_issues`), and one for each series and
    title of reports that the unpatched kernel makes too.
    """
    known = Counter((fault.kind, fault.known) for fault in result.faults if fault.known)
    of_base = Counter(
        (fault.series, fault.title) for fault in result.faults if fault.of_base and not fault.known
    )
    return [f"known, not counted: {kind}, {n}x: {why}" for (kind, why), n in known.items()] + [
        f"{series}: not counted, the unpatched kernel makes the same report: {title}, {n}x"
        for (series, title), n in of_base.items()
    ]


def _troubles(result: RunResult) -> list[str]:
    """Return a line for each unexpected test outcome, each incident, and the run's error."""
    lines = [
        f"{test.series}: {test.id}: {test.outcome.value}"
        f" ({test.requirement} expects {test.expected.value})"
        f"{_message(test.message)}"
        for test in result.tests
        if not test.ok
    ]
    lines += [
        f"{incident.series}{f' VM {incident.vm}' if incident.vm else ''}: "
        f"{incident.outcome.value}{_message(incident.message)}"
        for incident in result.incidents
    ]
    if result.error is not None:
        lines.append(f"{result.error.what}: {result.error.cause}; {result.error.hint}")
    return lines


def _paragraph(lines: Sequence[str]) -> list[str]:
    return ["", *lines] if lines else []


def _message(message: str) -> str:
    line = sanitize.line(message, limit=MESSAGE_WIDTH)
    return f": {line}" if line else ""


def _kernel(result: RunResult) -> str:
    return result.kernel.version if result.kernel else "no kernel"


def print_grid(
    headers: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    file: IO[str],
    sentences: Sequence[str] = (),
    *,
    width: int = PLAIN_WIDTH,
) -> None:
    """Print ``rows`` to ``file`` as aligned columns, with the line ``headers`` on top.

    ``sentences``, one for each row or none at all, are a last column, cut at the remaining width;
    it is left out if less than LEAST_SENTENCE remains. ``width`` is the width of the table in
    characters if ``file`` is no terminal.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    tty = file.isatty()
    console = (
        Console(file=file, highlight=False)
        if tty
        else Console(file=file, width=width, no_color=True, force_terminal=False)
    )
    cells = [[Text(sanitize.line(it)) if isinstance(it, str) else it for it in row] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    room = console.width
    for index, header in enumerate(headers):
        table.add_column(Text(sanitize.line(header)), no_wrap=True, overflow="ignore")
        widths = [row[index].cell_len for row in cells]
        room -= max([len(header), *widths]) + GAP
    # The width of the sentences is limited here: rich would shorten the other columns as well.
    with_sentences = any(sentences) and room >= LEAST_SENTENCE
    if with_sentences:
        table.add_column("", no_wrap=True, overflow="ellipsis", max_width=room, style="dim")
    for index, row in enumerate(cells):
        table.add_row(*row, *([Text(sanitize.line(sentences[index]))] if with_sentences else []))
    if tty:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    _print_lines((line.rstrip() for line in captured.get().splitlines()), file)


def _print_lines(lines: Iterable[str], file: IO[str]) -> None:
    for line in lines:
        file.write(sanitize.clean(line) + "\n")
