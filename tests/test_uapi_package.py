# SPDX-License-Identifier: GPL-2.0-only
"""The package uapi as a whole: its modules, and the base class of its errors."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

from uapi import errors

ROOT = Path(__file__).parent.parent


def test_a_module_is_imported_when_it_is_used() -> None:
    program = (
        "import sys, uapi\n"
        "assert not [name for name in sys.modules if name.startswith('uapi.')]\n"
        "assert uapi.vfio.Device and not hasattr(uapi, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_one_base_class_of_all_errors() -> None:
    found = {
        value
        for path in (ROOT / "uapi").glob("[!_]*.py")
        for value in vars(importlib.import_module(f"uapi.{path.stem}")).values()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__.startswith("uapi.")
    }
    assert len(found) > 5
    assert {value for value in found if not issubclass(value, errors.Error)} == set()
    assert issubclass(errors.UapiError, OSError)
    assert issubclass(errors.FormatError, ValueError)
