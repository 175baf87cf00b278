# SPDX-License-Identifier: GPL-2.0-only
"""Apply a series to a temporary git index, without changing the kernel tree.

``git am`` splits a mailbox (git mailsplit), decodes each mail (git mailinfo) and applies its
diff to the work tree and the index (git apply --index), with no fuzz. This package runs the same
steps on an index alone, which contains only the files that the series names.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.stage import Stage
from kpatch.model import Applied, Change, Origin, Patch, Series, Tree
from kpatch.series import mail_files, mailbox
from kpatch.series.mailbox import Posting
from kpatch.series.scratch_index import Sandbox, sandbox
from kpatch.tables.outcomes import ExitCode

_REGULAR = ("100644", "100755", None)
_DETAIL_LINES = 60

_FAILED = re.compile(r"error: patch failed: (?P<file>.+):(?P<line>\d+)$", re.MULTILINE)
_ABSENT = re.compile(r"error: (?P<file>.+): does not exist in index$", re.MULTILINE)
_PRESENT = re.compile(r"error: (?P<file>.+): already exists in index$", re.MULTILINE)
_APPLYING = re.compile(r"Applying patch (?:.+ => )?(?P<file>.+) with \d+ rejects?\.\.\.$")
_HUNK = re.compile(r"@@ -(?P<start>\d+)(?:,(?P<count>\d+))? ")
_REJECTED = re.compile(r"Rejected hunk #(?P<hunk>\d+)\.$")


def apply(tree: Tree, series: Series, *, stage: Stage) -> Applied:
    """Apply ``series`` to ``tree`` and return its patches and the new content of changed files.

    The result's series also has the fields that come from its mail: base-commit, prerequisites,
    subject, Message-ID and version. Notes about mails that were left out are printed by ``stage``.

    HarnessError: exit 2 for mail that is refused (see the docstring of kpatch.series.mailbox), for
    a path that goes through a symbolic link of the tree or clashes with a file or folder of it, and
    for a patch that makes a symbolic link or a submodule; exit 3 for a patch that does not apply.
    The latter names the patch, and the file and hunk if git tells them.
    """
    if not series.mailboxes:
        return Applied(tree, series, (), (), delta_id(()))
    with sandbox() as box:
        posting = mailbox.read(series, box)
        series = replace(
            series,
            base_commit=posting.base_commit,
            prerequisites=posting.prerequisites,
            subject=posting.subject,
            message_id=posting.message_id,
            version=posting.version,
        )
        _tell(posting, tree, stage)
        _record(series, posting, tree, stage)
        taken = _steps(tree, series, posting.patches, box, stage=stage)
        steps = tuple(_changes(box) for _ in taken)
    return Applied(tree, series, posting.patches, steps[-1], delta_id(steps[-1]), steps)


def after(applied: Applied, count: int) -> Applied:
    """Return ``applied`` reduced to its first ``count`` patches; 0 means no patch.

    The result has the same series as ``applied``, and is therefore built in the same worktree
    (kpatch.build.worktree).
    """
    steps = applied.steps[:count]
    changes = steps[-1] if steps else ()
    return replace(
        applied,
        patches=applied.patches[:count],
        changes=changes,
        delta_id=delta_id(changes),
        steps=steps,
    )


def content(applied: Applied, path: str) -> bytes | None:
    """Return the content of the file ``path`` with the series; None if there is no such file."""
    for change in applied.changes:
        if change.path == path:
            return change.content
    file = applied.tree.path / path
    # `apply` has refused paths of patches that lead through symbolic links.
    return file.read_bytes() if file.is_file() else None


def posted(series: Series) -> Posting:
    """Decode the mail of ``series`` and return its patches and statements; nothing is applied.

    HarnessError (exit 2) for mail that is refused.
    """
    with sandbox() as box:
        return mailbox.read(series, box)


def steps(tree: Tree, series: Series, box: Sandbox, *, stage: Stage) -> Iterator[Patch]:
    """Apply the patches of ``series`` to the index of ``box``; yield each when it is applied.

    The index starts with the files of ``tree`` that the patches name. Raises the errors of `apply`.
    """
    yield from _steps(tree, series, mailbox.read(series, box).patches, box, stage=stage)


def _tell(posting: Posting, tree: Tree, stage: Stage) -> None:
    """Tell the user, by ``stage``, how the patches to apply differ from what the author posted.

    There is a line for each note of ``posting``, one for a base-commit that is not the commit of
    ``tree``, and one with the number of prerequisite patches, which are not applied.
    """
    for note in posting.notes:
        stage.say(note)
    commit = tree.origin.get("commit", "")
    if posting.base_commit and posting.base_commit != commit:
        stage.say(
            f"base-commit {posting.base_commit[:12]} of the series is not the tree's "
            f"({commit[:12] or f'{tree.version}, from a {tree.provider}'})"
        )
    if posting.prerequisites:
        others = len(posting.prerequisites)
        stage.say(f"wants other patches first (prerequisite-patch-id): {others}")


def _record(series: Series, posting: Posting, tree: Tree, stage: Stage) -> None:
    """Record in ``stage`` the ``git apply --check`` that tells whether the series applies."""
    files = series.mailboxes
    if series.origin is Origin.MBOX:
        # git apply may fail on the mail itself: it may be compressed or encoded, have its patches
        # out of order, or contain other versions. So git gets a file with the decoded diffs.
        content = b"".join(patch.diff for patch in posting.patches)
        files = (mail_files.keep(series.name, ".diff", content),)
    strip = {f"-p{patch.strip}" for patch in posting.patches if patch.strip != 1}
    stage.command(["git", "apply", "--check", "-v", *strip, *map(str, files)], cwd=tree.path)


def _steps(
    tree: Tree, series: Series, patches: tuple[Patch, ...], box: Sandbox, *, stage: Stage
) -> Iterator[Patch]:
    what = f"series {series.name}"
    box.fill(_pristine(f"{what} on {tree.version}", tree, patches))
    for patch in patches:
        stage.note(f"{patch.number}/{patch.total} {patch.subject}")
        _apply_one(f"{what}, {patch}", patch, box, tree, series)
        stage.advance(patch.number, patch.total)
        yield patch


def delta_id(changes: Iterable[Change]) -> str:
    """Return a digest of the paths, modes and content of ``changes``, in their order."""
    return cache.digest(part for change in changes for part in _identity(change))


def selected_id(applied: Applied, pattern: re.Pattern[str]) -> str:
    """Return a digest of those changes of ``applied`` whose whole path matches ``pattern``.

    Use it in the cache key of a product that depends only on these files: series that do not
    differ in them then share the cache entry.
    """
    return delta_id(change for change in applied.changes if pattern.fullmatch(change.path))


def _identity(change: Change) -> tuple[str, str, str]:
    if change.content is None:
        return change.path, "deleted", ""
    mode = "executable" if change.executable else "file"
    return change.path, mode, hashlib.sha256(change.content).hexdigest()


def _pristine(what: str, tree: Tree, patches: tuple[Patch, ...]) -> dict[str, tuple[bytes, bool]]:
    """Return content and executable bit of the files of ``tree`` that ``patches`` name, by path.

    Files that do not exist are left out. Raises the errors of `_read`, about ``what``.
    """
    files = {}
    for path in sorted({path for patch in patches for path in patch.paths}):
        content = _read(what, tree.path, path)
        if content is not None:
            files[path] = content
    return files


def _read(what: str, root: Path, path: str) -> tuple[bytes, bool] | None:
    """Return content and executable bit of the file ``path`` in ``root``; None if there is none.

    HarnessError (exit 2), about ``what``, if a part of the path is a symbolic link, or if the tree
    has a file in place of a folder of the path, or a folder in place of the file.
    """
    here = root
    parts = path.split("/")
    for part in parts:
        here /= part
        try:
            info = here.lstat()
        except FileNotFoundError:
            return None
        last = here == root.joinpath(*parts)
        shown = here.relative_to(root)
        if stat.S_ISLNK(info.st_mode):
            raise HarnessError(
                what,
                f"path {path} is or goes through {shown}, a symbolic link of the tree",
                hint="patch the file that it points to",
            )
        if last and stat.S_ISREG(info.st_mode):
            return here.read_bytes(), bool(info.st_mode & stat.S_IXUSR)
        if last or not stat.S_ISDIR(info.st_mode):
            kind = "folder" if stat.S_ISDIR(info.st_mode) else "file"
            raise HarnessError(
                what, f"path {path} clashes with {shown}, a {kind} of the tree", hint="rename it"
            )
    raise AssertionError("a path has at least one part")


def _apply_one(where: str, patch: Patch, box: Sandbox, tree: Tree, series: Series) -> None:
    """Apply ``patch`` to the index of ``box``.

    HarnessError, about ``where``: exit 3 if the patch does not apply; exit 2 if it makes a symbolic
    link or a submodule.
    """
    done = box.git(
        "apply", f"-p{patch.strip}", "--cached", "--whitespace=nowarn", "-", stdin=patch.diff
    )
    if done.status:
        raise _refusal(where, patch, box, tree, series, done.stderr)
    for entry in box.entries():
        if entry.mode not in _REGULAR or entry.mode_before not in _REGULAR:
            kind = "submodule" if entry.mode == "160000" else "symbolic link"
            raise HarnessError(
                where, f"makes {entry.path} a {kind}", hint="a kernel patch does not need one"
            )


def _refusal(
    where: str, patch: Patch, box: Sandbox, tree: Tree, series: Series, stderr: str
) -> HarnessError:
    """Return the error (exit 3) for a patch that does not apply, with its cause and a hint.

    ``where`` names the patch, ``stderr`` is the output of ``git apply``. The cause names the first
    obstacle, or says that the tree has the patch already. It mentions damage by mail: a patch that
    differs from the tree in white space alone, or that came as format=flowed.
    """
    strip = f"-p{patch.strip}"
    backward = ("apply", strip, "-R", "--check", "--cached", "-")
    if box.git(*backward, stdin=patch.diff).status == 0:
        return HarnessError(
            where,
            f"is in {tree.version} already",
            hint="leave it out, or choose an older KERNEL",
            code=ExitCode.APPLY,
        )
    cause, details = _diagnosis(patch, box, stderr)
    hint = _hint(series)
    loose = ("apply", strip, "--check", "--cached", "--ignore-whitespace", "-")
    if box.git(*loose, stdin=patch.diff).status == 0:
        cause += ", differs from the tree in white space alone, as if mail had changed it"
        hint = "send it by git send-email or b4, which leave white space alone"
    elif patch.flowed:
        cause += " (it came as format=flowed, which damages patches)"
        hint = "send it by git send-email or b4"
    return HarnessError(
        where,
        f"does not apply to {tree.version}: {cause}",
        hint=hint,
        code=ExitCode.APPLY,
        details=details,
    )


def _hint(series: Series) -> str:
    """Return the hint for a series that does not apply; it names the base-commit if there is one.

    In that case it also gives the number of prerequisite patches, if there are any.
    """
    if not series.base_commit:
        return "rebase the series, or choose the KERNEL it was written for"
    others = len(series.prerequisites)
    more = f", with the patches of its prerequisite-patch-id lines ({others})" if others else ""
    return f"choose the KERNEL it was written for: base-commit {series.base_commit}{more}"


def _diagnosis(patch: Patch, box: Sandbox, stderr: str) -> tuple[str, str]:
    """Return the cause of a failed ``git apply`` in one line, and details of several lines.

    ``stderr`` is git's output. If git rejected a hunk, the details are those of `_rejects`;
    otherwise, and if `_rejects` gives none, they are ``stderr``.
    """
    if match := _ABSENT.search(stderr):
        return f"{match['file']} is not in the tree", stderr
    if match := _PRESENT.search(stderr):
        return f"{match['file']}, which it creates, is in the tree already", stderr
    failed = _FAILED.search(stderr)
    if failed is None:
        lines = stderr.strip().splitlines() or ["git gives no reason"]
        return lines[0].removeprefix("error: "), stderr
    hunk, rejects = _rejects(patch, box)
    return f"{failed['file']}, {hunk} at line {failed['line']}", rejects or stderr


def _rejects(patch: Patch, box: Sandbox) -> tuple[str, str]:
    """Apply ``patch`` with ``git apply --reject`` to temporary files, to find the rejected hunk.

    Returns "hunk N" for the first hunk that git rejects, and the details: the beginning of the .rej
    file of its file, followed by the lines that the tree has in place of that hunk. Returns
    "a hunk" and "" if git's output names no rejected hunk.
    """
    work = box.folder / "work"
    work.mkdir()
    env = {"GIT_WORK_TREE": str(work)}
    box.git("checkout-index", "--all", cwd=work, env=env)
    reject = ("apply", f"-p{patch.strip}", "--reject", "--verbose", "-")
    done = box.git(*reject, stdin=patch.diff, cwd=work, env=env)
    rejected: list[str] = []
    file = None
    for line in done.stderr.splitlines():
        if match := _APPLYING.match(line):
            if rejected:
                break
            file = match["file"]
        elif file is not None and (match := _REJECTED.match(line)):
            rejected.append(match["hunk"])
        elif rejected:
            break
    if file is None or not rejected:
        return "a hunk", ""
    rejects = work / f"{file}.rej"
    text = rejects.read_text(errors="replace") if rejects.is_file() else ""
    lines = text.splitlines()[:_DETAIL_LINES]
    return f"hunk {rejected[0]}", "\n".join([*lines, *_instead(work / file, lines)])


def _instead(file: Path, rejects: list[str]) -> list[str]:
    """Return the lines of ``file`` at the old line numbers of the first hunk in ``rejects``.

    ``rejects`` are the lines of a .rej file. The result begins with an empty line and a heading;
    each line of the file has its number. Returns [] if there is no hunk or no ``file``.
    """
    hunk = next((match for line in rejects if (match := _HUNK.match(line))), None)
    if hunk is None or not file.is_file():
        return []
    start = max(int(hunk["start"]), 1)
    there = file.read_text(errors="replace").splitlines()[start - 1 :][: int(hunk["count"] or 1)]
    numbered = [f"{number:6} {line}" for number, line in enumerate(there, start)]
    shown = numbered or [f"       (the file ends before line {start})"]
    return ["", "The tree has there instead:", *shown[:_DETAIL_LINES]]


def _changes(box: Sandbox) -> tuple[Change, ...]:
    """Return the files in which the index of ``box`` differs from the tree, sorted by path."""
    entries = sorted(box.entries(), key=lambda entry: entry.path)
    blobs = box.blobs(entry.blob for entry in entries if entry.blob is not None)
    return tuple(
        Change(
            entry.path,
            None if entry.blob is None else blobs[entry.blob],
            entry.mode == "100755",
        )
        for entry in entries
    )
