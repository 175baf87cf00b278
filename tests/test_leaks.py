# SPDX-License-Identifier: GPL-2.0-only
"""The suite's use of kmemleak, with a file in its place."""

from __future__ import annotations

from pathlib import Path, PosixPath
from typing import ClassVar

from ktests import leaks


def test_kernel_without_it(tmp_path: Path) -> None:
    leaks.look(tmp_path / "kmemleak")
    assert list(tmp_path.iterdir()) == []


class Kmemleak(PosixPath):
    """The kernel's file: writing runs a command."""

    commands: ClassVar[list[str]] = []

    def write_text(self, data: str, *_: object, **__: object) -> int:
        """Run the command."""
        self.commands.append(data)
        return len(data)


def test_two_scans(tmp_path: Path) -> None:
    """kmemleak reports an object if two scans in a row have found it unchanged."""
    kmemleak = Kmemleak(tmp_path / "kmemleak")
    kmemleak.touch()
    leaks.look(kmemleak, age=0)
    assert kmemleak.commands == ["scan", "scan"]
