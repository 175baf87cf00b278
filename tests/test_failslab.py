# SPDX-License-Identifier: GPL-2.0-only
"""Allocations that fail on demand: the files that ktests/failslab.py writes and reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from ktests import failslab

SYMBOLS = """\
ffffffff81000200 t behind
ffffffff81000100 T probe
ffffffff81000180 d data
ffffffff81000140 T probe.cold
ffffffff81000300 t twice
ffffffff81000400 t twice
ffffffff81000500 t of_a_module	[edu]
ffffffff81000600 T last
"""

SETTINGS = {
    "ignore-gfp-wait": "Y",
    "stacktrace-depth": "32",
    "require-start": "0",
    "require-end": "18446744073709551615",
    "verbose": "2",
}


@pytest.fixture
def symbols(tmp_path: Path) -> Path:
    path = tmp_path / "kallsyms"
    path.write_text(SYMBOLS)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of /sys/kernel/debug/failslab."""
    made = tmp_path / "failslab"
    made.mkdir()
    for name, value in (SETTINGS | {"times": "1", "probability": "0"}).items():
        (made / name).write_text(f"{value}\n")
    return made


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in folder.iterdir()}


def test_range_ends_at_the_next_function(symbols: Path) -> None:
    assert failslab.text_range("probe", symbols) == (0xFFFFFFFF81000100, 0xFFFFFFFF81000140)
    assert failslab.text_range("of_a_module", symbols)[1] == 0xFFFFFFFF81000600
    assert failslab.has("probe", symbols)


@pytest.mark.parametrize(("function", "count"), [("none", 0), ("data", 0), ("twice", 2)])
def test_function_that_is_not_one(symbols: Path, function: str, count: int) -> None:
    with pytest.raises(LookupError, match=f"{function}: {count} functions"):
        failslab.text_range(function, symbols)
    assert not failslab.has(function, symbols)


def test_settings_come_back(folder: Path, symbols: Path) -> None:
    before = content(folder)
    with pytest.raises(ZeroDivisionError), failslab.within("probe", folder=folder, symbols=symbols):
        assert content(folder) == before | {
            "ignore-gfp-wait": "N",
            "require-start": "0xffffffff81000100",
            "require-end": "0xffffffff81000140",
            "verbose": "0",
        }
        raise ZeroDivisionError
    assert content(folder) == before


@pytest.mark.parametrize(("left", "happened"), [("0", True), ("2", False)])
def test_the_kernel_counts_down(tmp_path: Path, left: str, happened: bool) -> None:
    """The kernel is simulated: a file that the test writes."""
    file = tmp_path / "fail-nth"
    file.write_text("")
    with failslab.nth(3, file) as failure:
        assert file.read_text() == "3"
        file.write_text(left)
    assert failure.happened is happened
    assert file.read_text() == "0"


def test_every_allocation_fails_until_the_end(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), failslab.every(folder):
        assert (content(folder)["times"], content(folder)["probability"]) == ("-1", "100")
        raise ZeroDivisionError
    assert content(folder)["probability"] == "0"
