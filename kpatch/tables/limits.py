# SPDX-License-Identifier: GPL-2.0-only
"""Time limits after which a boot, a test or a run counts as hung: data, no logic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Time limits in seconds, multiplied by the flavor's slowness.

    ``boot`` is for every interval in which no test runs; a kernel of the plain flavor boots in 5 s
    under emulation on an idle machine. ``test`` is for a test without a limit of its own, ``run``
    for all VMs of one series together.
    """

    boot: float = 150
    test: float = 60
    run: float = 1800


DEFAULTS = Limits()
