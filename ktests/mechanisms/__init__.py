# SPDX-License-Identifier: GPL-2.0-only
"""The mechanisms that the suite knows, one module each. To add a mechanism, add a module here.

The RECORD of each module is a `ktests.mechanism.Mechanism`, whose name is that of the module.
On the host, each mechanism is a row in kpatch/tables/mechanisms.py.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ktests.mechanism import Mechanism


def find() -> dict[str, Mechanism]:
    """Import every module in this package's folders. Returns their records by name."""
    files = (file for folder in __path__ for file in Path(folder).glob("*.py"))
    names = sorted(file.stem for file in files if file.stem != "__init__")
    records: list[Mechanism] = [import_module(f"{__name__}.{name}").RECORD for name in names]
    return {record.name: record for record in records}


RECORDS: dict[str, Mechanism] = find()
"""The record of each mechanism by name.

All are imported here at once, which is faster under emulation than each at its first use.
"""
