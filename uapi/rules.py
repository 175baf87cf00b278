# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Which rule an ioctl's errno stands for, told from its arguments."""

from __future__ import annotations

from collections.abc import Mapping


def broken(ioctl: str, number: int, facts: Mapping[str, object]) -> str:
    """The rule that was broken, "" if it cannot be told."""
    return ""
