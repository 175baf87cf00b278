# SPDX-License-Identifier: GPL-2.0-only
"""Time limits after which a boot, a test or a run counts as hung: data, no logic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Time limits in seconds for the plain flavor; other flavors multiply them by their slowness.

    ``boot`` limits each interval in which no test runs, the boot among them: a kernel of the plain
    flavor boots in 5 s under emulation on an idle machine. ``test`` limits each test that has no
    limit of its own, ``run`` the time of all VMs of one series together.
    """

    boot: float = 150
    test: float = 60
    run: float = 1800


DEFAULTS = Limits()
