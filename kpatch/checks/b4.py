# SPDX-License-Identifier: GPL-2.0-only
"""Find what b4 wants to have checked: it hands over one mail, and the rest is in its repository.

b4 0.16 calls a command in the top folder of the user's repository, with one mail on standard input:

- ``b4 prep --check`` (b4.prep-perpatch-check-cmd) and ``b4 review`` (b4.review-perpatch-check-cmd)
  with a patch, for each patch in turn;
- ``b4 review`` (b4.review-series-check-cmd) with the cover letter, or the patch if there is one
  only. The file that the variable B4_TRACKING_FILE names then has b4's record of the series: its
  patches are the commits of the branch b4/review/CHANGE-ID below the topmost, from
  ``first-patch-commit`` on. b4 sets no variable for a series that has no such branch.
"""

from __future__ import annotations

import email
import email.message
import email.policy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpatch.errors import HarnessError
from kpatch.series import mail_files
from kpatch.source import commits

TRACKING = "B4_TRACKING_FILE"

_NUMBER = re.compile(r"\[[^\]]*?\b0*(?P<number>\d+)/0*(?P<total>\d+)\s*\]")
_TAGS = re.compile(r"^(?:\s*\[[^\]]*\])*\s*")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_CHANGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Asked:
    """What to review: the words for KERNEL and SERIES; of ``patch`` alone, if that is not 0."""

    kernel: str
    series: str
    patch: int = 0


def asked(mail: bytes, repository: Path, environment: Mapping[str, str]) -> Asked:
    """Return what b4 asks for with ``mail``, in ``repository`` and with the variables it has set.

    HarnessError (exit 2) if the mail is one of several, and the others are nowhere to be found.
    """
    what = "the mail from b4"
    if not mail.strip():
        raise HarnessError(what, "nothing came by standard input", hint="b4 calls this command")
    message = email.message_from_bytes(mail, policy=email.policy.default)
    subject = " ".join(str(message.get("Subject", "")).split())
    numbers = _NUMBER.search(subject)
    number, total = (int(numbers["number"]), int(numbers["total"])) if numbers else (1, 1)
    tracked = environment.get(TRACKING)
    if tracked:
        # A patch alone is asked for only where there is more than one.
        return Asked(str(repository), _tracked(Path(tracked)), number if total > 1 else 0)
    body = _body(mail).decode(errors="replace")
    title = _TAGS.sub("", subject)
    commit = commits.of_patch(repository, title, [*commits.changed_lines(body)]) if number else None
    if commit is not None:
        return Asked(str(repository), f"{commit}~{number}..{commit}", number)
    if total > 1:
        raise HarnessError(
            what,
            f"is number {number} of {total}, and b4 says nothing of the others",
            hint="check the series out for review, so that b4 sets B4_TRACKING_FILE",
        )
    return Asked(str(repository), str(mail_files.keep("b4", ".mbox", _decoded(message, mail))))


def _tracked(file: Path) -> str:
    """Return the range of commits of the series that b4's record in ``file`` describes.

    HarnessError (exit 2) if the file is no such record.
    """
    what = f"{TRACKING}={file}"
    try:
        series: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["series"]
        first, change = str(series["first-patch-commit"]), str(series["change-id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HarnessError(
            what, f"is no record of a series: {error}", hint="this command is for b4 0.16"
        ) from error
    if not _COMMIT.fullmatch(first) or not _CHANGE.fullmatch(change):
        raise HarnessError(
            what, "has no first commit or no change-id", hint="check the series out for review"
        )
    return f"{first}~1..b4/review/{change}~1"


def _body(mail: bytes) -> bytes:
    """Return what follows the headers."""
    return re.split(rb"\r?\n\r?\n", mail, maxsplit=1)[-1]


def _decoded(message: email.message.EmailMessage, mail: bytes) -> bytes:
    """Return ``mail`` without its transfer encoding: b4 decodes the body and keeps the header."""
    del message["Content-Transfer-Encoding"]
    head = "".join(f"{name}: {' '.join(str(value).split())}\n" for name, value in message.items())
    return head.encode(errors="replace") + b"\n" + _body(mail)
