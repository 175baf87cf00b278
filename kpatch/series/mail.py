# SPDX-License-Identifier: GPL-2.0-only
"""Decode mails to title, message, diff and author by ``git mailinfo``, as ``git am`` does.

Carriage returns at the ends of lines are removed, as ``git am`` does by default: mail systems add
them, kernel sources have none. If the lines of a diff were space-stuffed for format=flowed (RFC
3676, 4.4), the added spaces are removed.
"""

from __future__ import annotations

import email.errors
import email.header
import email.parser
import email.policy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.series.mail_files import EXPORT, Post
from kpatch.series.scratch_index import Sandbox

_TAG = re.compile(r"\s*(?:(?:re|fwd?|aw):|\[[^]]*\])\s*", re.IGNORECASE)

# The text below a "---" line may also be a diffstat, notes, or b4's table in a cover letter. It is
# a diff only if it contains the first lines of one.
_DIFF = re.compile(rb"^(?:diff --(?:git|cc|combined) |--- [^\n]*\n\+\+\+ )", re.MULTILINE)
_TWICE = re.compile(rb"^---$.*?^diff --git ", re.MULTILINE | re.DOTALL)
_FLOWED = re.compile(rb"^Content-Type:[^\n]*(?:\n[ \t][^\n]*)*format=\"?flowed", re.I | re.M)
_SPACED = re.compile(rb"^ (?![ \n])", re.MULTILINE)
_STUFFED = re.compile(rb"^ (?= )", re.MULTILINE)
_HEADERS = ("From", "Subject", "Message-Id", "In-Reply-To", "References")


@dataclass(frozen=True)
class Mail:
    """One decoded mail.

    ``place`` names it in messages ("mail 2 of v2.mbox"). ``headers`` maps the names in _HEADERS to
    decoded values, "" for a header that the mail does not have. ``subject`` is the title without
    tags, ``author`` a name and an address. ``message`` is the file with the text above the first
    "---" line or diff, ``below`` the file with the text from there on. ``diff`` is the file
    ``below`` if it has a diff, else None. ``flowed`` is true if the mail came as format=flowed.
    """

    place: str
    headers: dict[str, str]
    subject: str
    author: tuple[str, str]
    message: Path
    below: Path
    diff: Path | None
    flowed: bool = False

    def __str__(self) -> str:
        return f"{self.place} ({self.headers['Subject'][:120] or 'no subject'})"

    @property
    def diff_in_message(self) -> bool:
        """Return whether the mail has a diff, below it a "---" line, and below that another diff.

        The author meant the first diff as a part of the message, which the "---" line ends; but
        ``git am`` takes everything from the first diff on as the patch.
        """
        if self.diff is None:
            return False
        content = self.diff.read_bytes()
        start = _DIFF.search(content)
        return start is not None and _TWICE.search(content, start.end()) is not None


def mails(what: str, posts: list[Post], box: Sandbox) -> list[Mail]:
    """Split ``posts`` into mails, decode them, and return them in order.

    Message and diff of each mail are written to files in the folder of ``box``. HarnessError (exit
    2), about ``what``, for a file that is no mbox or a mail that cannot be decoded.
    """
    return [_decoded(what, place, path, box) for place, path in _split(what, posts, box)]


def _split(what: str, posts: list[Post], box: Sandbox) -> Iterator[tuple[str, Path]]:
    for number, post in enumerate(posts, 1):
        folder = box.folder / f"mail-{number}"
        folder.mkdir()
        if post.single:
            (folder / "1").write_bytes(post.content)
        else:
            # lore writes mboxrd: it adds a ">" to each line that begins with "From ", ">From " and
            # so on. mailsplit --mboxrd removes it.
            rd = ["--mboxrd"] if post.content.startswith(b"From mboxrd@z ") else []
            # The mbox is passed by standard input: git could take its path for an option.
            split = box.git("mailsplit", "-b", "-d5", *rd, f"-o{folder}", stdin=post.content)
            if split.status:
                raise HarnessError(
                    what, f"{post.name} is not an mbox", hint=EXPORT, details=split.stderr
                )
        for nth, path in enumerate(sorted(folder.iterdir()), 1):
            yield (post.name if post.single else f"mail {nth} of {post.name}"), path


def _decoded(what: str, place: str, path: Path, box: Sandbox) -> Mail:
    raw = path.read_bytes()
    fixed = _FLOWED.sub(lambda match: match[0][: -len(b"flowed")] + b"fixed", raw)
    flowed = fixed != raw
    told, message, diff = _extract(what, place, path, fixed, box)
    content = diff.read_bytes()
    # Space-stuffing adds a space to each line that begins with one, so context lines then begin
    # with two. A context line that begins with a single space shows that the diff is not stuffed.
    if flowed and not _SPACED.search(content):
        diff.write_bytes(_STUFFED.sub(b"", content))
    # In a format=flowed mail git joins each line that ends in a space with the next line. That is
    # right for long lines that the sender's program has broken, but wrong for an empty context
    # line, which is one space. So the joined diff is used only if git cannot read the other one.
    if flowed and _DIFF.search(content) and not _readable(diff, box):
        joined = _extract(what, place, path.with_suffix(".joined"), raw, box)
        if _readable(joined[2], box):
            told, message, diff = joined
    return Mail(
        place,
        _headers(raw),
        _title(told.get("Subject", "")),
        (told.get("Author", ""), told.get("Email", "")),
        message,
        diff,
        diff if _DIFF.search(content) else None,
        flowed,
    )


def _extract(
    what: str, place: str, path: Path, raw: bytes, box: Sandbox
) -> tuple[dict[str, str], Path, Path]:
    """Run ``git mailinfo`` on the mail ``raw``; return its headers and the files it has written.

    The headers are git's (Author, Email, Subject, Date), by name. The files are ``path`` with
    ".msg" added (the message) and with ".diff" added (the diff and all other text below the
    message). HarnessError (exit 2), about ``what`` and ``place``, if git cannot decode the mail.
    """
    message, diff = path.with_name(path.name + ".msg"), path.with_name(path.name + ".diff")
    done = box.git(
        "mailinfo",
        "-k",
        "--encoding=UTF-8",
        "--quoted-cr=strip",
        str(message),
        str(diff),
        stdin=raw,
    )
    if done.status:
        raise HarnessError(
            f"{what}, {place}", "cannot be decoded", hint=EXPORT, details=done.stderr
        )
    lines = done.stdout.decode(errors="replace").splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line), message, diff


def _readable(diff: Path, box: Sandbox) -> bool:
    """Return whether git can parse the file ``diff``, with the a/ and b/ of paths or without."""
    return any(not box.git("apply", f"-p{n}", "--numstat", str(diff)).status for n in (1, 0))


def _headers(raw: bytes) -> dict[str, str]:
    """Return the headers of the mail ``raw`` that _HEADERS names, by name, each as one line.

    They are decoded to Unicode. A header that the mail does not have is "".
    """
    # mailsplit keeps the "From " line of the mbox, which is no header.
    head = re.split(rb"\r?\n\r?\n", re.sub(rb"\A\s*>?From [^\n]*\n", b"", raw), maxsplit=1)[0]
    parser = email.parser.HeaderParser(policy=email.policy.compat32)
    parsed = parser.parsestr(head.decode(errors="replace"))
    return {name: _in_words(" ".join(str(parsed.get(name, "")).split())) for name in _HEADERS}


def _in_words(header: str) -> str:
    """Return ``header`` with encoded words (RFC 2047) decoded; unchanged if one is invalid."""
    try:
        return " ".join(str(email.header.make_header(email.header.decode_header(header))).split())
    except (ValueError, LookupError, email.errors.MessageError):
        return header


def _title(raw: str) -> str:
    """Return the subject ``raw`` without "Re:", "Fwd:", "Aw:" and tags in brackets at its start.

    Unlike ``git am``, it also removes "Fwd:" and "Aw:". Returns "no subject" if nothing is left.
    """
    while match := _TAG.match(raw):
        raw = raw[match.end() :]
    title = "".join(char if char.isprintable() else " " for char in raw).strip()
    return title or "no subject"
