# SPDX-License-Identifier: GPL-2.0-only
"""Export a range of commits of a git repository as the mails of a series.

git uses the repository's objects, but none of its settings (`kpatch.source.git.shadow`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib.process import capture
from kpatch.source import git

# A name of a commit has no "..", and no part of it begins with a dot (git-check-ref-format(1));
# a relative path like ../series.mbox has a slash beside the dots.
RANGE = re.compile(r"(?P<base>(?:[^\s/.]|[/.](?!\.))+)(?P<dots>\.\.\.?)(?P<tip>(?![/.])\S*)")

# Options of git format-patch that make its output independent of the repository's settings.
DIFF = ("--no-ext-diff", "--no-textconv")
FORMAT = (
    *DIFF,
    "--full-index",
    "--no-signature",
    "--no-renames",
    "--zero-commit",
)

_DIFF_BEGIN = re.compile(r"^diff --git ", re.MULTILINE)

SEARCHED = 500
"""Number of the newest commits that `of_patch` examines; no series has as many."""


@dataclass(frozen=True)
class Commits:
    """A range of commits: the id of the commit before the first one, and the mails as one mbox."""

    base: str
    mbox: bytes


def is_range(series: str) -> bool:
    """Return whether ``series`` is like BASE..[TIP] or BASE...[TIP], and is no existing path."""
    return RANGE.fullmatch(series) is not None and not Path(series).exists()


def export(repository: Path, series: str) -> Commits:
    """Return the commits of the range ``series`` (BASE..TIP; TIP is HEAD if left out) as mails.

    The range begins after the common ancestor of BASE and TIP, as in ``git log BASE..TIP``.
    HarnessError (exit 2) if the range is BASE...TIP, ``repository`` is not a git repository, BASE
    or TIP does not exist, they have no common ancestor, the range is empty or has a merge, or the
    clone lacks objects.
    """
    what = f"SERIES={series}"
    named = RANGE.fullmatch(series)
    assert named is not None
    if named["dots"] == "...":
        raise HarnessError(
            what,
            "is a symmetric difference, which has commits of both sides",
            hint=f"give {named['base']}..{named['tip']}",
        )
    tip = git.find(repository, named["tip"] or "HEAD", what=what)
    if tip is None:
        raise HarnessError(
            what,
            f"is a range of commits, and KERNEL={repository} is no git repository",
            hint="give the repository that has them: KERNEL=PATH",
        )
    start = git.find(repository, named["base"], what=what)
    assert start is not None
    with git.shadow(tip) as environment:
        folder = Path(environment["GIT_DIR"])
        shallow = tip.objects.parent / "shallow"
        if shallow.is_file():
            (folder / "shallow").write_bytes(shallow.read_bytes())

        def run(*words: str) -> tuple[int, str]:
            return capture(("git", *words), env=environment)

        status, output = run("merge-base", start.commit, tip.commit)
        if status or not (found := git.OBJECT_ID.search(output)):
            raise _no_ancestor(what, repository, named, shallow=shallow.is_file())
        base = found[0]
        _refuse_merges(what, run("rev-list", "--merges", "--format=%s", f"{base}..{tip.commit}"))
        mails = folder / "mails"
        argv = ("format-patch", *FORMAT, "-o", str(mails), f"{base}..{tip.commit}")
        status, output = run(*argv)
        if status:
            raise git.lacking(repository, tip.settings, "some of the changed files", what=what)
        files = sorted(mails.iterdir()) if mails.is_dir() else []
        content = b"".join(file.read_bytes() for file in files)
    if not content:
        raise HarnessError(
            what, "has no commit", hint="give the base first: BASE..TIP, as for git log"
        )
    return Commits(base, content)


def _no_ancestor(
    what: str, repository: Path, named: re.Match[str], *, shallow: bool
) -> HarnessError:
    hint = f"rebase {named['tip'] or 'HEAD'} onto {named['base']}, or give another base"
    if shallow:
        command = f"git -C {shlex.quote(str(repository))} fetch --unshallow"
        hint = f"the clone is shallow; get all of the history: {command}"
    return HarnessError(
        what, f"{named['base']} and {named['tip'] or 'HEAD'} have no common ancestor", hint=hint
    )


def _refuse_merges(what: str, listed: tuple[int, str]) -> None:
    """Raise HarnessError (exit 2) if git rev-list --merges has listed a merge commit.

    ``listed`` is its exit status and output: for each commit a line "commit ID" and its title.
    ``what`` names the range in the error.
    """
    lines: Sequence[str] = listed[1].splitlines()
    for head, title in zip(lines[::2], lines[1::2], strict=False):
        commit = head.removeprefix("commit ")
        raise HarnessError(
            what,
            f"has the merge commit {commit[:12]} ({title})",
            hint="rebase: a series is a row of patches without merges",
        )


def of_patch(repository: Path, title: str, changed: Sequence[str]) -> str | None:
    """Return the id of the newest commit of HEAD's history that equals a patch, or None.

    The commit has to have the patch's ``title``, in which white space is single spaces. The
    `changed_lines` of its diff, made with or without renames, have to be exactly ``changed``. Only
    the SEARCHED newest commits on the line of first parents are examined. HarnessError (exit 2) if
    ``repository`` is not a git repository.
    """
    what = f"KERNEL={repository}"
    head = git.find(repository, "HEAD", what=what)
    if head is None:
        raise HarnessError(what, "is no git repository", hint="call it from a kernel's repository")
    with git.shadow(head) as environment:
        log = ("git", "log", "--first-parent", f"-n{SEARCHED}", "--format=%H %s", head.commit)
        _, output = capture(log, env=environment)
        for line in output.splitlines():
            commit, _, subject = line.partition(" ")
            if " ".join(subject.split()) != title:
                continue
            for renames in ("--no-renames", "--find-renames"):
                show = ("git", "show", "--format=", *DIFF, renames, commit)
                if list(changed_lines(capture(show, env=environment)[1])) == list(changed):
                    return commit
    return None


def changed_lines(diff: str) -> Iterator[str]:
    """Yield the lines of ``diff`` that begin with "+" or "-", without trailing white space.

    Lines before the first "diff --git" are left out, and lines "-- ", as before a mail's signature.
    """
    begin = _DIFF_BEGIN.search(diff)
    for line in diff[begin.start() if begin else 0 :].splitlines():
        if line.startswith(("+", "-")) and line.rstrip() != "--":
            yield line.rstrip()
