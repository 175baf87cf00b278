# SPDX-License-Identifier: GPL-2.0-only
"""One mail, decoded by ``git mailinfo`` as ``git am`` has it: title, message, diff, author.

Carriage returns at the ends of lines are dropped, as ``git am`` does unless told otherwise:
mail systems put them there, kernel sources have none. A diff whose lines were space-stuffed for
format=flowed (RFC 3676, 4.4) is taken out of that.
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
from kpatch.series.intake import EXPORT, Post
from kpatch.series.scratch_index import Sandbox

_TAG = re.compile(r"\s*(?:(?:re|fwd?|aw):|\[[^]]*\])\s*", re.IGNORECASE)

# Below a "---" stand diffstats, notes, and the tables that b4 puts into a cover letter: only a
# diff's own first lines make it one.
_DIFF = re.compile(rb"^(?:diff --(?:git|cc|combined) |--- [^\n]*\n\+\+\+ )", re.MULTILINE)
_TWICE = re.compile(rb"^---$.*?^diff --git ", re.MULTILINE | re.DOTALL)
_FLOWED = re.compile(rb"^Content-Type:[^\n]*(?:\n[ \t][^\n]*)*format=\"?flowed", re.I | re.M)
_SPACED = re.compile(rb"^ (?![ \n])", re.MULTILINE)
_STUFFED = re.compile(rb"^ (?= )", re.MULTILINE)
_HEADERS = ("Subject", "Message-Id", "In-Reply-To", "References")


@dataclass(frozen=True)
class Mail:
    """One mail: ``place`` is its number and file, ``headers`` are as they came, by name.

    ``subject`` is the title that ``git am`` takes; ``message`` the file of the text below it;
    ``below`` that of what stands below the "---"; ``diff`` the same if it is a diff, else None.
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
        """Whether a diff above the "---" is taken for the patch, as ``git am`` takes it."""
        if self.diff is None:
            return False
        content = self.diff.read_bytes()
        start = _DIFF.search(content)
        return start is not None and _TWICE.search(content, start.end()) is not None


def mails(what: str, posts: list[Post], box: Sandbox) -> list[Mail]:
    """The mails of ``posts`` in the order in which they lie there, unpacked in ``box``.

    HarnessError (exit 2) for a mail that cannot be decoded.
    """
    return [_decoded(what, place, path, box) for place, path in _split(what, posts, box)]


def _split(what: str, posts: list[Post], box: Sandbox) -> Iterator[tuple[str, Path]]:
    for number, post in enumerate(posts, 1):
        folder = box.folder / f"mail-{number}"
        folder.mkdir()
        if post.single:
            (folder / "1").write_bytes(post.content)
        else:
            # lore writes mboxrd, where any ">From " has lost nothing but a ">".
            rd = ["--mboxrd"] if post.content.startswith(b"From mboxrd@z ") else []
            # From standard input: a path of the user's is never an option or a maildir to git.
            split = box.git("mailsplit", "-b", "-d5", *rd, f"-o{folder}", stdin=post.content)
            if split.status:
                raise HarnessError(
                    what, f"{post.name} is not an mbox", hint=EXPORT, details=split.stderr
                )
        for nth, path in enumerate(sorted(folder.iterdir()), 1):
            yield (post.name if post.single else f"mail {nth} of {post.name}"), path


def _decoded(what: str, place: str, path: Path, box: Sandbox) -> Mail:
    message, diff = path.with_suffix(".msg"), path.with_suffix(".diff")
    raw = path.read_bytes()
    # git joins flowed lines, and takes the space of an empty line of context for a soft break.
    fixed = _FLOWED.sub(lambda match: match[0][: -len(b"flowed")] + b"fixed", raw)
    done = box.git(
        "mailinfo",
        "-k",
        "--encoding=UTF-8",
        "--quoted-cr=strip",
        str(message),
        str(diff),
        stdin=fixed,
    )
    if done.status:
        raise HarnessError(
            f"{what}, {place}", "cannot be decoded", hint=EXPORT, details=done.stderr
        )
    lines = done.stdout.decode(errors="replace").splitlines()
    told = dict(line.split(": ", 1) for line in lines if ": " in line)
    flowed = fixed != raw
    content = diff.read_bytes()
    # Stuffing doubles the space of every context line; one that is alone shows that nobody did.
    if flowed and not _SPACED.search(content):
        diff.write_bytes(_STUFFED.sub(b"", content))
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


def _headers(raw: bytes) -> dict[str, str]:
    """The headers that tell a mail's place in its thread, each as one line."""
    # Of what mailsplit gives: the "From " line of the mbox, if there is one, is no header.
    head = re.split(rb"\r?\n\r?\n", re.sub(rb"\A\s*>?From [^\n]*\n", b"", raw), maxsplit=1)[0]
    parser = email.parser.HeaderParser(policy=email.policy.compat32)
    parsed = parser.parsestr(head.decode(errors="replace"))
    return {name: _in_words(" ".join(str(parsed.get(name, "")).split())) for name in _HEADERS}


def _in_words(header: str) -> str:
    """``header`` without RFC 2047's encoding; as it is where that is broken."""
    try:
        return " ".join(str(email.header.make_header(email.header.decode_header(header))).split())
    except (ValueError, LookupError, email.errors.MessageError):
        return header


def _title(raw: str) -> str:
    """``raw`` without its tags, as ``git am`` takes it."""
    while match := _TAG.match(raw):
        raw = raw[match.end() :]
    title = "".join(char if char.isprintable() else " " for char in raw).strip()
    return title or "no subject"
