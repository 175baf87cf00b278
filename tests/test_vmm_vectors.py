# SPDX-License-Identifier: GPL-2.0-only
"""The vectors of words and actions, and the relays in C and Rust that are checked by them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import ROOT
from uapi.vmm import vectors
from uapi.vmm.relay import Deliver, Drop, Policy, Relay, Resynchronise, Stop

GOLDEN = ROOT / "uapi" / "vmm" / "golden" / "relay.json"
CLIENTS = ROOT / "uapi" / "vmm" / "clients"
DOCUMENT = json.loads(GOLDEN.read_text())

COMPILERS = {
    "c": ("gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-o"),
    "rs": ("rustc", "--edition=2021", "-Dwarnings", "-o"),
}


def hexadecimal(number: int | None) -> str:
    return "-" if number is None else f"{number:#x}"


LINES: dict[str, Callable[[dict[str, Any]], str]] = {
    "deliver": lambda action: f"deliver {action['value']:#x}",
    "drop": lambda action: f"drop {action['value']:#x} {action['reason']}",
    "resynchronise": lambda action: (
        f"resynchronise {action['lost']} {hexadecimal(action['value'])}"
    ),
    "stop": lambda action: "stop",
}


def line(vector: dict[str, Any]) -> str:
    policy = DOCUMENT["policies"][vector["policy"]]
    numbers = [hexadecimal(policy[name]) for name in ("first", "widest", "resync")]
    return " ".join([*numbers, vector["word"]])


def expected(vector: dict[str, Any]) -> str:
    return "; ".join(LINES[action["action"]](action) for action in vector["actions"])


@pytest.fixture(scope="module", params=COMPILERS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile a relay and return its program."""
    compiler, *options = COMPILERS[request.param]
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed: the relay in {request.param} was NOT checked")
    program = tmp_path_factory.mktemp("client") / "relay"
    argv = [compiler, *options, str(program), str(CLIENTS / f"relay.{request.param}")]
    ended = subprocess.run(
        argv, cwd=program.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return program


def answers(program: Path, lines: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_golden_file_is_current() -> None:
    assert GOLDEN.read_text() == vectors.text(), "python -m uapi.vmm.vectors > that file"


def test_vectors_have_every_action_and_policy() -> None:
    actions = [action for vector in DOCUMENT["vectors"] for action in vector["actions"]]
    assert {action["action"] for action in actions} == set(LINES)
    assert {action.get("reason") for action in actions} == {None, "loopback", "below", "wide"}
    assert {vector["policy"] for vector in DOCUMENT["vectors"]} == set(vectors.POLICIES)


@pytest.mark.parametrize(
    ("word", "actions"),
    [
        (0x1_0000_00D1, (Deliver(0, 0xD1),)),
        (0x1_0000_0003, (Drop(0, 3, "below"),)),
        (0x3_0000_0000, (Drop(0, 0, "loopback"),)),
        (0x0002_0001_0000_0181, (Resynchronise(0, 2, 0xC0), Deliver(0, 0x181))),
        (0x1_0001_0003, (Drop(0, 0x10003, "wide"),)),
        (0x0000_00D1, (Stop(0, "0x00000000000000d1 lacks VALID (bit 32)"),)),
    ],
)
def test_words_worked_out_by_hand(word: int, actions: tuple[object, ...]) -> None:
    assert Relay(Policy(resync=0xC0)).take_word(0, word) == actions


def test_client_agrees_with_the_vectors(client: Path) -> None:
    ended = answers(client, [line(vector) for vector in DOCUMENT["vectors"]])
    assert ended.returncode == 0
    got = ended.stdout.splitlines()
    assert got == [expected(vector) for vector in DOCUMENT["vectors"]]


@pytest.mark.parametrize("line", ["0x80 word", "0x80 0xff -", "0x80 0xff - word"])
def test_client_refuses_what_is_no_vector(client: Path, line: str) -> None:
    assert answers(client, [line]).returncode != 0


# Faults of a relay, and their text in the C program.
FAULTS = {
    "loopback is relayed": ("if (word & WORD_LOOPBACK)", "if (0)"),
    "requests to the guest's kernel are relayed": ("decision.value < policy->first", "0"),
    "wide values are relayed": ("decision.value > policy->widest", "0"),
    "a loss is not told": ("decision.lost = word >> WORD_LOST_SHIFT;", ""),
    "the value is cut to 8 bits": ("(uint32_t)word", "(uint8_t)word"),
    "a foreign word is relayed": ("!(word & WORD_VALID)", "0"),
    "the guest is not asked to resynchronise": ("decision.lost && policy->resyncs", "0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_vectors_find_the_fault(tmp_path: Path, fault: str) -> None:
    source = (CLIENTS / "relay.c").read_text()
    before, after = FAULTS[fault]
    assert source.count(before) == 1
    (tmp_path / "relay.c").write_text(source.replace(before, after))
    program = tmp_path / "relay"
    subprocess.run(
        ["gcc", "-w", "-o", program, tmp_path / "relay.c"], check=True, capture_output=True
    )
    ended = answers(program, [line(vector) for vector in DOCUMENT["vectors"]])
    assert ended.stdout.splitlines() != [expected(vector) for vector in DOCUMENT["vectors"]]
