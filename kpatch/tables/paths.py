# SPDX-License-Identifier: GPL-2.0-only
"""Absolute paths of the project's own folders and files: data, no logic."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CODE = ("examples", "kconfig", "kpatch", "ktests", "uapi")
"""The folders of the project that a command of the harness needs."""

CARRIED = PROJECT / "kpatch" / "series" / "carried"
KTESTS = PROJECT / "ktests"
REQUIREMENTS = KTESTS / "requirements.toml"
GOLDEN = PROJECT / "uapi" / "golden"
