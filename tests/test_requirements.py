# SPDX-License-Identifier: GPL-2.0-only
"""The loader of the requirements' table."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpatch.errors import HarnessError
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.verdict import requirements
from kpatch.verdict.requirements import Requirement
from ktests import contract

GOOD = """
[REQ-EVT-05]
text = "All 32 bits of a value arrive."
needs = ["netlink", "eventfd"]
[REQ-EVT-05.limits]
netlink = "type is u8"
[REQ-KRN-01]
text = "The device binds."
needs = ["any"]
[REQ-KRN-01.skips]
none = "no port"
[REQ-NEW-01]
text = "The selftests pass."
needs = ["any"]
from = "6.12"
"""


def table(folder: Path, text: str) -> Path:
    path = folder / "requirements.toml"
    path.write_text(text)
    return path


def test_load(tmp_path: Path) -> None:
    loaded = requirements.load(table(tmp_path, GOOD))
    assert list(loaded) == ["REQ-EVT-05", "REQ-KRN-01", "REQ-NEW-01"]
    assert loaded["REQ-EVT-05"] == Requirement(
        id="REQ-EVT-05",
        text="All 32 bits of a value arrive.",
        needs=("netlink", "eventfd"),
        limits={"netlink": "type is u8"},
    )


@pytest.mark.parametrize(
    ("name", "mechanism", "expected"),
    [
        ("REQ-EVT-05", "eventfd", Outcome.PASS),
        ("REQ-EVT-05", "netlink", Outcome.XFAIL),
        ("REQ-EVT-05", "none", Outcome.FAIL),
        ("REQ-EVT-05", "undetected", Outcome.PASS),
        ("REQ-KRN-01", "netlink", Outcome.PASS),
        ("REQ-KRN-01", "none", Outcome.SKIP),
    ],
)
def test_expected(tmp_path: Path, name: str, mechanism: str, expected: Outcome) -> None:
    assert requirements.load(table(tmp_path, GOOD))[name].expected(mechanism) is expected


@pytest.mark.parametrize(
    ("base", "testable"), [("6.1", False), ("6.2", False), ("6.12", True), ("7.3", True)]
)
def test_testable(tmp_path: Path, base: str, testable: bool) -> None:
    loaded = requirements.load(table(tmp_path, GOOD))
    assert contract.testable(loaded["REQ-NEW-01"].first, base) is testable
    assert contract.testable(loaded["REQ-EVT-05"].first, base)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "holds no requirement"),
        ("[", "is no TOML"),
        ("[EVT-1]\n", "'EVT-1' is no id"),
        ("REQ-EVT-01 = 1\n", "is no table"),
        ("[REQ-EVT-01]\ntext = 'x'\n", "has no needs"),
        ("[REQ-EVT-01]\nneeds = ['any']\n", "has no text"),
        ("[REQ-EVT-01]\ntext = ' '\nneeds = ['any']\n", "text is no sentence"),
        ("[REQ-EVT-01]\ntext = 'x'\nneeds = 'any'\n", "needs is no list"),
        ("[REQ-EVT-01]\ntext = 'x'\nneeds = []\n", "needs is no list"),
        ("[REQ-EVT-01]\ntext = 'x'\nneeds = [1]\n", "no mechanism's name"),
        ("[REQ-EVT-01]\ntext = 'x'\nneeds = ['any', 'netlink']\n", "others beside any"),
        ("[REQ-EVT-01]\ntext = 'x'\nneeds = ['host', 'ack']\n", "others beside any or host"),
        ("[REQ-EVT-01]\ntext = 'x'\nneeds = ['any']\nlimit = 1\n", "unknown key 'limit'"),
        ("[REQ-EVT-01]\ntext = 'x'\nneeds = ['any']\nlimits = 1\n", "limits is no table"),
        ("[REQ-EVT-01]\ntext = 'x'\nneeds = ['any']\nfrom = 7.3\n", "from is no release line"),
        ("[REQ-EVT-01]\ntext = 'x'\nneeds = ['any']\nfrom = 'new'\n", "from is no release line"),
        (
            "[REQ-EVT-01]\ntext = 'x'\nneeds = ['any']\nflavors = ['slow']\n",
            "flavors is no list of flavors",
        ),
        (
            "[REQ-EVT-01]\ntext = 'x'\nneeds = ['any']\nflavors = []\n",
            "flavors is no list of flavors",
        ),
        (
            "[REQ-EVT-01]\ntext = 'x'\nneeds = ['any']\n[REQ-EVT-01.skips]\nnone = 1\n",
            "skips of 'none' gives no reason",
        ),
        (
            "[REQ-EVT-01]\ntext = 'x'\nneeds = ['eventfd']\n[REQ-EVT-01.limits]\nnetlink = 'x'\n",
            "limits 'netlink', which does not promise it",
        ),
    ],
)
def test_refused(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(HarnessError) as error:
        requirements.load(table(tmp_path, text))
    assert cause in error.value.cause
    assert (error.value.what, error.value.hint) == (
        "requirements.toml",
        "correct the table of requirements",
    )
    assert "\n" not in str(error.value)
    assert error.value.code is ExitCode.LOST


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="No such file"):
        requirements.load(tmp_path / "none.toml")


ASKED = """
[REQ-A-01]
text = 'every kernel'
needs = ['any']
[REQ-A-02]
text = 'one mechanism'
needs = ['netlink']
[REQ-A-03]
text = 'the other one, on newer kernels'
needs = ['eventfd']
from = '7.3'
[REQ-A-04]
text = 'no other one'
needs = ['none', 'netlink']
[REQ-A-09]
text = 'no kernel'
needs = ['host']
""".replace("REQ-A", "REQ-AAA")


@pytest.mark.parametrize(
    ("mechanism", "base", "numbers"),
    [
        ("none", None, "1234"),
        ("none", "6.12", "124"),
        ("netlink", None, "124"),
        ("eventfd", None, "13"),
        ("eventfd", "7.3", "13"),
        ("eventfd", "6.1", "1"),
        ("undetected", None, "14"),
        ("unknown", None, "1"),
    ],
)
def test_asked(tmp_path: Path, mechanism: str, base: str | None, numbers: str) -> None:
    found = requirements.asked(requirements.load(table(tmp_path, ASKED)), mechanism, base)
    assert found == {f"REQ-AAA-0{number}" for number in numbers}


@pytest.mark.parametrize(
    ("flavor", "numbers"),
    [(None, "1345"), ("debug", "1345"), ("lockdep", "1345"), ("plain", "134")],
)
def test_asked_of_a_flavor(tmp_path: Path, flavor: str | None, numbers: str) -> None:
    slow = "[REQ-AAA-05]\ntext = 'slow'\nneeds = ['eventfd']\nflavors = ['debug', 'lockdep']\n"
    loaded = requirements.load(table(tmp_path, ASKED + slow))
    found = requirements.asked(loaded, "none", negative=("eventfd",), flavor=flavor)
    assert found == {f"REQ-AAA-0{number}" for number in numbers}


@pytest.mark.parametrize(
    ("mechanisms", "flavor", "found"),
    [
        ({"none", "eventfd"}, "plain", {"REQ-AAA-05": "debug"}),
        ({"none", "eventfd"}, "debug", {}),
        ({"none", "netlink"}, "plain", {}),
    ],
)
def test_what_takes_another_flavor_is_known(
    tmp_path: Path, mechanisms: set[str], flavor: str, found: dict[str, str]
) -> None:
    slow = "[REQ-AAA-05]\ntext = 'slow'\nneeds = ['eventfd']\nflavors = ['debug', 'lockdep']\n"
    loaded = requirements.load(table(tmp_path, ASKED + slow))
    assert requirements.of_other_flavors(loaded, mechanisms, flavor) == found
