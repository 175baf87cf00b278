# SPDX-License-Identifier: GPL-2.0-only
"""The flavors (kpatch/tables/flavors.py): what their rows promise."""

from __future__ import annotations

import re

from kpatch.tables.flavors import FLAVORS
from kpatch.tables.paths import PROJECT


def test_the_page_has_each_flavor() -> None:
    text = (PROJECT / "docs" / "flavors.md").read_text()
    named = set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE))
    assert named == FLAVORS.keys()
