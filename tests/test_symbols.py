# SPDX-License-Identifier: GPL-2.0-only
"""Kernel addresses translated to names."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpatch.run.symbols import Symbols

MAP = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000040 t do_one_initcall
ffffffff81000100 T _end
"""


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0xFFFFFFFF81000000, "_text+0x0"),
        (0xFFFFFFFF8100003F, "_text+0x3f"),
        (0xFFFFFFFF81000040, "do_one_initcall+0x0"),
        (0xFFFFFFFFFFFFFFFF, "_end+0x7efffeff"),
    ],
)
def test_name(address: int, name: str) -> None:
    assert Symbols(MAP).name(address) == name


def test_before_the_first() -> None:
    assert Symbols("ffffffff81000000 T _text\n").name(0x1000) == ""


def test_registers() -> None:
    told = "CPU#0\nRIP=ffffffff81000042 RFL=00000246\nCPU#1\nRIP=ffffffff81000001 RFL=0\n"
    assert Symbols(MAP).annotated(told) == (
        "CPU#0\nRIP=ffffffff81000042 (do_one_initcall+0x2) RFL=00000246\n"
        "CPU#1\nRIP=ffffffff81000001 (_text+0x1) RFL=0\n"
    )


def test_of_an_image(tmp_path: Path) -> None:
    image = tmp_path / "bzImage"
    assert Symbols.of(image).name(0xFFFFFFFF81000042) == ""
    (tmp_path / "System.map").write_text(MAP)
    assert Symbols.of(image).name(0xFFFFFFFF81000042) == "do_one_initcall+0x2"
