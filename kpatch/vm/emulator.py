# SPDX-License-Identifier: GPL-2.0-only
"""Faults of the emulator itself, told from a VM that hangs. Pure functions, no I/O.

Source of the formats: QEMU 7.2 and 10.0, target/i386/cpu-dump.c ("info lapic", "info registers").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

# What a kernel says of timers that QEMU gave it and that do not work; no kernel under test can
# change what it measures there. Seen with QEMU 7.2 on a busy machine.
CONSOLE_SIGNS = (
    # kernel/time/tick-oneshot.c: the local APIC's timer failed its calibration
    "Clockevents: could not switch to one-shot mode: lapic is not functional",
)

# Of EFLAGS: interrupts are on.
INTERRUPTS_ON = 0x200

_LVTT = re.compile(r"^LVTT\s+0x\w+ (?P<words>.*)$", re.MULTILINE)
_TIMER = re.compile(r"initial_count = (?P<initial>\d+) current_count = (?P<current>\d+)")
_PENDING = re.compile(r"^(?:ISR|IRR)\s+(?!\(none\))\S", re.MULTILINE)
_CPU = re.compile(r"^CPU#(\d+)\s*$", re.MULTILINE)
_FLAGS = re.compile(r"\b[RE]FL=([0-9a-f]+) .*\bHLT=([01])")


@dataclass(frozen=True)
class Timer:
    """The timer of a CPU's local APIC; ``pending``: an interrupt is on its way or being handled."""

    armed_once: bool
    initial: int
    current: int
    pending: bool

    @property
    def overdue(self) -> bool:
        """Whether it was armed, has run out, and no interrupt came of it or is to come.

        Linux arms a one-shot timer anew after each interrupt, or stops it (count 0, masked).
        """
        return self.armed_once and self.initial > 0 and self.current == 0 and not self.pending


def fault(rounds: Sequence[Mapping[str, str]], console: str) -> str:
    """Describe what the emulator did wrong, "" if nothing shows.

    ``rounds`` are what the monitor answered to "registers -a" and "lapic N", asked some time apart:
    in a single round a sound machine may look alike for the moment between count and interrupt.
    """
    lost = list(_lost_timers(rounds))
    # Without a lost interrupt a sign says only that the machine was busy when it booted: the kernel
    # does without that timer, and a series may hang there as anywhere else.
    signs = [sign for sign in CONSOLE_SIGNS if lost and sign in console]
    return "; ".join([*lost, *signs])


def _lost_timers(rounds: Sequence[Mapping[str, str]]) -> Iterator[str]:
    seen = [_overdue(answers) for answers in rounds]
    if len(seen) < 2:
        return
    for cpu, timer in seen[0].items():
        if all(other.get(cpu) == timer for other in seen):
            yield (
                f"the emulator lost a timer interrupt: CPU {cpu} is halted, its timer has run out "
                f"({timer.initial} to 0), and nothing is pending"
            )


def _overdue(answers: Mapping[str, str]) -> dict[int, Timer]:
    """The CPUs that wait for a timer that is overdue."""
    waiting = halted(answers.get("registers -a", ""))
    found = {}
    for what, text in answers.items():
        name, _, number = what.partition(" ")
        if name == "lapic" and number.isdigit() and int(number) in waiting:
            timer = parse(text)
            if timer is not None and timer.overdue:
                found[int(number)] = timer
    return found


def parse(text: str) -> Timer | None:
    """Read the answer to "info lapic N"; None if it is not one."""
    lvtt, counts = _LVTT.search(text), _TIMER.search(text)
    if lvtt is None or counts is None:
        return None
    words = lvtt["words"].split()
    return Timer(
        armed_once="one-shot" in words and "masked" not in words,
        initial=int(counts["initial"]),
        current=int(counts["current"]),
        pending=_PENDING.search(text) is not None,
    )


def halted(text: str) -> frozenset[int]:
    """Read from the answer to "info registers -a" the CPUs that wait with interrupts on."""
    parts = _CPU.split(text)
    found = set()
    for number, registers in zip(parts[1::2], parts[2::2], strict=True):
        flags = _FLAGS.search(registers)
        if flags is not None and flags[2] == "1" and int(flags[1], 16) & INTERRUPTS_ON:
            found.add(int(number))
    return frozenset(found)
