# SPDX-License-Identifier: GPL-2.0-only
"""What the suite asks of kmemleak, on files in its place."""

from __future__ import annotations

from pathlib import Path

from ktests import leaks


def test_kernel_without_it(tmp_path: Path) -> None:
    leaks.look(tmp_path / "kmemleak", kmsg=tmp_path / "kmsg")
    assert list(tmp_path.iterdir()) == []


def test_what_is_found_goes_to_the_console(tmp_path: Path) -> None:
    kmemleak = tmp_path / "kmemleak"
    kmemleak.write_text("unreferenced object 0x1 (size 8):\n  backtrace\n")
    leaks.look(kmemleak, kmsg=tmp_path / "kmsg", age=0)
    assert kmemleak.read_text() == "scan"
    assert (tmp_path / "kmsg").read_text() == "<5>scan\n"
