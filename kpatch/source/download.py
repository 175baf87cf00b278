# SPDX-License-Identifier: GPL-2.0-only
"""Download a file by HTTP and check its sha256; remove secrets from URLs."""

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


# Secret parts of a URL and their replacements: user name and password, up to the last @ of the
# authority; the same if the password has an unquoted slash, so that a parser would take its
# beginning for a port; and the query, which may hold a token.
_SECRETS = (
    (re.compile(r"(?<=://)[^/?#\s]*@"), ""),
    (re.compile(r"(?<=://)[^/?#\s@\[\]]*:[^/?#\s@]*[^/?#\s@\d][/?#]\S*@"), ""),
    (re.compile(r"\?[^\s#'\")]+"), "?…"),
)


def public(text: str) -> str:
    """Return ``text`` without user names, passwords and queries (tokens) in its URLs.

    The result may be stored and printed.
    """
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def fetch(url: str, to: Path, *, sha256: str, what: str, stage: Stage) -> None:
    """Download ``url`` to the new file ``to``, and check that it has the digest ``sha256`` (hex).

    HarnessError: exit 2 if the digest differs, the file is larger than MAX_BYTES, or the server
    answers with an error; exit 7 if the network fails. ``what`` names the input in the error. The
    incomplete or wrong file stays in place then; the caller removes it.
    """
    # Imported here: both take 0.1 s to import and most runs download nothing.
    import requests
    import urllib3

    stage.note(f"downloading {public(url)}")
    stage.command(("curl", "--fail", "--location", "--output", to.name, public(url)))
    try:
        digest = _stream(url, to, what=what, stage=stage)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise HarnessError(
            what,
            f"the download failed ({type(error).__name__})",
            hint="look at the network and try again",
            code=ExitCode.LOST,
            details=public(str(error)),
        ) from error
    check_digest(digest, sha256, what=what)


def check_digest(digest: str, wanted: str, *, what: str) -> None:
    """Raise HarnessError (exit 2) if the sha256 ``digest``, in hex, is not ``wanted``.

    ``wanted`` may have upper-case digits. ``what`` names the input in the error.
    """
    if digest != wanted.lower():
        raise HarnessError(
            what, f"the sha256 is {digest}", hint="get the file again, or correct the sha256"
        )


def _stream(url: str, to: Path, *, what: str, stage: Stage) -> str:
    """Download ``url`` to the new file ``to`` and return the sha256 (hex) of its bytes.

    HarnessError (exit 2) if the server answers with an error, or the file is larger than MAX_BYTES.
    Exceptions of requests and urllib3 if the network fails.
    """
    import requests

    sha = hashlib.sha256()
    done = 0
    ticked = 0.0
    # Ask for the bytes as stored: some servers declare a .tar.gz as a content encoding, and the
    # client would unpack it.
    headers = {"Accept-Encoding": "identity"}
    timeout = (CONNECT_SECONDS, SILENCE_SECONDS)
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        if answer.status_code != requests.codes.ok:
            raise HarnessError(
                what,
                f"the server answers {answer.status_code} {answer.reason}",
                hint="correct the URL",
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
                        hint="give a kernel's tarball",
                    )
                if time.monotonic() - ticked > TICK_SECONDS:
                    ticked = time.monotonic()
                    stage.advance(done, total)
    return sha.hexdigest()
