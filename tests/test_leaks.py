# SPDX-License-Identifier: GPL-2.0-only
"""The suite's use of kmemleak, with files in its place."""

from __future__ import annotations

from pathlib import Path, PosixPath
from typing import ClassVar

import pytest

from ktests import leaks

LEAK = "unreferenced object 0x1 (size 8):\n  backtrace:\n"


def test_kernel_without_it(tmp_path: Path) -> None:
    leaks.look(tmp_path / "kmemleak", kmsg=tmp_path / "kmsg")
    assert list(tmp_path.iterdir()) == []


class Kmemleak(PosixPath):
    """The kernel's file: writing runs a command, reading returns the results of scans.

    An object is reported if two consecutive scans have found it unchanged (update_checksum() in
    mm/kmemleak.c).
    """

    commands: ClassVar[list[str]]

    def write_text(self, data: str, *_: object, **__: object) -> int:
        """Run the command."""
        self.commands.append(data)
        return len(data)

    def read_text(self, *_: object, **__: object) -> str:
        """Return the results of the scans."""
        return LEAK if self.commands.count("scan") > 1 else ""


def test_what_is_found_goes_to_the_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kmemleak, "commands", [], raising=False)
    kmemleak = Kmemleak(tmp_path / "kmemleak")
    kmemleak.touch()
    (tmp_path / "kmsg").touch()
    leaks.look(kmemleak, kmsg=tmp_path / "kmsg", age=0)
    assert kmemleak.commands == ["scan", "scan"]
    lines = (tmp_path / "kmsg").read_text().splitlines()
    assert lines == ["<5>unreferenced object 0x1 (size 8):", "<5>  backtrace:"]
