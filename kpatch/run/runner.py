# SPDX-License-Identifier: GPL-2.0-only
"""Run the suite on one kernel: in one VM, and if that ends early, in further, fresh VMs.

This module receives and stores records and console output. `kpatch.verdict.judge` computes the
verdict from them.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Protocol

from kpatch.build.lines import Lines
from kpatch.errors import HarnessError
from kpatch.lib import process
from kpatch.lib.stage import Stage
from kpatch.model import MechanismFolder
from kpatch.run.console import Console, Fault, Place
from kpatch.run.protocol import (
    Begin,
    Broken,
    Decoder,
    Demand,
    Detected,
    Faulty,
    Hello,
    Interrupt,
    Loaded,
    Record,
    Request,
    Transcript,
)
from kpatch.run.symbols import Symbols
from kpatch.run.vm_run import LIMITS, Ending, VmRun, begun, complaints, cut, repeats
from kpatch.tables.limits import DEFAULTS, Limits
from kpatch.tables.mechanisms import MECHANISMS
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.vm import emulator, qemu, ring
from ktests import contract
from ktests.contract import (
    DETECTION,
    MECHANISM_MODULE,
    NONE,
    UNDETECTED,
    UNKNOWN,
    ContractError,
    JobMessage,
)

Write = Callable[[bytes], object]

# Longest time in seconds to go on reading the console: after the last record, for the marker that
# ends the suite; and after a SysRq, for the stacks.
DRAIN_SECONDS = 0.2
STACKS_SECONDS = 5.0

# Seconds between the two queries of a hung machine. On a sound machine a timer interrupt comes in
# that time.
APART_SECONDS = 2.0

# The messages of a boot are in this many bytes from the start of the console log.
BOOT_BYTES = 1 << 18

# Bytes of a VM's console that are kept. A guest can print until the run's time limit.
LOG_BYTES = 256 << 20
LOG_IS_FULL = b"\nvfio-acpi: the log ends here, the console goes on\n"

# Seconds in which QEMU has to end when it has closed its channels, on a busy machine too.
EXIT_SECONDS = 30.0

# SysRq keys for a hung kernel: w prints blocked tasks, l the backtraces of all CPUs.
STACK_KEYS = "wl"


def infos(cpus: int) -> tuple[str, ...]:
    """Return the "info" commands of QEMU's monitor for a hung machine with ``cpus`` CPUs.

    They show the registers of the CPUs, and the interrupt controllers.
    """
    return ("registers -a", *(f"lapic {number}" for number in range(cpus)), "pic")


# A report that this many VMs had comes back in every VM.
REPEATED = 2

PLUGGED = "plugged"  # QEMU's id of the device in the hot-plug port

# Actions that a test may request: the QMP command and its arguments.
ACTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "powerdown": ("system_powerdown", {}),
    "plug": ("device_add", {"driver": "@model@", "id": PLUGGED, "bus": "@port@"}),
    "unplug": ("device_del", {"id": PLUGGED}),
}


@dataclass(frozen=True)
class Selection:
    """Which tests to run on a kernel, and how.

    ``mechanism`` is the kernel's mechanism as declared or detected so far. ``expression`` is
    pytest's -k, "" for all tests. All time limits, also those of single tests, are multiplied by
    ``slowness``, a factor of the flavor. If ``detect`` is set, the guest first looks for the signs
    of a mechanism. ``excused`` are titles of kernel reports that the unpatched kernel makes too, or
    that several VMs had: no fresh VM is started after them. ``negative`` are the mechanisms for
    which an unpatched kernel is the negative control, None for all (`ktests.contract.applies`).
    ``folder`` is the user's own mechanism, None if there is none. If ``measure`` is not empty, the
    guest runs the measurements with these parameters instead of tests. With ``first``, the run ends
    with the first test that fails, or at which the VM ends. ``order`` is as in `JobMessage`.
    """

    mechanism: str
    expression: str = ""
    limits: Limits = DEFAULTS
    slowness: float = 1
    detect: bool = False
    excused: frozenset[str] = frozenset()
    negative: tuple[str, ...] | None = None
    folder: MechanismFolder | None = None
    measure: Mapping[str, int] = field(default_factory=dict)
    first: bool = False
    order: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The path of mechanism.py of the user's own mechanism, for messages."""
        return "" if self.folder is None else str(self.folder.path / MECHANISM_MODULE)


class Boot(Protocol):
    """A function like `kpatch.vm.qemu.boot`; the harness's own tests pass one without a VM."""

    def __call__(self, setup: qemu.Setup, *, stage: Stage) -> AbstractContextManager[qemu.VM]:
        """Return a context manager that starts a VM for the suite, and kills it at its end."""


def run(
    setup: qemu.Setup,
    selection: Selection,
    console: Callable[[int], Path],
    *,
    stage: Stage,
    boot: Boot = qemu.boot,
) -> list[VmRun]:
    """Run the selected tests and return one entry for each VM that was started.

    The console of the Nth VM (from 1) is written to the file ``console(N)``. A fresh VM runs the
    tests that the earlier ones did not begin (and once more a test that hung by a fault of the
    emulator), until all have begun, a VM makes no progress, or the run's time limit is over. With
    ``selection.first`` there is no such VM, and tests that did not begin are left out.
    HarnessError: exit 2 if the kernel shows another mechanism than the declared one, or if the
    user's own mechanism has a fault; exit 6 if code of this mechanism does not end; exit 7 if the
    guest uses another version of the protocol, or the console's file cannot be written.
    """
    runs: list[VmRun] = []
    done: frozenset[str] = frozenset()
    end = time.monotonic() + selection.limits.run * selection.slowness
    while True:
        follower = Follower(setup, selection, done, end, stage)
        runs.append(follower.follow(console(len(runs) + 1), boot))
        _refuse_hung_mechanism(selection, runs[-1])
        before, done = (done, selection), begun(runs)
        selection = _learnt(selection, runs)
        transcript = runs[-1].transcript
        over = transcript.collected is not None and transcript.ids <= done
        again = repeats(runs)
        if selection.first and not again:
            return cut(runs)
        # After a VM that began no test and taught nothing, the next one would do the same.
        idle = (done, selection) == before and not again
        if over or idle or time.monotonic() >= end:
            return runs
        if again:
            stage.say(f"once more in a fresh VM: {runs[-1].emulator}")


def detected(vms: Sequence[VmRun]) -> Detected | None:
    """Return the result of the detection from the first of ``vms`` that has one; None if none."""
    return next((vm.transcript.detected for vm in vms if vm.transcript.detected), None)


def _learnt(selection: Selection, runs: Sequence[VmRun]) -> Selection:
    """Return the selection for the next VM, updated by the results of ``runs``, the VMs so far.

    Titles of the kernel's reports, except known issues, are added to ``excused``: those of a single
    VM on the negative control, elsewhere those that two VMs had. Such a report may come back in
    every VM, and a fresh one for each test would cost a boot for each. The mechanism is detected
    only once. If the detection had no result, for instance by a crash, the next VM runs without
    detection, and an undeclared mechanism is UNKNOWN. A VM that said no hello, or hung by a fault
    of the emulator, changes nothing.
    """
    vm = runs[-1]
    control = selection.mechanism == NONE
    seen = Counter(
        title for run in runs for title in {fault.title for fault in run.faults if not fault.known}
    )
    often = {title for title, vms in seen.items() if control or vms >= REPEATED}
    selection = replace(selection, excused=selection.excused | often)
    if control or not selection.detect or vm.transcript.hello is None or vm.emulator:
        return selection
    detection, mechanism = vm.transcript.detected, selection.mechanism
    if mechanism == UNDETECTED:
        mechanism = UNKNOWN if detection is None else detection.mechanism
    return replace(selection, mechanism=mechanism, detect=False)


class Log:
    """The console log of a VM, an unbuffered ``file``: nothing is lost if kpatch is killed."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._left = LOG_BYTES
        self._full = False

    def write(self, data: bytes) -> None:
        """Write ``data``; after the first LOG_BYTES of the console only LOG_IS_FULL, once.

        HarnessError (exit 7) if it cannot be written.
        """
        kept = data[: self._left]
        self._left -= len(kept)
        if len(kept) < len(data) and not self._full:
            self._full = True
            kept += LOG_IS_FULL
        try:
            while kept:
                kept = kept[self._file.write(kept) :]
        except OSError as error:
            raise HarnessError(
                str(self._file.name),
                f"cannot be written: {error.strerror}",
                hint="make room and run again",
                code=ExitCode.LOST,
            ) from error


class Follower:
    """Run one VM from its boot to its end, and collect its records and kernel reports."""

    def __init__(
        self,
        setup: qemu.Setup,
        selection: Selection,
        done: frozenset[str],
        end: float,
        stage: Stage,
    ) -> None:
        self._setup = setup
        self._selection = selection
        self._done = done
        self._end = end
        self._stage = stage
        self._decoder = Decoder()
        self._console = Console()
        self._transcript = Transcript()
        self._looks: list[dict[str, str]] = []
        self._between = selection.limits.boot * selection.slowness
        self._limit = time.monotonic() + self._between

    def follow(self, log: Path, boot: Boot) -> VmRun:
        """Boot the VM with ``boot``, run it to its end, and return its records and reports.

        Its console is written to ``log`` as it arrives.
        """
        self._stage.note("booting")
        with log.open("wb", buffering=0) as console, boot(self._setup, stage=self._stage) as it:
            ending, detail = self._until_end(it, Log(console).write)
        known = Lines.of(self._setup.image)
        faults = tuple(_with_lines(fault, known) for fault in self._console.close())
        # emulator.fault looks for messages of the boot.
        lost = emulator.fault(self._looks, _beginning(log)) if self._looks else ""
        if lost:
            faults = (*faults, _of_emulator(lost, self._transcript.running))
        return VmRun(self._transcript, faults, ending, detail, lost)

    def _until_end(self, it: qemu.VM, write: Write) -> tuple[Ending, str]:
        while True:
            self._take(it, write, min(self._limit, self._end) - time.monotonic())
            if self._transcript.done or self._tainted:
                self._drain(it, write, DRAIN_SECONDS)
                return (Ending.DONE if self._transcript.done else Ending.TAINTED), ""
            if self._failed:
                self._drain(it, write, DRAIN_SECONDS)
                return Ending.STOPPED, ""
            if not it.alive:
                return _exited(it)
            overdue = self._overdue()
            if overdue is not None:
                self._looks = self._dump_stacks(it, write)
                return overdue, ""

    @property
    def _tainted(self) -> bool:
        """Return whether the remaining tests need a fresh VM.

        They do if no test is running, and the kernel has made a report that counts (not known, not
        excused) in the boot, the detection or an ended test: lockdep is off after its first report,
        and memory may be corrupted.
        """
        over = {None, *self._transcript.ended}  # None: the boot
        if self._transcript.detected is not None:
            over.add(DETECTION)
        faults = complaints(self._console.faults, self._selection.excused)
        return self._transcript.running is None and any(fault.test in over for fault in faults)

    @property
    def _failed(self) -> bool:
        """Return whether a test has failed with which the run has to end."""
        ended = self._transcript.ended.values()
        return self._selection.first and any(end.outcome is Outcome.FAIL for end in ended)

    def _take(self, it: qemu.VM, write: Write, seconds: float) -> None:
        for output in it.output(max(0.0, seconds)):
            if output.channel == "console":
                write(output.data)
                self._console.feed(output.data)
            else:
                for record in self._decoder.feed(output.data):
                    # A test that begins now will run in a fresh VM, or not at all.
                    if not self._tainted and not self._failed:
                        self._add(it, self._stretched(self._expected(record)))

    def _expected(self, record: Record) -> Record:
        """Return ``record``; Broken if it is about the user's own mechanism and there is none."""
        if isinstance(record, Loaded | Faulty) and self._selection.folder is None:
            return Broken(f"{type(record).__name__.lower()} without a mechanism of the user's own")
        return record

    def _stretched(self, record: Record) -> Record:
        """Return ``record``; the time limit of a Begin is multiplied by the flavor's slowness."""
        if isinstance(record, Begin):
            return replace(record, limit=record.limit * self._selection.slowness)
        return record

    def _add(self, it: qemu.VM, record: Record) -> None:
        before = self._transcript
        if isinstance(record, Hello) and before.hello is None:
            _refuse_other_protocol(record)
        self._transcript = now = before.add(record)
        if now.hello is not before.hello:
            it.send(self._job().message())
        if now.faulty:
            raise HarnessError(
                self._selection.module,
                f"has a fault: {now.faulty}",
                hint="correct it; the console log has the traceback",
            )
        if now.detected is not None and now.detected is not before.detected:
            self._refuse_contradiction(now.detected)
        if now.requests != before.requests:
            self._act(it, now.requests[-1])
        if now.told != before.told:
            self._stage.say(now.told[-1])
        if now.running is not None:
            if now.running is not before.running:
                self._limit = time.monotonic() + now.running.limit
                self._stage.note(now.running.id)
        else:
            self._limit = time.monotonic() + self._between
        if now.collected:
            over = len(self._done | set(now.ended))
            self._stage.advance(over, len(now.collected))

    def _job(self) -> JobMessage:
        """Return the message that tells the guest which tests or measurements to run."""
        return JobMessage(
            mechanism=self._selection.mechanism,
            detect=self._selection.detect,
            expression=self._selection.expression,
            done=tuple(self._done),
            limit=self._selection.limits.test,
            negative=self._selection.negative,
            measure=self._selection.measure,
            order=self._selection.order,
        )

    def _refuse_contradiction(self, detection: Detected) -> None:
        """Raise HarnessError (exit 2) if the kernel shows another mechanism than the declared one.

        Does nothing if one of the two is no mechanism (none, undetected, unknown).
        """
        declared, folder = self._selection.mechanism, self._selection.folder
        known = {*MECHANISMS, *([] if folder is None else [folder.name])}
        if {declared, detection.mechanism} <= known and declared != detection.mechanism:
            raise HarnessError(
                f"MECHANISM={declared}",
                f"the kernel shows {detection.mechanism}: {detection.how}",
                hint=f"leave MECHANISM out, or say MECHANISM={detection.mechanism}",
            )

    def _act(self, it: qemu.VM, demand: Demand) -> None:
        """Do what the guest has asked for on the VM ``it``, and send the answer to the guest.

        The answer contains an error if that fails or is not possible. Nothing is done when a time
        limit is over: one action may take seconds, and a guest can send thousands at once.
        """
        answer: dict[str, object] = {"type": "answer", "serial": demand.serial}
        try:
            if self._overdue() is not None:
                raise _OverdueError("the time is over")
            match demand:
                case Request(action=action):
                    self._perform(it, action)
                case Interrupt(entries=entries):
                    it.interrupt([self._entry(entry) for entry in entries])
        except (HarnessError, _OverdueError, _UnknownNameError) as error:
            answer["error"] = str(error)
        it.send(answer)

    def _perform(self, it: qemu.VM, name: str) -> None:
        """Perform the action ``name`` on the VM ``it``; _UnknownNameError if ACTIONS lacks it."""
        if name not in ACTIONS:
            raise _UnknownNameError("action", ACTIONS)
        port = self._setup.machine.port
        names = {"@model@": port.model, "@port@": port.name}
        command, arguments = ACTIONS[name]
        if name == "plug":
            it.wait_deleted(PLUGGED)
        it.qmp(command, **{key: names.get(word, word) for key, word in arguments.items()})

    def _entry(self, entry: Interrupt.Entry) -> ring.Entry:
        """Return ``entry`` as an entry of the ring; _UnknownNameError if it names no method."""
        methods = [device.method for device in self._setup.machine.notified]
        if entry.method not in methods:
            raise _UnknownNameError("method", methods)
        return ring.Entry(methods.index(entry.method), entry.value, entry.step, entry.count)

    def _overdue(self) -> Ending | None:
        now = time.monotonic()
        if now >= self._end:
            return Ending.RUN_LIMIT
        if now < self._limit:
            return None
        return Ending.TEST_LIMIT if self._transcript.running is not None else Ending.BOOT_LIMIT

    def _dump_stacks(self, it: qemu.VM, write: Write) -> list[dict[str, str]]:
        """Write the state of a hung kernel to the log: stacks (SysRq), and CPUs (QEMU's monitor).

        The monitor is queried in two rounds, so that a CPU in a loop shows different addresses.
        Returns, for each round, the monitor's answers by command (`infos`). Answers are missing if
        QEMU did not give them.
        """
        self._stage.note("hung: dumping stacks")
        symbols = Symbols.of(self._setup.image)
        rounds: list[dict[str, str]] = [{}, {}]
        try:
            it.sysrq(STACK_KEYS)
            self._drain(it, write, STACKS_SECONDS)
            for answers in rounds:
                for what in infos(self._setup.cpus):
                    answers[what] = it.info(what)
                    write(f"\nvfio-acpi: info {what}\n{symbols.annotated(answers[what])}".encode())
                if answers is rounds[0]:
                    self._drain(it, write, APART_SECONDS)
        except HarnessError as error:
            if error.code is not ExitCode.LOST:
                raise
        return rounds

    def _drain(self, it: qemu.VM, write: Write, seconds: float) -> None:
        end = time.monotonic() + seconds
        while it.alive and not self._console.through and (left := end - time.monotonic()) > 0:
            self._take(it, write, left)


class _OverdueError(ValueError):
    """The guest has asked for something after its time limit."""


class _UnknownNameError(ValueError):
    """The guest has asked for something by a name that the host does not know."""

    def __init__(self, kind: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind}; known: {', '.join(known)}")


def _refuse_hung_mechanism(selection: Selection, vm: VmRun) -> None:
    """Raise HarnessError (exit 6) if ``vm`` hung in the code of the user's own mechanism.

    It did if the host ended it by a time limit, during the import, during the detection, or on the
    unpatched kernel during a test with this mechanism. It does not count if the kernel has made a
    report, or if the emulator is the cause.
    """
    transcript = vm.transcript
    if (
        selection.folder is None
        or vm.ending not in LIMITS
        or transcript.hello is None
        or vm.emulator
        or vm.complaints(selection.excused)
    ):
        return
    waited = selection.limits.boot * selection.slowness
    if not transcript.loaded:
        cause = f"its import did not end within {waited:g} s"
    elif transcript.collected is None and transcript.detected is None and selection.detect:
        cause = f"Sign.look did not return within {waited:g} s"
    elif (
        selection.mechanism == NONE
        and transcript.running is not None
        and _is_test_of(selection.folder, transcript.running.id)
    ):
        running = transcript.running
        cause = f"{running.id} did not end within {running.limit:g} s on the unpatched kernel"
    else:
        return
    raise HarnessError(
        selection.module,
        cause,
        hint="correct it; the console log has the stacks",
        code=ExitCode.HANG,
    )


def _is_test_of(folder: MechanismFolder, test: str) -> bool:
    """Return whether the id ``test`` ends in parameters, and the name of ``folder`` is one."""
    return re.search(rf"[\[-]{re.escape(folder.name)}[\]-]", test) is not None


def _refuse_other_protocol(hello: Hello) -> None:
    """Raise HarnessError (exit 7) if the guest's suite uses another version of the protocol.

    Such a guest would get no job, and wait for it until the time limit.
    """
    try:
        contract.refuse_other_protocol("guest", hello.protocol, "host")
    except ContractError as error:
        raise HarnessError(
            "the suite in the guest",
            str(error),
            hint="have host and guest run the suite of one checkout; `make clean` drops old images",
            code=ExitCode.LOST,
        ) from error


def _with_lines(fault: Fault, known: Lines) -> Fault:
    """Return the fault with the lines of the sources of its frames."""
    excerpt, source = known.annotated(fault.excerpt)
    return replace(fault, excerpt=excerpt, source=source)


def _of_emulator(lost: str, running: Begin | None) -> Fault:
    """Return a Fault for a fault of the emulator; it does not count against a series.

    ``lost`` is its description (`kpatch.vm.emulator.fault`). ``running`` is the test that ran, None
    if none did.
    """
    return Fault(
        kind="emulator",
        line=lost,
        excerpt=lost,
        test=running.id if running else None,
        place=Place.DURING if running else Place.BOOT,
        time=None,
        stall=True,
        known=lost,
    )


def _beginning(log: Path) -> str:
    """Return the first BOOT_BYTES of the console log ``log`` as text."""
    with log.open("rb") as console:
        return console.read(BOOT_BYTES).decode(errors="replace")


def _exited(it: qemu.VM) -> tuple[Ending, str]:
    """Return how QEMU ended, and a description.

    For exit status 0 (the kernel panicked or powered off) they are EXIT and "". Otherwise they are
    KILLED, and the status with the last line of QEMU's output. That QEMU has closed its channels
    does not mean that it ends: it may be stuck, or go on printing. So the wait has a limit.
    """
    try:
        status = it.qemu.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        return Ending.KILLED, f"QEMU: still there {EXIT_SECONDS:g} s after it closed its channels"
    if status == 0:
        return Ending.EXIT, ""
    how = process.ending(status).removeprefix("was ").replace("ended with", "exit")
    return Ending.KILLED, " ".join([f"QEMU: {how}", *_printed(it)[-1:]])


def _printed(it: qemu.VM) -> list[str]:
    """Return the lines that QEMU, which has ended, printed: at most what a pipe holds."""
    assert it.qemu.stdout is not None
    pipe = it.qemu.stdout.fileno()
    os.set_blocking(pipe, False)  # another process may have the other end
    try:
        output = os.read(pipe, 1 << 16)
    except BlockingIOError:
        return []
    return output.decode(errors="replace").strip().splitlines()
