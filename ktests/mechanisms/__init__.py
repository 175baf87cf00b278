# SPDX-License-Identifier: GPL-2.0-only
"""The mechanisms that the suite knows, one module each; a new one is a new file in this folder.

A module is named like the mechanism and has its record, a `ktests.mechanism.Mechanism`, in RECORD.
The host's side of each is a row in kpatch/tables/mechanisms.py.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ktests.mechanism import Mechanism


def find() -> dict[str, Mechanism]:
    """Return the record of each module in the package's folders, by name."""
    files = (file for folder in __path__ for file in Path(folder).glob("*.py"))
    names = sorted(file.stem for file in files if file.stem != "__init__")
    return {name: import_module(f"{__name__}.{name}").RECORD for name in names}


RECORDS: dict[str, Mechanism] = find()
"""All records by name. They are loaded at once: under emulation one by one would take longer."""
