# SPDX-License-Identifier: GPL-2.0-only
"""One VM of a run as data: its records, its kernel's complaints, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import Enum

from kpatch.run.console import Fault
from kpatch.run.protocol import Transcript


class Ending(str, Enum):
    """The ways in which a VM can end, as the host sees them; ENDING_MEANING explains each."""

    DONE = "done"
    EXIT = "exit"
    KILLED = "killed"
    TAINTED = "tainted"
    STOPPED = "stopped"
    TEST_LIMIT = "test-limit"
    BOOT_LIMIT = "boot-limit"
    RUN_LIMIT = "run-limit"


ENDING_MEANING: dict[Ending, str] = {
    Ending.DONE: "the suite was through and the VM powered off",
    Ending.EXIT: "the VM ended by itself before the suite was through",
    Ending.KILLED: "QEMU failed or was killed by somebody else",
    Ending.TAINTED: "the host ended it: its kernel had complained, and a fresh one ran the rest",
    Ending.STOPPED: "the host ended it: a test had failed, and the run was to end with that",
    Ending.TEST_LIMIT: "the host ended it: a test took longer than its limit",
    Ending.BOOT_LIMIT: "the host ended it: the guest did not come up in time",
    Ending.RUN_LIMIT: "the host ended it: the whole run took longer than its limit",
}

LIMITS = frozenset({Ending.TEST_LIMIT, Ending.BOOT_LIMIT, Ending.RUN_LIMIT})


@dataclass(frozen=True)
class VmRun:
    """One VM: its records, the faults on its console, and how it ended.

    ``detail`` describes the ending ("QEMU: killed by signal 9"), "" if there is no more to say.
    ``emulator`` describes the fault of the emulator by which the VM hung (kpatch/vm/emulator.py);
    "" if there is no sign of one.
    """

    transcript: Transcript
    faults: tuple[Fault, ...]
    ending: Ending
    detail: str = ""
    emulator: str = ""

    def complaints(self, excused: AbstractSet[str]) -> tuple[Fault, ...]:
        """Return the faults of the VM that count against a series.

        The rule is that of the function `complaints`. In addition, a stall does not count in a VM
        that hung by a fault of the emulator.
        """
        faults = complaints(self.faults, excused)
        return tuple(fault for fault in faults if not (fault.stall and self.emulator))

    @property
    def place(self) -> str:
        """Return the id of the test that ran when the VM ended; the words of `progress` if none."""
        running = self.transcript.running
        return running.id if running else progress(self.transcript)


def complaints(faults: Iterable[Fault], excused: AbstractSet[str]) -> tuple[Fault, ...]:
    """Return those of ``faults`` that count against a series.

    Known issues (`Fault.known`), and faults whose title is in ``excused``, do not count.
    """
    return tuple(it for it in faults if not it.known and it.title not in excused)


def begun(vms: Iterable[VmRun]) -> frozenset[str]:
    """Return the ids of the tests that one of ``vms`` began.

    A test has begun if a record says so, or if a kernel report on the console belongs to it. The
    next VM gets the ids as done, so that a test that crashed a VM is not run again. If
    ``repeats(vms)`` is true, the test at which the last VM hung is left out.
    """
    vms = tuple(vms)
    names = {
        name
        for vm in vms
        for name in (
            *vm.transcript.ended,
            *([vm.transcript.running.id] if vm.transcript.running else []),
            *(fault.test for fault in vm.faults if fault.test is not None),
        )
    }
    return frozenset(names - ({vms[-1].place} if repeats(vms) else set()))


def cut(vms: Sequence[VmRun]) -> list[VmRun]:
    """Return ``vms`` as if their suite consisted of the tests that one of them began."""
    names = begun(vms)
    return [replace(vm, transcript=vm.transcript.only(names)) for vm in vms]


def repeats(vms: Sequence[VmRun]) -> bool:
    """Return whether to go on in a fresh VM with the test at which the last of ``vms`` hung.

    It is so if a fault of the emulator was the cause, but only once for a test (or place between
    tests): a second hang there may have another cause.
    """
    if not vms or not vms[-1].emulator:
        return False
    return not any(vm.emulator and vm.place == vms[-1].place for vm in vms[:-1])


def progress(transcript: Transcript) -> str:
    """Describe in words how far the suite had come, for a ``transcript`` without a running test.

    For instance "during the boot" or "between two tests".
    """
    if transcript.hello is None:
        return "during the boot"
    if transcript.collected is None:
        return "before the suite was collected"
    return "after the suite" if transcript.done else "between two tests"
