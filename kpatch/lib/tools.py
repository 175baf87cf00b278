# SPDX-License-Identifier: GPL-2.0-only
"""Check that the programs and files of kpatch/tables/packages.py are installed.

The check runs before the first stage, so that a missing QEMU is not found after minutes of
building.
"""

from __future__ import annotations

from kpatch.errors import HarnessError
from kpatch.lib import process, system
from kpatch.tables import packages


def require_all() -> None:
    """Raise HarnessError (exit 2) if a program or file of kpatch/tables/packages.py is missing."""
    for tool, package in {**packages.BUILD, **packages.RUN}.items():
        process.require_tool(tool, package=package)
    for path, package in packages.FILES.items():
        if not path.is_file():
            raise HarnessError(str(path), "is not there", hint=system.install([package]))
