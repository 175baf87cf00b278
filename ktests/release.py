# SPDX-License-Identifier: GPL-2.0-only
"""The release of the running kernel, for tests whose expected results depend on it."""

from __future__ import annotations

import os

from ktests.contract import Line, release_line

NEWEST: Line = (7, 3)
"""The newest release line whose uAPI the tests know. Later ones may have more flags and members."""


def running() -> Line:
    """Return the release line of the running kernel: (7, 3) for "7.3.4"."""
    return release_line(os.uname().release)


def known() -> bool:
    """Return whether the release line of the running kernel is `NEWEST` or an older one."""
    return running() <= NEWEST
