# SPDX-License-Identifier: GPL-2.0-only
"""Kernel versions, as far as the suite goes by them."""

from __future__ import annotations

import os
import re

Line = tuple[int, ...]

NEWEST: Line = (7, 3)
"""The newest release whose uAPI was looked at. A later one may have further flags and members."""


def line(release: str) -> Line:
    """The release line that a kernel is of: of "7.3.4-rc1" 7 and 3."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])


def running() -> Line:
    """The release line of the running kernel."""
    return line(os.uname().release)


def known() -> bool:
    """Whether the suite knows everything that the running kernel has."""
    return running() <= NEWEST
