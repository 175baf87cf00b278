# SPDX-License-Identifier: GPL-2.0-only
"""Find the series that b4 wants to have checked, from the one mail that b4 hands over.

b4 0.16 runs a command in the top folder of the user's git repository and writes one mail to its
standard input:

- ``b4 prep --check`` (setting b4.prep-perpatch-check-cmd) and ``b4 review``
  (b4.review-perpatch-check-cmd) run it once for each patch, and write that patch;
- ``b4 review`` (b4.review-series-check-cmd) runs it once, and writes the cover letter, or the patch
  of a series of one patch.

In ``b4 review`` the variable B4_TRACKING_FILE names a file with b4's record of the series. The
patches are commits of the branch b4/review/CHANGE-ID: from the commit ``first-patch-commit`` of the
record to the last but one, as the last commit of the branch is b4's own. For a series without that
branch b4 does not set the variable.
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
    """The review that b4 asks for: the values of KERNEL and SERIES.

    ``patch`` is the number of the patch whose findings b4 wants, 0 for those of all patches.
    """

    kernel: str
    series: str
    patch: int = 0


def asked(mail: bytes, repository: Path, environment: Mapping[str, str]) -> Asked:
    """Return the review that b4 asks for.

    ``mail`` is the standard input, ``repository`` the current folder, ``environment`` has the
    variables of the command that b4 runs. The series is that of b4's record, if there is one; else
    the commits up to the one that equals the mail's patch; else the mail itself. HarnessError
    (exit 2) if the mail is empty, if the record cannot be used, or if the mail is one of several
    and the others are not found; and the errors of `kpatch.source.commits.of_patch`.
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
        # The mail of a series of one patch asks for the whole series.
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
    """Return the range of commits (BASE..TIP) of the series that b4's record in ``file`` describes.

    HarnessError (exit 2) if the file is no record of b4, or names no first commit or change-id.
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
    """Return the body of ``mail``: what follows the first blank line."""
    return re.split(rb"\r?\n\r?\n", mail, maxsplit=1)[-1]


def _decoded(message: email.message.EmailMessage, mail: bytes) -> bytes:
    """Return ``mail`` without the header Content-Transfer-Encoding; each header becomes one line.

    b4 decodes the body, but keeps that header, so that a reader would decode the body again.
    ``message`` is the parsed ``mail``; the header is removed from it, too.
    """
    del message["Content-Transfer-Encoding"]
    head = "".join(f"{name}: {' '.join(str(value).split())}\n" for name, value in message.items())
    return head.encode(errors="replace") + b"\n" + _body(mail)
