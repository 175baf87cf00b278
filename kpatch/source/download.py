# SPDX-License-Identifier: GPL-2.0-only
"""Downloading a file that the user named by its address and its sha256."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib.stage import Stage
from kpatch.tables.outcomes import ExitCode

SCHEMES = ("https", "http")

# A kernel's .tar.xz is 130–170 MB, its .tar.gz 250 MB.
MAX_BYTES = 2 << 30

CONNECT_SECONDS = 15.0
SILENCE_SECONDS = 60.0
CHUNK = 1 << 18
TICK_SECONDS = 0.1


# Of a URL: a user's name and password, up to the last @ of the authority; the same where a password
# with a slash in it was not quoted, which ends the authority at what is no port; and a query,
# which may be a token.
_SECRETS = (
    (re.compile(r"(?<=://)[^/?#\s]*@"), ""),
    (re.compile(r"(?<=://)[^/?#\s@\[\]]*:[^/?#\s@]*[^/?#\s@\d][/?#]\S*@"), ""),
    (re.compile(r"\?[^\s#'\")]+"), "?…"),
)


def public(text: str) -> str:
    """Return a URL, or a text with URLs, without secrets: what may be recorded and printed."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def fetch(url: str, to: Path, *, sha256: str, what: str, stage: Stage) -> None:
    """Write what ``url`` gives to the new file ``to``.

    HarnessError if it does not have that ``sha256`` (exit 2), or cannot be had (exit 2 if the
    server says so, exit 7 if the network does); the caller's folder then holds a useless file.
    """
    # Here, as both take 0.1 s to import and most runs download nothing.
    import requests
    import urllib3

    stage.note(f"downloading {public(url)}")
    stage.command(("curl", "--fail", "--location", "--output", to.name, public(url)))
    try:
        found = _stream(url, to, what=what, stage=stage)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise HarnessError(
            what,
            f"the download failed ({type(error).__name__})",
            mend="look at the network and try again",
            code=ExitCode.LOST,
            details=public(str(error)),
        ) from error
    check(found, sha256, what=what)


def check(found: str, wanted: str, *, what: str) -> None:
    """HarnessError (exit 2) unless the two sha256 are one."""
    if found != wanted.lower():
        raise HarnessError(
            what, f"the sha256 is {found}", mend="get the file again, or correct the sha256"
        )


def _stream(url: str, to: Path, *, what: str, stage: Stage) -> str:
    """Download to ``to``; the sha256 of what came."""
    import requests

    sha = hashlib.sha256()
    done = 0
    ticked = 0.0
    # The bytes as they lie on the server: a .tar.gz may be announced as an encoding.
    headers = {"Accept-Encoding": "identity"}
    timeout = (CONNECT_SECONDS, SILENCE_SECONDS)
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        if answer.status_code != requests.codes.ok:
            raise HarnessError(
                what,
                f"the server answers {answer.status_code} {answer.reason}",
                mend="correct the URL",
            )
        length = answer.headers.get("Content-Length", "")
        total = float(length) if length.isdecimal() else None
        with to.open("xb") as file:
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                sha.update(chunk)
                done += len(chunk)
                if done > MAX_BYTES:
                    raise HarnessError(
                        what,
                        f"is larger than {MAX_BYTES >> 30} GiB",
                        mend="give a kernel's tarball",
                    )
                if time.monotonic() - ticked > TICK_SECONDS:
                    ticked = time.monotonic()
                    stage.advance(done, total)
    return sha.hexdigest()
