# SPDX-License-Identifier: GPL-2.0-only
"""Read the patches of a series from mail that is not trusted, and check each.

kpatch.series.mail_files reads the files, kpatch.series.mail decodes the mail, and
kpatch.series.thread selects the series.

Mail is refused, with the reason, if it is empty, binary or no mail; if it has a binary diff, a path
outside the tree, under .git or with control characters, a symbolic link or a submodule; if a
numbered patch has no diff; if the numbers [PATCH n/m] show that a patch is missing.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.model import Patch, Series
from kpatch.series import mail_files
from kpatch.series.mail import Mail, mails
from kpatch.series.mail_files import EXPORT
from kpatch.series.scratch_index import Sandbox

PATH_LIMIT = 4096
"""Largest number of files that one patch may name."""

WHOLE = "give all in one file: git format-patch --stdout BASE.. > series.mbox, or cat the files"

_GIT_NAMES = re.compile(rb"^diff --git (\S+) (\S+)$", re.MULTILINE)
_NAMES = re.compile(rb"^--- (\S+)[^\n]*\n\+\+\+ (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Posting:
    """A series as it was posted: its patches in order, and its statements about its base.

    ``subject`` and ``message_id`` are those of the cover letter, or else of the first patch.
    ``notes`` has one line for each mail that has a diff and was left out.
    """

    patches: tuple[Patch, ...]
    base_commit: str = ""
    prerequisites: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    subject: str = ""
    message_id: str = ""
    version: int = 1


def read(series: Series, box: Sandbox) -> Posting:
    """Return the patches of ``series`` in order; ``box`` gets the decoded files.

    HarnessError (exit 2) for mail that is refused.
    """
    # Imported here: b4 takes 0.15 s to import, and only mail needs it.
    from kpatch.series.thread import thread

    what = f"series {series.name}"
    if not series.mailboxes:
        return Posting(())
    messages = mails(what, mail_files.posts(what, series.mailboxes), box)
    meant = thread(what, messages, lambda mail: _identity(mail, box))
    total = len(meant.patches)
    patches = tuple(_patch(what, n, total, mail, box) for n, mail in enumerate(meant.patches, 1))
    if meant.absent:
        raise HarnessError(what, f"is not whole: it lacks {meant.absent}", hint=WHOLE)
    first = meant.cover or meant.patches[0]
    return Posting(
        patches,
        meant.base_commit,
        meant.prerequisites,
        meant.notes,
        first.headers["Subject"],
        first.headers["Message-Id"].strip("<>"),
        meant.version,
    )


def _identity(mail: Mail, box: Sandbox) -> str:
    """Return an id of the content of the mail's diff; a mailing list's footer has no influence."""
    content = b"" if mail.diff is None else mail.diff.read_bytes()
    done = box.git("patch-id", "--verbatim", stdin=content)
    named = done.stdout.decode().split()
    return named[0] if named and not done.status else hashlib.sha256(content).hexdigest()


def _patch(what: str, number: int, total: int, mail: Mail, box: Sandbox) -> Patch:
    """Check the patch in ``mail`` and return it; HarnessError (exit 2) if it is refused.

    It is patch ``number`` of ``total``.
    """
    where = f"{what}, patch {number}/{total} ({mail.subject})"
    if mail.diff is None:
        raise AssertionError("a patch of the thread has a diff")
    if mail.diff_in_message:
        raise HarnessError(
            where,
            "has a diff in its message, which git am takes for the patch",
            hint="indent the lines of that diff",
        )
    strip = _strip(mail.diff.read_bytes())
    paths = _paths(where, mail, mail.diff, strip, box)
    return Patch(
        number,
        total,
        mail.subject,
        mail.message.read_text(errors="replace"),
        mail.author,
        mail.diff.read_bytes(),
        paths,
        strip,
        mail.flowed,
        mail.headers["Subject"],
        mail.headers["Message-Id"].strip("<>"),
    )


def _strip(diff: bytes) -> int:
    """Return the -p of git apply: 0 for a diff made with git's diff.noprefix, else 1."""
    names = _GIT_NAMES.findall(diff) or _NAMES.findall(diff)
    plain = any(old == new and not old.startswith((b"a/", b"b/")) for old, new in names)
    return 0 if plain else 1


def _paths(where: str, mail: Mail, diff: Path, strip: int, box: Sandbox) -> tuple[str, ...]:
    """Return all paths in the file ``diff``, old and new, without the first ``strip`` folders.

    HarnessError (exit 2) if git cannot parse the diff, or a path is refused.
    """
    paths: dict[str, None] = {}
    # --numstat prints the new name of a renamed file; with -R it prints the old name.
    for direction in ([], ["-R"]):
        done = box.git("apply", f"-p{strip}", *direction, "--numstat", "-z", str(diff))
        if done.status:
            raise _damaged(where, mail, diff, done.stderr)
        for record in done.stdout.split(b"\0")[:-1]:
            added, _, name = record.split(b"\t", 2)
            path = _checked(where, name)
            if added == b"-":
                raise HarnessError(
                    where, f"has a binary patch for {path}", hint="leave binary files out"
                )
            paths[path] = None
    if len(paths) > PATH_LIMIT:
        raise HarnessError(where, f"names more than {PATH_LIMIT} files", hint="split the series")
    return tuple(paths)


def _damaged(where: str, mail: Mail, diff: Path, stderr: str) -> HarnessError:
    """Return the error of a diff that git cannot parse, with the likely cause of the damage.

    ``stderr`` is git's output.
    """
    lines = [line.removeprefix("error: ") for line in stderr.strip().splitlines()]
    cause = f"is damaged: {lines[-1]}" if lines else "is damaged"
    content = diff.read_bytes()
    if re.search(rb"^diff --(?:cc|combined) ", content, re.MULTILINE):
        return HarnessError(where, "is the combined diff of a merge", hint=EXPORT)
    if b"\xc2\xa0" in content:
        cause += " (white space was changed on the way: it has no-break spaces)"
    elif mail.flowed:
        cause += " (it came as format=flowed, which breaks lines)"
    return HarnessError(
        where,
        cause,
        hint="send it by git send-email or b4, or " + EXPORT,
        details=stderr,
    )


def _checked(where: str, raw: bytes) -> str:
    """Return ``raw`` as text; HarnessError (exit 2) if it is no path inside a kernel tree."""
    shown = ascii(raw.decode(errors="surrogateescape"))
    try:
        path = raw.decode()
    except UnicodeDecodeError:
        path = ""
    parts = path.split("/")
    if (
        not path.isprintable()
        or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts)
        or len(raw) > 4000
        or any(len(part.encode()) > 255 for part in parts)
    ):
        raise HarnessError(
            where,
            f"has the path {shown[:200]}, which is not one inside a kernel tree",
            hint="do not apply this patch anywhere before you know why",
        )
    return path
