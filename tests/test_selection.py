# SPDX-License-Identifier: GPL-2.0-only
"""Which tests a selection can match, computed before the tests are collected."""

from __future__ import annotations

import pytest

from ktests.selection import Selection

KEYWORDS = {"test_value", "ktests/test_format.py", "REQ-EVT-07", "parametrize"}


@pytest.mark.parametrize(
    ("expression", "possible"),
    [
        ("", True),
        ("REQ-EVT", True),
        ("req-evt-07", True),
        ("REQ-EVT-08", False),
        ("REQ-DEL or REQ-EVT-07", True),
        ("REQ-DEL or REQ-ISO", False),
        ("not REQ-EVT", False),
        ("value", True),
        ("format and not REQ-EVT-07", False),
        # A test parameter may have this name.
        ("0x81", True),
        ("not 0x81", True),
        ("0x81 and REQ-DEL", False),
        ("REQ-EVT and not test_tools", True),
        ("REQ-DEL and not test_tools", False),
        ("REQ-DEL and (0x1 or 0x2 or 0x3 or 0x4 or 0x5)", True),  # too many names to try all values
        ("REQ-DEL and (0x1 or 0x2 or 0x3 or 0x4)", False),
        ("test_value[netlink-0x80] or REQ-DEL", True),
        # No parameter is called like a test, so that these are not tried.
        ("test_burst", False),
        ("test_burst and 64 or test_a or test_b or test_c or test_d or test_e", False),
        ("test_burst or test_value and 0x81", True),
        # pytest says what is wrong with it.
        ("and and", True),
        ("REQ-DEL > REQ-EVT-07", True),  # valid Python
        ("REQ-DEL(", True),
    ],
)
def test_possible(expression: str, possible: bool) -> None:
    assert Selection(expression).possible(KEYWORDS) is possible
