# SPDX-License-Identifier: GPL-2.0-only
"""The environment of every program that the harness starts: a short list, and nothing beside.

What else a user has set (MAKEFLAGS, KBUILD_*, CC, CPATH, CCACHE_*, GIT_*, PYTHON*, LD_PRELOAD,
BASH_ENV, …) would change a build or a run without anybody having asked for it in the command that
is recorded.
"""

from __future__ import annotations

import os

# Who and where the user is. HOME is for programs that keep state there; see `kpatch.confine` for
# those that run what a series says.
PASSED_ON = ("HOME", "LOGNAME", "PATH", "TMPDIR", "USER")

# How the network is reached: for downloads alone.
NETWORK = (
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("APT_CONFIG", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
)


def clean(**more: str) -> dict[str, str]:
    """Return the environment for a program: the listed variables, English messages, ``more``."""
    return _kept(PASSED_ON) | {"LC_ALL": "C"} | more


def downloading(**more: str) -> dict[str, str]:
    """Return the environment for a program that fetches something: `clean`, and how to get out."""
    return clean(**_kept(NETWORK)) | more


def _kept(names: tuple[str, ...]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}
