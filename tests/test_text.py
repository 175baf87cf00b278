# SPDX-License-Identifier: GPL-2.0-only
"""Text from a guest is sanitized before it reaches a terminal or an XML file."""

from __future__ import annotations

import random
import unicodedata

import pytest

from kpatch.lib import sanitize


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("one\r\ntwo\rthree", "one\ntwothree"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a new title\x07rest", "rest"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;left open\nrest", "\nrest"),
        ("\x1bPsixel\x1b\\rest", "rest"),
        ("\x1b(Bset", "set"),
        ("\x1bcreset", "reset"),
        ("\x9b31mC1", "31mC1"),
        ("nul\x00 del\x7f bell\x07", "nul del bell"),
        ("over\u202eride \u2066isolate\u2069", "override isolate"),
        ("half \ud800 pair", "half  pair"),
        ("\ufffe\uffff", ""),
        ("Übung €", "Übung €"),
    ],
)
def test_clean(raw: str, cleaned: str) -> None:
    assert sanitize.clean(raw) == cleaned


def test_nothing_that_a_terminal_obeys_is_left() -> None:
    chance = random.Random(1)  # noqa: S311
    alphabet = [chr(code) for code in (*range(0x100), 0x202E, 0xD801, 0xFFFF)]
    for _ in range(3000):
        cleaned = sanitize.clean("".join(chance.choices(alphabet, k=40)))
        assert not {char for char in cleaned if unicodedata.category(char)[0] == "C"} - {
            "\n",
            "\t",
            "\xad",  # soft hyphen
        }
        assert sanitize.clean(cleaned) == cleaned


def test_line() -> None:
    assert sanitize.line("\n \n  first \t line \nsecond") == "first line"
    assert sanitize.line("") == ""
    assert sanitize.line("x" * 600) == "x" * 499 + "…"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (312, "5m12s"),
        (3599.9, "1h00m"),
        (3720, "1h02m"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert sanitize.duration(seconds) == shown
