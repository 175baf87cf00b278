# SPDX-License-Identifier: GPL-2.0-only
"""The comparison with syzkaller's logs, on logs in the same form that the test writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import oracle

FILES = {
    "1": "\n[    1.000000] BUG: my false alarm\n",
    "2": "TITLE: WARNING in f\nALT: x\n# a comment\n\n[    1.000000] WARNING: a.c:1 at f+0x1/0x2, "
    "CPU#0: a/1\n\nREPORT:\n[    1.000000] BUG: no part of the log\n",
    "3": "TITLE: KASAN: y\nTYPE: KASAN\n\n[    1.000000] x\n** 5 printk messages dropped **\n",
    "10": "TITLE: BUG: z\n\n[    1.000000] BUG: other\n",
    "11": "TITLE: BUG: not read\n\nBUG: there is no time stamp\n",
    "12": "\n[    1.000000] clean\n",
}


def test_main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("sys.argv", ["oracle", str(tmp_path), "--titles"])
    oracle.main()
    assert capsys.readouterr().out.splitlines() == [
        "1: false alarm: BUG: my false alarm",
        "3: not found: KASAN: y",
        "10: BUG: other, not BUG: z",
        "2 of 3 found, 1 of them with an equal title; 2 clean logs",
    ]
