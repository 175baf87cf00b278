# SPDX-License-Identifier: GPL-2.0-only
"""The emulator's own faults, found in the answers of QEMU's monitor about a hung VM.

``data/monitor/real-*.log`` are recordings: two looks each at a guest that sleeps and wakes, without
the registers that the harness does not read. The looks with a lost timer are made from them, with
the numbers of a real case.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kpatch.vm import emulator
from kpatch.vm.emulator import Timer

DATA = Path(__file__).parent / "data" / "monitor"
REAL = {name: (DATA / f"real-{name}.log").read_text() for name in ("7.2", "10.0")}
VERSIONS = pytest.mark.parametrize("version", REAL)


def looks(version: str) -> list[dict[str, str]]:
    """Return the two looks of a recording."""
    found: list[dict[str, str]] = []
    for part in REAL[version].split("\nvfio-acpi: info ")[1:]:
        what, _, answer = part.partition("\n")
        if what == "registers -a":
            found.append({})
        found[-1][what] = answer
    return found


def lost(version: str, cpu: int = 1) -> list[dict[str, str]]:
    """Return two looks in which a CPU waits for ever, as seen in a real case."""
    found = looks(version)
    for answers in found:
        timer = answers[f"lapic {cpu}"]
        timer = re.sub(r"initial_count = .*", "initial_count = 225123 current_count = 0", timer)
        answers[f"lapic {cpu}"] = re.sub(r"(?m)^IRR\t.*$", "IRR\t (none)", timer)
        before, mark, after = answers["registers -a"].partition(f"CPU#{cpu}")
        after = re.sub(r"RFL=\w+ (.*) HLT=\d", r"RFL=00000246 \1 HLT=1", after, count=1)
        answers["registers -a"] = before + mark + after
    return found


@VERSIONS
def test_sound_machine(version: str) -> None:
    assert [len(answers) for answers in looks(version)] == [3, 3]
    assert emulator.fault(looks(version), "") == ""


@VERSIONS
@pytest.mark.parametrize("cpu", [0, 1])
def test_lost_timer(version: str, cpu: int) -> None:
    assert emulator.fault(lost(version, cpu), "") == (
        f"the emulator lost a timer interrupt: CPU {cpu} is halted, its timer has run out "
        "(225123 to 0), and nothing is pending"
    )


@VERSIONS
@pytest.mark.parametrize(
    ("what", "pattern", "instead"),
    [
        ("lapic 1", "current_count = 0", "current_count = 7"),
        ("lapic 1", "initial_count = 225123", "initial_count = 0"),
        ("lapic 1", "initial_count = 225123", "initial_count = 225124"),
        ("lapic 1", r"IRR\t \(none\)", "IRR\t 236"),
        ("lapic 1", r"ISR\t \(none\)", "ISR\t 236"),
        ("lapic 1", "edge                 one-shot", "edge  masked         one-shot"),
        ("lapic 1", "one-shot", "periodic"),
        ("lapic 1", r"(?s)^.*$", "Error: no local APIC"),
        ("registers -a", r"(?s)(CPU#1.*?)HLT=1", r"\1HLT=0"),
        ("registers -a", r"(?s)(CPU#1.*?)RFL=00000246", r"\1RFL=00000046"),
        ("registers -a", r"(?s)^.*$", ""),
    ],
    ids=[
        "runs",
        "not armed",
        "armed anew",
        "on its way",
        "being handled",
        "masked",
        "periodic",
        "no answer",
        "busy",
        "interrupts off",
        "no registers",
    ],
)
def test_what_is_no_lost_timer(version: str, what: str, pattern: str, instead: str) -> None:
    found = lost(version)
    changed = re.sub(pattern, instead, found[1][what], count=1)
    assert changed != found[1][what]
    assert emulator.fault(found, "") != ""
    found[1][what] = changed
    assert emulator.fault(found, "") == ""


def test_one_look_shows_nothing() -> None:
    """The monitor gave only one look. A sound VM may look like that for a moment."""
    first, _ = lost("7.2")
    assert emulator.fault([first], "") == ""
    assert emulator.fault([first, {}], "") == ""
    assert emulator.fault([], "") == ""


def test_answers() -> None:
    first = looks("10.0")[0]
    assert emulator.parse(first["lapic 1"]) == Timer(True, 46999, 9070, pending=False)
    assert emulator.parse(first["lapic 0"]) == Timer(True, 25564, 0, pending=True)
    assert emulator.halted(first["registers -a"]) == {0, 1}
    assert emulator.halted(looks("10.0")[1]["registers -a"]) == {0}
    assert emulator.parse("") is None
    assert emulator.halted("") == frozenset()


def test_timer_that_does_not_work() -> None:
    line = "Clockevents: could not switch to one-shot mode: lapic is not functional."
    console = f"[    1.234567] {line}\n[    1.300000] pci 0000:00:1f.2: x\n"
    assert emulator.fault(looks("7.2"), console) == "", "a hang may be the series' all the same"
    assert emulator.fault([{}, {}], console) == ""
    both = emulator.fault(lost("7.2"), console)
    assert "lost a timer interrupt" in both and "not functional" in both
