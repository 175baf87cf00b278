# SPDX-License-Identifier: GPL-2.0-only
"""Kernel releases as comparable pairs: (6, 12) for 6.12, 6.12.3 and 6.12.0-rc3."""

from __future__ import annotations

import re

Release = tuple[int, int]

_VERSION = re.compile(r"(\d+)\.(\d+)(?![0-9])")


def release(version: str) -> Release:
    """Return the release of the kernel ``version``; ValueError if it does not begin with X.Y."""
    match = _VERSION.match(version)
    if match is None:
        raise ValueError(f"{version!r} is no kernel version")
    return int(match[1]), int(match[2])
