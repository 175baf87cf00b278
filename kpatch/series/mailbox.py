# SPDX-License-Identifier: GPL-2.0-only
"""A mailbox from anywhere, taken apart into its patches by git's own mail tools, and checked.

Accepted is what ``git am`` takes as mail: what ``git format-patch --stdout`` and ``b4 am``
write, several files of it, one bare mail without a "From " line; text in 8 bit,
quoted-printable or base64. Carriage returns at the ends of lines are dropped, as ``git am``
does unless told otherwise: mail systems put them there, kernel sources have none.

Refused, each with the reason: what is empty, compressed, binary or no mail at all; a binary
diff; a path outside the tree, under .git, or with control characters; a symbolic link or a
submodule; a numbered patch that lost its diff; a series of m patches, by its n/m, that lacks one.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.model import Series
from kpatch.series.scratch_index import Sandbox

SIZE_LIMIT = 32 << 20
"""Bytes of all mailboxes of a series; ten times the largest series on the kernel's lists."""

PATH_LIMIT = 4096
"""Files that one series may touch."""

EXPORT = "export the series with git format-patch --stdout"

WHOLE = "give all in one file: git format-patch --stdout BASE.. > series.mbox, or cat the files"

NAMED = 4
"""How many of the patches that are missing are named."""

_MAIL_START = re.compile(rb"\s*(?:From |>?From:|[!-9;-~]+:[ \t])")
_TAG = re.compile(r"\s*(?:(?:re|fwd?|aw):|\[(?P<tag>[^]]*)\])\s*", re.IGNORECASE)
_NUMBER = re.compile(r"\b0*(\d{1,4})/0*(\d{1,4})\b")


@dataclass(frozen=True)
class Patch:
    """One patch of a series: its place in it, title, diff, and every path the diff names.

    ``message`` is the file of the commit message below the title, ``author`` a name and address.
    """

    number: int
    total: int
    subject: str
    diff: Path
    paths: tuple[str, ...]
    message: Path
    author: tuple[str, str]

    def __str__(self) -> str:
        return f"patch {self.number}/{self.total} ({self.subject})"


@dataclass(frozen=True)
class _Mail:
    subject: str
    numbered: tuple[int, int] | None
    reply: bool
    diff: Path | None
    message: Path
    author: tuple[str, str]


def patches(series: Series, box: Sandbox) -> list[Patch]:
    """The patches of ``series`` in order, unpacked in ``box``.

    Cover letters and replies without a diff are passed over. HarnessError (exit 2) for a
    mailbox that is not acceptable.
    """
    what = f"series {series.name}"
    _check_size(what, series.mailboxes)
    mails = [mail for path in series.mailboxes for mail in _mails(what, path, box)]
    diffs = [(mail, mail.diff) for mail in mails if mail.diff is not None]
    for mail in mails:
        number, _ = mail.numbered or (0, 0)
        if mail.diff is None and number and not mail.reply:
            raise HarnessError(
                f"{what}, patch {number} ({mail.subject})", "has no diff in it", mend=EXPORT
            )
    if series.mailboxes and not diffs:
        raise HarnessError(what, "no mail in it has a patch", mend=EXPORT)
    _check_whole(what, [mail.numbered for mail, _ in diffs if mail.numbered])
    found = []
    for number, (mail, diff) in enumerate(diffs, 1):
        where = f"{what}, patch {number}/{len(diffs)} ({mail.subject})"
        paths = _paths(where, diff, box)
        place = (number, len(diffs))
        found.append(Patch(*place, mail.subject, diff, paths, mail.message, mail.author))
    return found


def _check_whole(what: str, numbers: list[tuple[int, int]]) -> None:
    """HarnessError (exit 2) if a patch says that it is the nth of m, and not all m are there."""
    for total in sorted({total for _, total in numbers}):
        there = {number for number, of in numbers if of == total}
        absent = [f"{number}/{total}" for number in range(1, total + 1) if number not in there]
        if not absent:
            continue
        more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        raise HarnessError(
            what,
            f"is not whole: it lacks {', '.join(absent[:NAMED])}{more}",
            mend=WHOLE,
        )


def _check_size(what: str, mailboxes: tuple[Path, ...]) -> None:
    total = 0
    for path in mailboxes:
        try:
            info = path.stat()
        except OSError as error:
            raise HarnessError(
                what, f"{path} cannot be read: {error.strerror}", mend="name an mbox file"
            ) from None
        if not stat.S_ISREG(info.st_mode):
            raise HarnessError(what, f"{path} is not a file", mend="name an mbox file")
        total += info.st_size
    if total > SIZE_LIMIT:
        raise HarnessError(
            what,
            f"{total >> 20} MiB of mail, more than {SIZE_LIMIT >> 20}",
            mend="take out what is not part of the series",
        )


def _mails(what: str, path: Path, box: Sandbox) -> Iterator[_Mail]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise HarnessError(
            what, f"{path} cannot be read: {error.strerror}", mend="name an mbox file"
        ) from None
    flaw = _flaw(content)
    if flaw is not None:
        raise HarnessError(what, f"{path} {flaw[0]}", mend=flaw[1])
    folder = box.folder / f"mail-{len(list(box.folder.iterdir()))}"
    folder.mkdir()
    # From standard input: a path of the user's is never an option or a maildir to git.
    split = box.git("mailsplit", "-b", "-d5", f"-o{folder}", stdin=content)
    if split.status:
        raise HarnessError(what, f"{path} is not an mbox", mend=EXPORT, details=split.stderr)
    for mail in sorted(folder.iterdir()):
        yield _mail(what, mail, box)


def _flaw(content: bytes) -> tuple[str, str] | None:
    """Why ``content`` is no mailbox and what to do about it; None for one that may be."""
    start = content.lstrip()
    if not start:
        return "is empty", EXPORT
    if start.startswith(b"\x1f\x8b"):
        return "is compressed by gzip", "unpack it with gunzip"
    if b"\0" in content:
        return "is not an mbox: it has binary data", EXPORT
    if start.startswith((b"diff ", b"--- ", b"Index: ")):
        return "is not an mbox: it is a bare diff without a mail's header", EXPORT
    if not _MAIL_START.match(content):
        return "is not an mbox: it does not begin like a mail", EXPORT
    return None


def _mail(what: str, path: Path, box: Sandbox) -> _Mail:
    """Decode one mail."""
    message, diff = path.with_suffix(".msg"), path.with_suffix(".diff")
    done = box.git(
        "mailinfo",
        "-k",
        "--encoding=UTF-8",
        "--quoted-cr=strip",
        str(message),
        str(diff),
        stdin=path.read_bytes(),
    )
    if done.status:
        raise HarnessError(
            what, "has a mail that cannot be decoded", mend=EXPORT, details=done.stderr
        )
    lines = done.stdout.decode(errors="replace").splitlines()
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    author = (headers.get("Author", ""), headers.get("Email", ""))
    told = _subject(headers.get("Subject", ""))
    return _Mail(*told, diff if diff.stat().st_size else None, message, author)


def _subject(raw: str) -> tuple[str, tuple[int, int] | None, bool]:
    """Split ``raw``: the title that ``git am`` takes, n and m of an n/m tag, if it is a reply."""
    numbered, reply = None, False
    while match := _TAG.match(raw):
        tag = match["tag"]
        reply = reply or tag is None
        number = _NUMBER.search(tag or "")
        numbered = (int(number[1]), int(number[2])) if number else numbered
        raw = raw[match.end() :]
    title = "".join(char if char.isprintable() else " " for char in raw).strip()
    return title or "no subject", numbered, reply


def _paths(where: str, diff: Path, box: Sandbox) -> tuple[str, ...]:
    """Every path that ``diff`` names, old and new ones, each checked."""
    found: dict[str, None] = {}
    # --numstat gives the new name of a file that is renamed; of the reversed patch, the old one.
    for direction in ([], ["-R"]):
        done = box.git("apply", *direction, "--numstat", "-z", str(diff))
        if done.status:
            raise HarnessError(where, _corrupt(done.stderr), mend=EXPORT, details=done.stderr)
        for record in done.stdout.split(b"\0")[:-1]:
            added, _, name = record.split(b"\t", 2)
            path = _checked(where, name)
            if added == b"-":
                raise HarnessError(
                    where, f"has a binary patch for {path}", mend="leave binary files out"
                )
            found[path] = None
    if len(found) > PATH_LIMIT:
        raise HarnessError(where, f"names more than {PATH_LIMIT} files", mend="split the series")
    return tuple(found)


def _corrupt(stderr: str) -> str:
    lines = [line.removeprefix("error: ") for line in stderr.strip().splitlines()]
    return f"is damaged: {lines[-1]}" if lines else "is damaged"


def _checked(where: str, raw: bytes) -> str:
    """``raw`` as a path inside the tree."""
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
            mend="do not apply this patch anywhere before you know why",
        )
    return path
