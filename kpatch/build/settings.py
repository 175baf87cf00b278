# SPDX-License-Identifier: GPL-2.0-only
"""The variables for make's command line that a flavor and a series demand: input of each build."""

from __future__ import annotations

from kpatch.build import gcov, lines
from kpatch.model import Applied, Config
from kpatch.tables.flavors import FLAVORS


def of(applied: Applied, config: Config) -> tuple[str, ...]:
    """Return those of the flavor of ``config``, and for the sources that the series touches.

    A variant has none of a flavor. With debug information gcov would count declarations as lines.
    """
    flavor = FLAVORS.get(config.flavor)
    if flavor is None:
        return lines.settings(applied)
    touched = gcov.settings(applied) if flavor.gcov else lines.settings(applied)
    return (*flavor.settings, *touched)
