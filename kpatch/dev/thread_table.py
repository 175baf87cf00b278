# SPDX-License-Identifier: GPL-2.0-only
"""Compare reviews of threads from mailing lists with what the lists said of them.

    python -m kpatch.dev.thread_table FOLDER

tests/data/threads.toml (INDEX) has the threads: tables [[thread]] with the keys "message_id",
"subject", "base" (the kernel for the review, "" if the series applies to none) and "truth": tables
with the members of `Truth`. FOLDER/SLUG/review.json is the output of ``kpatch check`` for a thread;
`slug` makes SLUG of its Message-ID. Prints three Markdown tables: the threads, the recall of each
kind of remark, and the precision of each check. The mails are never kept in this repository.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from kpatch.errors import HarnessError
from kpatch.lib import sanitize
from kpatch.tables.outcomes import JUDGED, CheckOutcome
from kpatch.tables.paths import PROJECT

INDEX = PROJECT / "tests" / "data" / "threads.toml"
"""The threads, and what the lists said of them."""

CLEAN = "clean"
"""The kind of a `Truth` that says: the maintainers accepted the thread without remarks.

A finding with the outcome FAIL in such a thread is a false alarm.
"""

_BUILDS = (
    "bisect",
    "w1",
    "sparse",
    "clang",
    "coccinelle",
    "acpi-off",
    "vfio-modules",
    "i386",
    "randconfig-1",
    "randconfig-2",
)

KINDS: dict[str, tuple[str, ...]] = {
    "build": _BUILDS,
    "warning": _BUILDS,
    "bisect": ("bisect",),
    "kernel-doc": ("kernel-doc", "w1", "comments"),
    "checkpatch": ("checkpatch", "comments"),
    "style": ("mail", "checkpatch", "spelling", "spdx", "maintainers", "kconfig"),
    "kconfig": ("kconfig",),
    "uapi": ("uapi",),
    "runtime": (
        "smoke",
        "kernel",
        "mechanism",
        "selftests",
        "kunit",
        "coverage",
        "kernel-debug",
        "mechanism-debug",
    ),
}
"""The names of the checks that can find the fault in a remark of the list, by the remark's kind."""

_LINK = "https://lore.kernel.org/r/"
_HINT = "write it as the docstring of kpatch.dev.thread_table says"
_WIDTH = 120


class Verdict(str, Enum):
    """How a review agrees with one truth about its thread.

    RIGHT: it has a finding that agrees with the remark, or no failure in a CLEAN thread. WRONG: it
    has a failure in a CLEAN thread. NOT_SEEN: checks that can find the fault judged the thread, and
    no finding agrees. NOT_JUDGED: no such check judged the thread, or there is no review.
    """

    RIGHT = "right"
    WRONG = "wrong"
    NOT_SEEN = "not seen"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Truth:
    """One remark about a thread on the mailing list, or (CLEAN) that there was none.

    ``kind`` is CLEAN or one of KINDS. ``what`` is the remark in a few words of our own, ``by`` its
    author ("0-day", "reviewer"), ``message_id`` its mail, "" if unknown. ``patch`` is the number of
    the patch that it is about, 0 for all. A finding agrees with it only if ``match``, a regular
    expression, is found in the finding's text, file or details.
    """

    kind: str
    what: str
    by: str
    message_id: str
    patch: int = 0
    match: str = ""


@dataclass(frozen=True)
class Thread:
    """A thread of the index, with the truths about it.

    ``base`` is the kernel that it is reviewed on, "" if it applies to none.
    """

    message_id: str
    subject: str
    base: str
    truth: tuple[Truth, ...]

    @property
    def slug(self) -> str:
        """Return the name of the folder with its review: the Message-ID, "_" for odd characters."""
        return re.sub(r"[^\w.-]", "_", self.message_id, flags=re.ASCII)

    @property
    def clean(self) -> bool:
        """Return whether the maintainers accepted the thread without remarks: a truth is CLEAN."""
        return any(truth.kind == CLEAN for truth in self.truth)


@dataclass(frozen=True)
class Alarm:
    """A finding of a review.

    ``check`` is the name of its check, ``patch`` the number of its patch, 0 for the whole series.
    ``searched`` has its text, file and details, in which `Truth.match` is searched.
    """

    check: str
    outcome: CheckOutcome
    patch: int
    text: str
    searched: str

    def confirmed_by(self, truth: Truth) -> bool:
        """Return whether this finding agrees with ``truth``.

        Its check can find faults of that kind, its patch is the same or one of the two is 0, and
        ``truth.match`` is found in ``searched``.
        """
        return (
            self.check in KINDS.get(truth.kind, ())
            and (0 in (self.patch, truth.patch) or self.patch == truth.patch)
            and re.search(truth.match, self.searched) is not None
        )


@dataclass(frozen=True)
class Reviewed:
    """The part of a review that is compared.

    ``kernel`` is the version of the kernel tree, "" if unknown. ``judged`` are the names of the
    checks that have judged the series, ``alarms`` their findings.
    """

    kernel: str = ""
    judged: frozenset[str] = frozenset()
    alarms: tuple[Alarm, ...] = ()


@dataclass(frozen=True)
class Line:
    """A row of the table of threads: a truth, and how the review agrees with it.

    ``verdict`` is that agreement. ``kernel`` is the version that the review ran on, or the thread's
    base if there is no review. ``ours`` is the finding that decides ``verdict``, or another reason
    for it, in words.
    """

    thread: Thread
    truth: Truth
    kernel: str
    verdict: Verdict
    ours: str


def read_index(path: Path) -> list[Thread]:
    """Return the threads in the file ``path``, of the form of INDEX.

    HarnessError (exit 2) if the file cannot be read, or a thread in it (named in the error) is
    wrong.
    """
    try:
        tables = tomllib.loads(_read(path)).get("thread", [])
    except tomllib.TOMLDecodeError as error:
        raise HarnessError(str(path), f"is no TOML: {error}", hint=_HINT) from None
    found = []
    for number, table in enumerate(tables, 1):
        try:
            found.append(_thread(table))
        except (ValueError, LookupError, TypeError, re.error) as error:
            cause = f"is wrong: {sanitize.line(str(error))}"
            raise HarnessError(f"{path}, thread {number}", cause, hint=_HINT) from None
    return found


def _thread(table: Mapping[str, Any]) -> Thread:
    truths = tuple(Truth(**one) for one in table["truth"])
    for truth in truths:
        if truth.kind not in (CLEAN, *KINDS):
            raise ValueError(f"{truth.kind!r} is no kind: {', '.join((CLEAN, *KINDS))}")
        re.compile(truth.match)
    thread = Thread(**{**table, "truth": truths})
    if not thread.slug.strip("."):
        raise ValueError(f"{thread.message_id!r} is no Message-ID")
    return thread


def read_review(path: Path) -> Reviewed | None:
    """Return the review in the file ``path``, a review.json; None if there is no such file.

    It is missing if the thread was not reviewed, or its series was refused. HarnessError (exit 2)
    if the file cannot be read or is no review.
    """
    if not path.exists():
        return None
    try:
        data = json.loads(_read(path))
        checks = [(check, CheckOutcome(check["outcome"])) for check in data["checks"]]
        return Reviewed(
            (data.get("kernel") or {}).get("version", ""),
            frozenset(check["name"] for check, outcome in checks if outcome in JUDGED),
            tuple(_alarm(check["name"], one) for check, _ in checks for one in check["findings"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        cause = f"is not a review: {sanitize.line(str(error))}"
        raise HarnessError(str(path), cause, hint="run kpatch check again") from None


def _alarm(check: str, finding: Mapping[str, Any]) -> Alarm:
    text = finding["text"]
    searched = "\n".join((text, finding["file"], *finding["details"]))
    return Alarm(check, CheckOutcome(finding["outcome"]), finding["patch"], text, searched)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise HarnessError(str(path), f"cannot be read: {reason}", hint=_HINT) from None


def compare(thread: Thread, truth: Truth, review: Reviewed | None) -> Line:
    """Compare one truth about ``thread`` with the thread's review, None if there is no review."""
    if review is None:
        return Line(thread, truth, thread.base, Verdict.NOT_JUDGED, "no review")
    verdict, ours = _judged(truth, review)
    return Line(thread, truth, review.kernel or thread.base, verdict, ours)


def _judged(truth: Truth, review: Reviewed) -> tuple[Verdict, str]:
    if truth.kind == CLEAN:
        failed = [one for one in review.alarms if one.outcome is CheckOutcome.FAIL]
        if failed:
            return Verdict.WRONG, _told(failed[0])
        if not review.judged:
            return Verdict.NOT_JUDGED, "no check judged it"
        warnings = len(review.alarms)
        return Verdict.RIGHT, f"{warnings} warnings" if warnings else "no finding"
    found = [one for one in review.alarms if one.confirmed_by(truth)]
    if found:
        return Verdict.RIGHT, _told(max(found, key=lambda one: JUDGED.index(one.outcome)))
    able = review.judged.intersection(KINDS[truth.kind])
    if not able:
        return Verdict.NOT_JUDGED, "no check of this kind judged it"
    return Verdict.NOT_SEEN, f"nothing of it by {', '.join(sorted(able))}"


def _told(alarm: Alarm) -> str:
    return f"{alarm.check} ({alarm.outcome.value}), patch {alarm.patch}: {alarm.text}"


def render(threads: Iterable[Thread], reviews: Mapping[str, Reviewed | None]) -> str:
    """Return three tables as Markdown: the threads, recall by kind, and precision by check.

    ``reviews`` has the review of each thread by slug.
    """
    threads = list(threads)
    lines = [
        compare(thread, truth, reviews.get(thread.slug))
        for thread in threads
        for truth in thread.truth
    ]
    return "\n\n".join((_threads(lines), _recall(lines), _precision(threads, reviews))) + "\n"


def _threads(lines: list[Line]) -> str:
    head = ("thread", "base", "our verdict", "the list", "")
    return _table(
        head,
        (
            (
                f"{_link(line.thread.message_id)}<br>{_cell(line.thread.subject)}",
                _cell(line.kernel),
                _cell(line.ours),
                _said(line.truth),
                line.verdict.value,
            )
            for line in lines
        ),
    )


def _said(truth: Truth) -> str:
    patch = f", patch {truth.patch}" if truth.patch else ""
    source = f" {_link(truth.message_id)}" if truth.message_id else ""
    return f"{_cell(truth.by)}{patch}: {_cell(truth.kind)}: {_cell(truth.what)}{source}"


def _recall(lines: list[Line]) -> str:
    """Return the table of the kinds: number of truths, of each verdict, and the recall.

    The recall is the share of RIGHT in the verdicts other than NOT_JUDGED. Kinds without truths are
    left out; the last row counts all truths.
    """
    head = ("kind", "truths", *(verdict.value for verdict in Verdict), "recall")
    rows = []
    for kind in (*KINDS, CLEAN, "all"):
        verdicts = [line.verdict for line in lines if kind in (line.truth.kind, "all")]
        counts = [verdicts.count(verdict) for verdict in Verdict]
        if verdicts:
            right, judged = counts[0], len(verdicts) - verdicts.count(Verdict.NOT_JUDGED)
            rows.append((kind, str(len(verdicts)), *map(str, counts), _share(right, judged)))
    return _table(head, rows)


def _precision(threads: list[Thread], reviews: Mapping[str, Reviewed | None]) -> str:
    """Return the table of the checks: the number of threads in which each had a finding.

    There is a row for each check and outcome. A thread counts as confirmed if one of the findings
    agrees with the list; else as false if it is clean, and as open if it is not. The precision is
    the share of confirmed in confirmed and false.
    """
    head = ("check", "outcome", "threads", "confirmed", "open", "false", "precision")
    counts: dict[tuple[str, str], list[int]] = {}
    for thread in threads:
        review = reviews.get(thread.slug)
        for key, alarms in _by_check(review).items():
            count = counts.setdefault(key, [0, 0, 0])
            confirmed = any(one.confirmed_by(truth) for one in alarms for truth in thread.truth)
            count[0 if confirmed else 2 if thread.clean else 1] += 1
    rows = (
        (*key, str(sum(count)), *map(str, count), _share(count[0], count[0] + count[2]))
        for key, count in sorted(counts.items())
    )
    return _table(head, rows)


def _by_check(review: Reviewed | None) -> dict[tuple[str, str], list[Alarm]]:
    """Return the findings of a review by check and outcome."""
    found: dict[tuple[str, str], list[Alarm]] = {}
    for alarm in review.alarms if review else ():
        found.setdefault((alarm.check, alarm.outcome.value), []).append(alarm)
    return found


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(_row(cells) for cells in (head, ("---",) * len(head), *rows))


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _link(message_id: str) -> str:
    shown = _cell(message_id)
    return f"[{shown}]({_LINK}{''.join(_quoted(message_id))})"


def _quoted(message_id: str) -> Iterator[str]:
    """Yield the characters of a Message-ID for a URL in a Markdown link.

    Characters that end the link (")", space) or are not allowed in a URL are percent-encoded.
    """
    for char in message_id:
        safe = char.isascii() and (char.isalnum() or char in "@._-+=~$")
        yield char if safe else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))


def _cell(text: str) -> str:
    """Return ``text``, of a mail or a compiler, for a cell of a table in Markdown.

    It is cut to its first line, and that to _WIDTH characters; then characters of markup are
    escaped.
    """
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", sanitize.line(text, limit=_WIDTH))


def main(arguments: list[str], *, index: Path = INDEX) -> str:
    """Return the three tables for the folder that is the only one of ``arguments``.

    HarnessError (exit 2) if there is not one argument, it is no folder, or a file is wrong.
    """
    if len(arguments) != 1:
        raise HarnessError("arguments", "not one folder", hint="name the folder of the reviews")
    folder = Path(arguments[0])
    if not folder.is_dir():
        raise HarnessError(str(folder), "is no folder", hint="name the folder of the reviews")
    threads = read_index(index)
    reviews = {one.slug: read_review(folder / one.slug / "review.json") for one in threads}
    return render(threads, reviews)


if __name__ == "__main__":
    try:
        sys.stdout.write(main(sys.argv[1:]))
    except HarnessError as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(failure.code)
