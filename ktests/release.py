# SPDX-License-Identifier: GPL-2.0-only
"""The version of the running kernel, for tests whose expectation depends on it."""

from __future__ import annotations

import os

from ktests.contract import Line, release_line

NEWEST: Line = (7, 3)
"""The newest release whose uAPI the tests cover. Later ones may have further flags and members."""


def running() -> Line:
    """Return the release line of the running kernel, (7, 3) for "7.3.4"."""
    return release_line(os.uname().release)


def known() -> bool:
    """Return whether the running kernel is not newer than `NEWEST`."""
    return running() <= NEWEST
