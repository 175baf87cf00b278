# SPDX-License-Identifier: GPL-2.0-only
"""The bases: the kernel release lines that KERNEL= can name, "7.3" for example. Data, no logic.

To add a base, add a row. tests/test_bases.py then fails for each document, carried series and
golden file that also has to name it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Base:
    """A kernel release line ``name``, and the Debian suites that may have its source package.

    The suites are searched in this order, in the archives of the system's apt sources. The first
    one that has the package ``linux-source-<name>`` is used.
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
