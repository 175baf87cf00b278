# SPDX-License-Identifier: GPL-2.0-only
"""Kernel versions, as far as the suite goes by them."""

from __future__ import annotations

import os

from ktests.contract import Line, release_line

NEWEST: Line = (7, 3)
"""The newest release whose uAPI was looked at. A later one may have further flags and members."""


def running() -> Line:
    """The release line of the running kernel."""
    return release_line(os.uname().release)


def known() -> bool:
    """Whether the suite knows everything that the running kernel has."""
    return running() <= NEWEST
