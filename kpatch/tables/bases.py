# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that a series can be applied to: data, no logic.

Adding one is adding a row; tests/test_bases.py tells which lists in texts, series and golden files
have to name it too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Base:
    """A kernel release line and the Debian suites that may have its source package.

    ``suites`` are tried in order in the archives of the system's apt sources; the first that has
    ``linux-source-<name>`` is used.
    """

    name: str
    suites: tuple[str, ...]


BASES: dict[str, Base] = {
    base.name: base
    for base in (
        Base("7.3", ("trixie-backports", "forky", "sid")),
        Base("6.12", ("bookworm-security", "bookworm", "trixie-security", "trixie")),
        Base("6.1", ("bookworm-security", "bookworm")),
    )
}

DEFAULT_BASE = "7.3"
