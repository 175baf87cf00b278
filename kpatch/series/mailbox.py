# SPDX-License-Identifier: GPL-2.0-only
"""Read the patches of a series from mail that is not trusted, and check each.

kpatch.series.mail_files reads the files, kpatch.series.mail decodes the mail, and
kpatch.series.thread selects the series.

Mail is refused with a HarnessError (exit 2) that gives the reason

- if it is missing, empty, damaged, binary or no mail, or larger than the limit;
- if it contains more than one series, or two different patches with the same number or Message-ID;
- if a numbered patch has no diff, or the numbers [PATCH n/m] show that a patch is missing;
- if a diff is damaged or binary, is inside the message of a patch, or names too many files;
- if a path leads outside the tree or into .git, or has characters that cannot be printed.

A patch that makes a symbolic link or a submodule is refused later, by kpatch.series.apply.
"""

from __future__ import annotations

import email.utils
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
"""Largest number of paths that one patch may name, old and new ones."""

WHOLE = "give all in one file: git format-patch --stdout BASE.. > series.mbox, or cat the files"

_GIT_NAMES = re.compile(rb"^diff --git (\S+) (\S+)$", re.MULTILINE)
_NAMES = re.compile(rb"^--- (\S+)[^\n]*\n\+\+\+ (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Posting:
    """A series as it was posted: its patches in order, and its statements about its base.

    ``base_commit`` is a commit id and ``prerequisites`` are git patch-ids, "" and () if the mail
    states none. ``subject`` and ``message_id`` are those of the cover letter, or else of the first
    patch; ``version`` is 2 for [PATCH v2 …]. ``notes`` are lines for the user, about mails that
    were left out and patches that were taken from an older version.
    """

    patches: tuple[Patch, ...]
    base_commit: str = ""
    prerequisites: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    subject: str = ""
    message_id: str = ""
    version: int = 1


def read(series: Series, box: Sandbox) -> Posting:
    """Read, decode and check the mail of ``series``; return it as a Posting.

    The decoded files are written to the folder of ``box``. A series without mail has an empty
    Posting. HarnessError (exit 2) for mail that is refused, see the docstring of this module.
    """
    # Imported here: b4 takes 0.15 s to import, and only a series with mail needs it.
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
    """Return git's patch-id of the diff of ``mail``: a mailing list's footer does not change it.

    If git finds no patch in it, the sha256 of the diff is returned.
    """
    content = b"" if mail.diff is None else mail.diff.read_bytes()
    done = box.git("patch-id", "--verbatim", stdin=content)
    named = done.stdout.decode().split()
    return named[0] if named and not done.status else hashlib.sha256(content).hexdigest()


def _patch(what: str, number: int, total: int, mail: Mail, box: Sandbox) -> Patch:
    """Check the patch in ``mail``, which is number ``number`` of ``total``, and return it.

    HarnessError (exit 2), about ``what`` and the patch, if the patch is refused.
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
        email.utils.parseaddr(mail.headers["From"])[1],
    )


def _strip(diff: bytes) -> int:
    """Return the -p for ``git apply``: 0 if the paths lack a/ and b/ (diff.noprefix), else 1."""
    names = _GIT_NAMES.findall(diff) or _NAMES.findall(diff)
    plain = any(old == new and not old.startswith((b"a/", b"b/")) for old, new in names)
    return 0 if plain else 1


def _paths(where: str, mail: Mail, diff: Path, strip: int, box: Sandbox) -> tuple[str, ...]:
    """Return all paths in the file ``diff``, old and new, without their first ``strip`` parts.

    HarnessError (exit 2), about ``where``, if git cannot parse the diff, if it is binary, if a path
    is refused, or if there are more than PATH_LIMIT paths.
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
    """Return the error (exit 2) for a diff that git cannot parse, with the likely cause.

    ``where`` names the patch; ``stderr`` is git's output. The causes are a combined diff of a
    merge, no-break spaces, and format=flowed.
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
    """Return the path ``raw`` as text.

    HarnessError (exit 2), about ``where``, if it is no path inside a kernel tree: if it is
    absolute, not normalized, in .git, not UTF-8, not printable, or too long.
    """
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
