# SPDX-License-Identifier: GPL-2.0-only
"""Tell whether a VM hangs because QEMU has lost a timer interrupt. Pure functions, no I/O.

The input is the output of QEMU's monitor for "info lapic" and "info registers". Source of these
formats: QEMU 7.2 and 10.0, target/i386/cpu-dump.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

# Messages by which a kernel reports that an emulated timer does not work. It has measured QEMU's
# timers, so a series under test is not the cause. Seen with QEMU 7.2 on a busy machine.
CONSOLE_SIGNS = (
    # kernel/time/tick-oneshot.c: the local APIC's timer failed its calibration
    "Clockevents: could not switch to one-shot mode: lapic is not functional",
)

# Bit IF (9) of EFLAGS: interrupts are enabled.
INTERRUPTS_ON = 0x200

_LVTT = re.compile(r"^LVTT\s+0x\w+ (?P<words>.*)$", re.MULTILINE)
_TIMER = re.compile(r"initial_count = (?P<initial>\d+) current_count = (?P<current>\d+)")
_PENDING = re.compile(r"^(?:ISR|IRR)\s+(?!\(none\))\S", re.MULTILINE)
_CPU = re.compile(r"^CPU#(\d+)\s*$", re.MULTILINE)
_FLAGS = re.compile(r"\b[RE]FL=([0-9a-f]+) .*\bHLT=([01])")


@dataclass(frozen=True)
class Timer:
    """State of a CPU's local APIC timer.

    ``armed_once``: the timer is in one-shot mode and not masked. ``initial`` and ``current`` are
    its initial and current count, in ticks. ``pending``: the local APIC has an interrupt of any
    source that is requested (IRR) or in service (ISR).
    """

    armed_once: bool
    initial: int
    current: int
    pending: bool

    @property
    def overdue(self) -> bool:
        """Return whether the timer has expired and its interrupt was lost.

        Linux arms a one-shot timer again after each interrupt, or stops it (initial count 0,
        masked). So if an armed timer has reached 0 and no interrupt is pending, its interrupt was
        lost.
        """
        return self.armed_once and self.initial > 0 and self.current == 0 and not self.pending


def fault(rounds: Sequence[Mapping[str, str]], console: str) -> str:
    """Return a description of QEMU's fault in a VM that hangs; "" if there is no sign of one.

    ``rounds`` are two or more rounds of the monitor's answers to "info registers -a" and "info
    lapic N", by command without "info", taken some seconds apart. A single round is no proof, and
    gives "": between a timer's expiry and its interrupt, a sound machine gives the same answers for
    a moment. ``console`` is the console's text from the boot. If a timer interrupt was lost, the
    CONSOLE_SIGNS in it are added to the description.
    """
    lost = list(_lost_timers(rounds))
    # Without a lost interrupt, a sign only means that the host was busy during the boot. The kernel
    # then does without that timer, and the series may be the cause of the hang.
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
    """Return the overdue timers (`Timer.overdue`) of the halted CPUs, by CPU number.

    ``answers`` is one round of the monitor's answers, by command.
    """
    waiting = halted(answers.get("registers -a", ""))
    overdue = {}
    for what, text in answers.items():
        name, _, number = what.partition(" ")
        if name == "lapic" and number.isdigit() and int(number) in waiting:
            timer = parse(text)
            if timer is not None and timer.overdue:
                overdue[int(number)] = timer
    return overdue


def parse(text: str) -> Timer | None:
    """Return the state of the timer in ``text``, the answer to "info lapic N".

    Returns None if the text has another format.
    """
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
    """Return the numbers of the CPUs that are halted with interrupts enabled.

    ``text`` is the answer to "info registers -a".
    """
    parts = _CPU.split(text)
    cpus = set()
    for number, registers in zip(parts[1::2], parts[2::2], strict=True):
        flags = _FLAGS.search(registers)
        if flags is not None and flags[2] == "1" and int(flags[1], 16) & INTERRUPTS_ON:
            cpus.add(int(number))
    return frozenset(cpus)
