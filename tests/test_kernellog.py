# SPDX-License-Identifier: GPL-2.0-only
"""Writing to the kernel's log, with a file in its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ktests import kernellog

# devkmsg_write() refuses more bytes at once: LOG_LINE_MAX of 6.1 with CONFIG_PRINTK_CALLER.
LARGEST = 976


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Make the file "kmsg", and return what each write(2) writes to it."""
    (tmp_path / "kmsg").write_text("before\n")
    pieces: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _, data: pieces.append(data))
    return pieces


def test_each_line_is_a_record(tmp_path: Path) -> None:
    file = tmp_path / "kmsg"
    file.write_text("before\n")
    kernellog.write("one\n\ntwo", file)
    assert file.read_text() == "before\n<5>one\n<5>\n<5>two\n"


def test_long_line_is_written_in_pieces(tmp_path: Path, written: list[bytes]) -> None:
    line = "".join(f"{number:04} " for number in range(1000))
    kernellog.write(f"{line}\nshort", tmp_path / "kmsg")
    assert all(len(data) <= LARGEST for data in written)
    texts = [data.decode().removeprefix("<5>").removesuffix("\n") for data in written]
    assert ("".join(texts[:-1]), texts[-1]) == (line, "short")


def test_text_that_is_no_utf8_is_written(tmp_path: Path, written: list[bytes]) -> None:
    """The error of a user's mechanism can hold any text."""
    kernellog.write("a\udc80b", tmp_path / "kmsg")
    assert written == [b"<5>a\\udc80b\n"]


def test_no_file_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kernellog.write("x", tmp_path / "kmsg")
    assert list(tmp_path.iterdir()) == []
