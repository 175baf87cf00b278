# SPDX-License-Identifier: GPL-2.0-only
"""How long things may take before they count as hung: data, no logic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Seconds.

    ``boot`` bounds every time in which no test runs: a kernel of the plain flavor is up in 5 s
    under emulation on an idle machine. ``test`` bounds a test that has no mark of its own,
    ``run`` all VMs of one series together. All are multiplied by the flavor's slowness.
    """

    boot: float = 150
    test: float = 60
    run: float = 1800


DEFAULTS = Limits()
