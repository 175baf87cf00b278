# SPDX-License-Identifier: GPL-2.0-only
"""The runner of the suite: ends of VMs, fresh VMs, and hostile guests.

The guest is simulated: a child process in QEMU's place runs a script, on the sockets that QEMU
would have. Processes, sockets and limits are real. If a script uses the monitor, it is that of a
real QEMU whose CPUs never start.
"""

from __future__ import annotations

import functools
import json
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kpatch.errors import HarnessError
from kpatch.lib.stage import Silent, Stage
from kpatch.run import runner
from kpatch.run.protocol import Begin, Detected
from kpatch.run.vm_run import Ending, VmRun
from kpatch.tables.limits import Limits
from kpatch.tables.outcomes import ExitCode, Outcome
from kpatch.vm import machine, qemu
from kpatch.vm.accel import Accel
from kpatch.vm.guest_image import Images
from tests import commandline, test_emulator

NOWHERE = Path("/nonexistent")

# Code that every script can use. argv has the descriptors and QEMU's command line.
PRELUDE = """
import json, os, signal, socket, subprocess, sys, time
records, console, qmp, qtest = (socket.socket(fileno=int(word)) for word in sys.argv[1:5])
answers = records.makefile("rb")

def tell(kind, **fields):
    records.sendall(json.dumps({"type": kind, **fields}).encode() + b"\\n")

def hear():
    return json.loads(answers.readline())

def kernel(text):
    console.sendall(text.encode() + b"\\n")

def hello(*tests, detected=None):
    tell("hello", protocol=3, release="7.3.4", python="3.11.2")
    job = hear()
    kernel(json.dumps(job))
    if detected:
        kernel("[    1.000000] vfio_acpi: begin detection")
        tell("detected", mechanism=detected, how="by its sign")
        kernel("[    1.000000] vfio_acpi: end detection")
    tell("collected", tests=[{"id": name, "requirement": "R"} for name in tests])
    return job

def begin(name, limit=60):
    kernel(f"[    1.000000] vfio_acpi: begin {name}")
    tell("begin", id=name, limit=limit)

def end(name, outcome="pass"):
    kernel(f"[    1.500000] vfio_acpi: end {name}")
    tell("end", id=name, outcome=outcome, seconds=0.5)

def run(name, outcome="pass"):
    begin(name)
    end(name, outcome)

def ask(action, **arguments):
    tell("request", serial=1, action=action, arguments=arguments)
    kernel(json.dumps(hear()))

def interrupt(method):
    entry = {"method": method, "value": 0x80, "step": 0, "count": 1}
    tell("interrupt", serial=1, entries=[entry])
    kernel(json.dumps(hear()))

def monitor():
    monitor.qemu = subprocess.Popen(
        ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-machine", "q35",
         "-chardev", f"socket,id=qmp,fd={qmp.fileno()}", "-mon", "chardev=qmp,mode=control",
         "-chardev", "null,id=console",
         "-chardev", f"socket,id=qtest,fd={qtest.fileno()}",
         "-object", "qtest,id=interrupts,chardev=qtest,log=none",
         *sys.argv[5:]], pass_fds=[qmp.fileno(), qtest.fileno()])

def forever():
    time.sleep(20)

"""

WARNING = "WARNING: CPU: 0 PID: 1 at drivers/x.c:1 f+0x1/0x2"
TITLE = "WARNING in f"
REPORT = f"[    1.000000] {WARNING}\n[    1.000001] ---[ end trace 0000000000000000 ]---"


@dataclass
class Machine:
    """A machine that runs one script per VM, in order, and records when each was ended."""

    scripts: tuple[str, ...]
    logs: Path
    pids: list[int] = field(default_factory=list)
    stage: Stage = field(default_factory=Silent)

    def log(self, number: int) -> Path:
        """Return the file of a VM's console."""
        return self.logs / f"console-{number}.log" if self.logs.is_dir() else self.logs

    def seen(self, number: int) -> list[dict[str, object]]:
        """Return the messages that the guest of VM ``number`` received and wrote to its console."""
        lines = self.log(number).read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @contextmanager
    def boot(self, setup: qemu.Setup, *, stage: Stage) -> Iterator[qemu.VM]:
        """Run the next script."""
        script = PRELUDE + textwrap.dedent(self.scripts[len(self.pids)])

        def command(fds: dict[str, int]) -> list[str]:
            numbers = [str(fds[name]) for name in qemu.CHANNELS]
            return [sys.executable, "-S", "-c", script, *numbers, *setup.machine.options()]

        with qemu.started(command) as started:  # type: ignore[arg-type]
            self.pids.append(started.qemu.pid)
            yield started

    def run(self, **selection: object) -> list[VmRun]:
        """Run the suite, with these fields of `Selection`."""
        setup = qemu.Setup(
            image=NOWHERE,
            machine=machine.load(),
            firmware=NOWHERE,
            images=Images(NOWHERE, NOWHERE, cached=True),
            accel=Accel("tcg", "tcg", "asked for"),
        )
        wanted = functools.partial(
            runner.Selection, mechanism="netlink", expression="burst or layout"
        )
        return runner.run(
            setup,
            wanted(**selection),  # type: ignore[arg-type]
            self.log,
            stage=self.stage,
            boot=self.boot,
        )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "STACKS_SECONDS", 0.3)
    monkeypatch.setattr(runner, "APART_SECONDS", 0.1)


def play(tmp_path: Path, *scripts: str, **selection: object) -> tuple[list[VmRun], Machine]:
    guest = Machine(scripts, tmp_path)
    runs = guest.run(**selection)
    assert len(guest.pids) == len(scripts), "every script is played"
    for pid in guest.pids:
        assert not Path(f"/proc/{pid}").exists(), "no VM is left behind"
    return runs, guest


def endings(runs: list[VmRun]) -> list[Ending]:
    return [run.ending for run in runs]


class Terminal(Silent):
    """Keeps what is printed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Keep ``text``."""
        self.said.append(text)


def test_what_a_test_tells_is_printed_at_once(tmp_path: Path) -> None:
    terminal = Terminal()
    script = """
        hello("a")
        begin("a")
        tell("told", text="0xd1: the relay has read it")
        tell("told", text="0xd1: the driver has it")
        end("a")
        tell("done")
        """
    [run] = Machine((script,), tmp_path, stage=terminal).run()
    assert terminal.said == ["0xd1: the relay has read it", "0xd1: the driver has it"]
    assert (run.ending, run.transcript.broken) == (Ending.DONE, ())


def test_done(tmp_path: Path) -> None:
    runs, guest = play(
        tmp_path,
        """
        hello("a", "b")
        run("a")
        run("b", "fail")
        tell("done")
        forever()
        """,
    )
    assert endings(runs) == [Ending.DONE]
    ended = runs[0].transcript.ended
    assert {name: end.outcome for name, end in ended.items()} == {
        "a": Outcome.PASS,
        "b": Outcome.FAIL,
    }
    assert guest.seen(1) == [
        {
            "type": "job",
            "protocol": 3,
            "measure": {},
            "mechanism": "netlink",
            "detect": False,
            "expression": "burst or layout",
            "done": [],
            "limit": 60,
            "negative": None,
            "order": [],
        }
    ]


@pytest.mark.parametrize("negative", [None, (), ("eventfd", "netlink")])
def test_guest_is_told_what_it_has_to_fail(
    tmp_path: Path, negative: tuple[str, ...] | None
) -> None:
    script = 'hello("a"); run("a"); tell("done"); forever()'
    _, guest = play(tmp_path, script, mechanism="none", negative=negative)
    sent = guest.seen(1)[0]
    assert sent["mechanism"] == "none"
    assert sent["negative"] == (None if negative is None else list(negative))


def test_a_run_may_end_with_the_first_failure(tmp_path: Path) -> None:
    runs, guest = play(
        tmp_path,
        """
        hello("a", "b", "c")
        run("a")
        run("b", "fail")
        begin("c")
        forever()
        """,
        first=True,
        order=("R",),
    )
    assert endings(runs) == [Ending.STOPPED]
    assert guest.seen(1)[0]["order"] == ["R"]
    transcript = runs[0].transcript
    assert transcript.ids == {"a", "b"}, "tests that did not run are left out, not lost"
    assert transcript.running is None, "what began after the failure does not count"


@pytest.mark.parametrize(
    ("script", "ending", "ids"),
    [
        ("run('a'); run('b'); tell('done')", Ending.DONE, {"a", "b"}),
        (
            "begin('a'); kernel('[    1.100000] Kernel panic - not syncing: test')",
            Ending.EXIT,
            {"a"},
        ),
        (f"begin('a'); kernel({REPORT!r}); end('a'); forever()", Ending.TAINTED, {"a"}),
    ],
)
def test_a_run_to_the_first_failure_has_one_vm(
    tmp_path: Path, script: str, ending: Ending, ids: set[str]
) -> None:
    runs, _ = play(tmp_path, f"hello('a', 'b')\n{script}\n", first=True)
    assert endings(runs) == [ending] and runs[0].transcript.ids == ids


def test_a_console_that_has_all_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "DRAIN_SECONDS", 10)
    start = time.monotonic()
    runs, guest = play(
        tmp_path,
        """
        hello("a")
        run("a")
        tell("done")
        kernel("[    2.000000] the last word of the test")
        kernel("[    2.000001] vfio_acpi: through")
        forever()
        """,
    )
    assert endings(runs) == [Ending.DONE]
    assert time.monotonic() - start < 5
    assert "the last word" in guest.log(1).read_text()


def test_crash_goes_on_in_a_fresh_vm(tmp_path: Path) -> None:
    runs, guest = play(
        tmp_path,
        """
        hello("a", "b", "c")
        run("a")
        begin("b")
        kernel("[    1.100000] Kernel panic - not syncing: test")
        """,
        """
        hello("a", "b", "c")
        run("c")
        tell("done")
        """,
    )
    assert endings(runs) == [Ending.EXIT, Ending.DONE]
    assert [(fault.kind, fault.test) for fault in runs[0].faults] == [("panic", "b")]
    assert guest.seen(2)[0]["done"] == ["a", "b"], "neither the ended test nor the fatal one"
    assert runs[1].faults == ()


def test_complaint_ends_the_vm_after_its_test(tmp_path: Path) -> None:
    runs, _ = play(
        tmp_path,
        f"""
        hello("a", "b")
        begin("a")
        kernel("[    1.100000] {WARNING}")
        kernel("[    1.100001] ---[ end trace 0000000000000000 ]---")
        end("a")
        forever()
        """,
        """
        hello("a", "b")
        run("b")
        tell("done")
        """,
    )
    assert endings(runs) == [Ending.TAINTED, Ending.DONE]
    assert [fault.test for fault in runs[0].faults] == ["a"]
    assert runs[0].transcript.ended["a"].outcome is Outcome.PASS, "the guest's own word is kept"


def test_a_known_complaint_does_not_end_the_vm(tmp_path: Path) -> None:
    report = (commandline.ROOT / "tests/data/console/real-7.3-debugger.log").read_text()
    shown = [line for line in report.splitlines() if "vfio_acpi:" not in line]
    runs, _ = play(
        tmp_path,
        f"""
        hello("a", "b")
        begin("a")
        for line in {shown!r}:
            kernel(line)
        end("a")
        run("b")
        tell("done")
        """,
    )
    assert endings(runs) == [Ending.DONE]
    assert [bool(fault.known) for fault in runs[0].faults] == [True]


def test_a_complaint_of_the_base_does_not_end_the_vm(tmp_path: Path) -> None:
    runs, _ = play(
        tmp_path,
        f"""
        hello("a", "b")
        begin("a")
        kernel({REPORT!r})
        end("a")
        run("b")
        tell("done")
        """,
        excused=frozenset({TITLE}),
    )
    assert endings(runs) == [Ending.DONE]
    assert [fault.title for fault in runs[0].faults] == [TITLE]


def test_the_control_runs_its_tests_though_it_complains_in_each_boot(tmp_path: Path) -> None:
    complaint = f"""
        kernel({REPORT!r})
        """
    suite_ = """
        hello("a", "b")
        run("a")
        run("b")
        tell("done")
        """
    runs, _ = play(
        tmp_path, textwrap.dedent(complaint) + "forever()", complaint + suite_, mechanism="none"
    )
    assert endings(runs) == [Ending.TAINTED, Ending.DONE]
    assert list(runs[1].transcript.ended) == ["a", "b"]


def test_a_complaint_that_comes_back_does_not_end_a_third_vm(tmp_path: Path) -> None:
    complaint = f"""
        hello("a", "b", "c", "d")
        def complain(name):
            begin(name)
            kernel({REPORT!r})
            end(name)
        """
    runs, _ = play(
        tmp_path,
        complaint
        + """
        complain("a")
        forever()
        """,
        complaint
        + """
        complain("b")
        forever()
        """,
        complaint
        + """
        complain("c")
        complain("d")
        tell("done")
        """,
    )
    assert endings(runs) == [Ending.TAINTED, Ending.TAINTED, Ending.DONE]
    assert [fault.test for run in runs for fault in run.faults] == ["a", "b", "c", "d"]


# ---- detection -----------------------------------------------------------------------------------


def jobs(guest: Machine, count: int) -> list[tuple[object, object]]:
    """Return, for the job of each VM, its mechanism and whether to detect it."""
    seen = [guest.seen(number)[0] for number in range(1, count + 1)]
    return [(job["mechanism"], job["detect"]) for job in seen]


def test_a_mechanism_is_detected_once(tmp_path: Path) -> None:
    runs, guest = play(
        tmp_path,
        f"""
        hello("a", "b", detected="eventfd")
        begin("a")
        kernel({REPORT!r})
        end("a")
        forever()
        """,
        """
        hello("a", "b")
        run("b")
        tell("done")
        """,
        mechanism="undetected",
        detect=True,
    )
    assert endings(runs) == [Ending.TAINTED, Ending.DONE]
    assert jobs(guest, 2) == [("undetected", True), ("eventfd", False)]
    assert runner.detected(runs) == Detected("eventfd", "by its sign")


def test_a_crash_in_the_detection_is_followed_by_a_vm_without(tmp_path: Path) -> None:
    runs, guest = play(
        tmp_path,
        f"""
        tell("hello", protocol=3, release="7.3.4", python="3.11.2")
        kernel(json.dumps(hear()))
        kernel("[    1.000000] vfio_acpi: begin detection")
        kernel({REPORT!r})
        """,
        """
        hello("a")
        run("a")
        tell("done")
        """,
        mechanism="undetected",
        detect=True,
    )
    assert [fault.test for fault in runs[0].faults] == ["detection"]
    assert jobs(guest, 2) == [("undetected", True), ("unknown", False)]
    assert list(runs[1].transcript.ended) == ["a"]
    assert runner.detected(runs) is None


@pytest.mark.parametrize(
    ("declared", "shown"),
    [("netlink", "netlink"), ("netlink", "unknown"), ("eventfd", "undetected")],
)
def test_a_declared_mechanism_may_show_no_sign(tmp_path: Path, declared: str, shown: str) -> None:
    """The tests of the declared mechanism find out whether it works."""
    script = f'hello("a", detected={shown!r})\nrun("a")\ntell("done")'
    runs, _ = play(tmp_path, script, mechanism=declared, detect=True)
    assert endings(runs) == [Ending.DONE]


def test_a_declared_mechanism_that_the_kernel_contradicts_is_refused(tmp_path: Path) -> None:
    script = 'hello("a", detected="eventfd")\nrun("a")\ntell("done")'
    with pytest.raises(HarnessError) as error:
        play(tmp_path, script, mechanism="netlink", detect=True)
    assert error.value.code is ExitCode.USAGE
    assert str(error.value) == (
        "MECHANISM=netlink: the kernel shows eventfd: by its sign; "
        "leave MECHANISM out, or say MECHANISM=eventfd"
    )


def test_complaint_ends_the_vm_though_the_guest_goes_on_at_once(tmp_path: Path) -> None:
    """Tests that the guest begins after the kernel's complaint do not count."""
    runs, _ = play(
        tmp_path,
        f"""
        hello("a", "b", "c")
        begin("a")
        kernel("[    1.100000] {WARNING}")
        kernel("[    1.100001] ---[ end trace 0000000000000000 ]---")
        kernel("[    1.500000] vfio_acpi: end a")
        told = [
            dict(type="end", id="a", outcome="pass", seconds=0.5),
            dict(type="begin", id="b", limit=60),
            dict(type="end", id="b", outcome="pass", seconds=0.5),
            dict(type="begin", id="c", limit=60),
        ]
        records.sendall("".join(json.dumps(record) + chr(10) for record in told).encode())
        forever()
        """,
        """
        hello("a", "b", "c")
        run("b")
        run("c")
        tell("done")
        """,
    )
    assert endings(runs) == [Ending.TAINTED, Ending.DONE]
    assert list(runs[0].transcript.ended) == ["a"]
    assert runs[0].transcript.running is None


def test_silence_in_a_test_is_a_hang(tmp_path: Path) -> None:
    runs, guest = play(
        tmp_path,
        """
        monitor()
        hello("a", "b")
        begin("a", limit=1)
        kernel("keys " + repr(console.recv(1) + console.recv(1)))
        forever()
        """,
        """
        hello("a", "b")
        run("b")
        tell("done")
        """,
    )
    assert endings(runs) == [Ending.TEST_LIMIT, Ending.DONE]
    running = runs[0].transcript.running
    assert running is not None and running.id == "a"
    assert f"keys {runner.STACK_KEYS.encode()!r}" in guest.log(1).read_text(), "SysRq was pressed"


# ---- faults of the emulator ---------------------------------------------------------------------

HANGS = """
    monitor()
    hello("a", "b")
    begin("a", limit=1)
    forever()
    """
HANGS_AT_BOOT = """
    monitor()
    kernel("[    0.100000] pci 0000:00:10.0: [1234:11e8]")
    forever()
    """
GOES_ON = """
    hello("a", "b")
    run("a")
    run("b")
    tell("done")
    """


def timer_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the monitor answer as for a VM whose CPU 1 waits for ever."""
    answers = test_emulator.lost("10.0")[0]
    monkeypatch.setattr(qemu.VM, "info", lambda _, what: answers.get(what, ""))


def test_a_lost_timer_is_tried_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timer_lost(monkeypatch)
    runs, guest = play(tmp_path, HANGS, GOES_ON)
    assert endings(runs) == [Ending.TEST_LIMIT, Ending.DONE]
    assert "lost a timer interrupt: CPU 1" in runs[0].emulator
    assert [(it.kind, it.test, it.known) for it in runs[0].faults] == [
        ("emulator", "a", runs[0].emulator)
    ]
    assert guest.seen(2)[0]["done"] == [], "the test that hung is not over"
    assert "info lapic 1" in guest.log(1).read_text()


def test_a_lost_timer_is_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer_lost(monkeypatch)
    runs, guest = play(tmp_path, HANGS, HANGS, GOES_ON.replace('run("a")', ""))
    assert endings(runs) == [Ending.TEST_LIMIT, Ending.TEST_LIMIT, Ending.DONE]
    assert [guest.seen(number)[0]["done"] for number in (2, 3)] == [[], ["a"]]


@pytest.mark.parametrize("again", [HANGS_AT_BOOT, GOES_ON], ids=["hangs again", "goes on"])
def test_a_boot_without_its_timer_is_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    timer_lost(monkeypatch)
    runs, _ = play(tmp_path, HANGS_AT_BOOT, again, limits=Limits(boot=2, test=60, run=60))
    assert endings(runs) == [
        Ending.BOOT_LIMIT,
        Ending.DONE if again is GOES_ON else Ending.BOOT_LIMIT,
    ]


def test_a_hang_of_the_kernel_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([*test_emulator.looks("10.0")])
    monkeypatch.setattr(
        qemu.VM,
        "info",
        lambda _, what: (next(answers) if what == "registers -a" else {}).get(what, ""),
    )
    runs, _ = play(tmp_path, HANGS, GOES_ON.replace('run("a")', ""))
    assert runs[0].emulator == ""
    assert list(runs[1].transcript.ended) == ["b"]


def test_limit_of_a_test_starts_with_it(tmp_path: Path) -> None:
    runs, _ = play(
        tmp_path,
        """
        hello("a", "b")
        begin("a", limit=1.5)
        time.sleep(1)
        end("a")
        begin("b", limit=1.5)
        time.sleep(1)
        end("b")
        tell("done")
        """,
    )
    assert endings(runs) == [Ending.DONE]


def test_a_slow_flavor_has_more_time(tmp_path: Path) -> None:
    runs, _ = play(
        tmp_path,
        """
        time.sleep(1)
        hello("a", "b")
        begin("a", limit=0.5)
        time.sleep(1)
        end("a")
        begin("b", limit=0.5)
        forever()
        """,
        limits=Limits(boot=0.5),
        slowness=8,
    )
    assert endings(runs) == [Ending.TEST_LIMIT]
    assert set(runs[0].transcript.ended) == {"a"}
    assert runs[0].transcript.running == Begin("b", limit=4.0)


def test_silence_at_boot(tmp_path: Path) -> None:
    runs, _ = play(tmp_path, "qmp.close()\nforever()", limits=Limits(boot=0.5))
    assert endings(runs) == [Ending.BOOT_LIMIT], "and no second VM, which would do the same"
    assert runs[0].transcript.hello is None


def test_run_limit(tmp_path: Path) -> None:
    start = time.monotonic()
    runs, _ = play(
        tmp_path,
        'qmp.close()\nhello("a")\nbegin("a", limit=1e9)\nforever()',
        limits=Limits(run=1.0),
    )
    assert endings(runs) == [Ending.RUN_LIMIT]
    assert time.monotonic() - start < 10


def test_killed_from_outside(tmp_path: Path) -> None:
    runs, _ = play(
        tmp_path,
        'hello("a", "b")\nbegin("a")\nos.kill(os.getpid(), signal.SIGKILL)',
        'hello("a", "b")\nrun("b")\ntell("done")',
    )
    assert endings(runs) == [Ending.KILLED, Ending.DONE]
    assert runs[0].detail == "QEMU: killed by signal 9"


def test_qemu_refuses_to_start(tmp_path: Path) -> None:
    runs, _ = play(tmp_path, 'print("warning: x\\nno such device")\nsys.exit(1)')
    assert endings(runs) == [Ending.KILLED]
    assert runs[0].detail == "QEMU: exit status 1 no such device"


def test_power_off_before_any_test(tmp_path: Path) -> None:
    runs, _ = play(tmp_path, 'hello("a")')
    assert endings(runs) == [Ending.EXIT]
    assert runs[0].transcript.running is None


def test_request_is_done_by_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "DELETE_SECONDS", 0.3)
    runs, guest = play(
        tmp_path,
        """
        monitor()
        hello("a")
        begin("a")
        ask("plug")
        ask("plug")
        ask("unplug")
        end("a")
        tell("done")
        """,
    )
    assert endings(runs) == [Ending.DONE]
    first, second, third = guest.seen(1)[1:]
    assert first == {"type": "answer", "serial": 1}
    assert "device plugged: not deleted within 0.3 s" in str(second["error"])
    assert third == {"type": "answer", "serial": 1}


def test_port_is_used_again_once_qemu_has_deleted_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel reports the port empty some time before QEMU frees the device's id.
    listed = [{"plugged", "alpha"}, {"plugged", "alpha"}, {"alpha"}]
    monkeypatch.setattr(qemu.VM, "_device_ids", lambda _: listed.pop(0))
    script = 'monitor()\nhello("a")\nbegin("a")\nask("plug")\nend("a")\ntell("done")'
    _, guest = play(tmp_path, script)
    assert guest.seen(1)[1:] == [{"type": "answer", "serial": 1}]
    assert listed == []


def test_unknown_request_is_refused(tmp_path: Path) -> None:
    _, guest = play(
        tmp_path,
        'hello("a")\nbegin("a")\nask("human-monitor-command", line="quit")\nend("a")\ntell("done")',
    )
    [answer] = guest.seen(1)[1:]
    assert answer["error"] == "unknown action; known: powerdown, plug, unplug"


def test_interrupt_is_raised_by_qemu(tmp_path: Path) -> None:
    _, guest = play(
        tmp_path,
        'monitor()\nhello("a")\nbegin("a")\ninterrupt("N080")\nend("a")\ntell("done")',
    )
    assert guest.seen(1)[1:] == [{"type": "answer", "serial": 1}]


def test_interrupt_for_an_unknown_method_is_refused(tmp_path: Path) -> None:
    _, guest = play(
        tmp_path,
        'hello("a")\nbegin("a")\ninterrupt("_EVT")\nend("a")\ntell("done")',
    )
    [answer] = guest.seen(1)[1:]
    assert str(answer["error"]).startswith("unknown method; known: N080, ")


def test_qtest_that_is_gone(tmp_path: Path) -> None:
    _, guest = play(
        tmp_path,
        'qtest.close()\nhello("a")\nbegin("a")\ninterrupt("N080")\nend("a")\ntell("done")',
    )
    [answer] = guest.seen(1)[1:]
    assert str(answer["error"]).startswith("qtest readl 0x20000004: ")


def test_monitor_that_is_gone(tmp_path: Path) -> None:
    _, guest = play(
        tmp_path,
        'qmp.close()\nhello("a")\nbegin("a")\nask("powerdown")\nend("a")\ntell("done")',
    )
    [answer] = guest.seen(1)[1:]
    assert "QMP system_powerdown" in str(answer["error"])


def test_garbage_on_both_channels(tmp_path: Path) -> None:
    runs, _ = play(
        tmp_path,
        """
        rubbish = os.urandom(1 << 20).replace(b"\\n", b"")
        records.sendall(rubbish * 3 + b"\\n" + b'{"type": "root"}\\n')
        console.sendall(rubbish * 3)
        kernel("")
        hello("a")
        run("a")
        tell("done")
        """,
    )
    assert endings(runs) == [Ending.DONE]
    assert runs[0].transcript.ended["a"].outcome is Outcome.PASS
    assert len(runs[0].transcript.broken) == 2, "the judge gets to know of it"


def test_endless_garbage_ends_with_the_run(tmp_path: Path) -> None:
    runs, _ = play(
        tmp_path,
        'qmp.close()\nwhile True:\n    records.sendall(b"x\\n" * 4096)',
        limits=Limits(run=1.0),
    )
    assert endings(runs) == [Ending.RUN_LIMIT]


def test_qemu_that_prints_all_the_time(tmp_path: Path) -> None:
    """Nobody reads what QEMU prints before it has ended: it waits, and the guest with it."""
    runs, _ = play(
        tmp_path,
        'qmp.close()\nwhile True:\n    os.write(1, b"warning: x\\n" * 4096)',
        limits=Limits(boot=0.5),
    )
    assert endings(runs) == [Ending.BOOT_LIMIT]


@pytest.mark.parametrize("after", ["while True:\n    os.write(1, bytes(4096))", "forever()"])
def test_qemu_that_closes_its_channels_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    monkeypatch.setattr(runner, "EXIT_SECONDS", 0.3)
    close = "[one.shutdown(socket.SHUT_RDWR) for one in (records, console, qmp, qtest)]"
    runs, _ = play(tmp_path, f'hello("a")\n{close}\n{after}')
    assert endings(runs) == [Ending.KILLED]
    assert runs[0].detail == "QEMU: still there 0.3 s after it closed its channels"


def test_the_log_of_a_console_that_never_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk does not fill up; what comes after the end of the log is judged."""
    monkeypatch.setattr(runner, "LOG_BYTES", 10_000)
    script = f"""
        hello("a")
        begin("a")
        for _ in range(100):
            kernel("[    1.000000] " + "x" * 985)
        kernel({REPORT!r})
        end("a")
        tell("done")
        """
    runs, guest = play(tmp_path, script)
    assert [(fault.title, fault.test) for fault in runs[0].faults] == [(TITLE, "a")]
    kept = guest.log(1).read_bytes()
    assert len(kept) == 10_000 + len(runner.LOG_IS_FULL)
    assert kept.count(runner.LOG_IS_FULL) == 1


def test_requests_after_the_time_limit_are_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each "plug" can take DELETE_SECONDS, and thousands fit into one message."""
    monkeypatch.setattr(qemu, "DELETE_SECONDS", 0.5)
    began = time.monotonic()
    runs, _ = play(
        tmp_path,
        """
        monitor()
        hello("a")
        begin("a", limit=1)
        ask("plug")
        one = {"type": "request", "serial": 1, "action": "plug"}
        records.sendall(100 * (json.dumps(one).encode() + b"\\n"))
        forever()
        """,
    )
    assert endings(runs) == [Ending.TEST_LIMIT]
    assert time.monotonic() - began < 20, "not 50 s"


def test_guest_that_asks_and_never_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "SEND_SECONDS", 0.3)
    runs, _ = play(
        tmp_path,
        """
        qmp.close()
        hello("a")
        begin("a", limit=2)
        while True:
            tell("request", serial=1, action="x" * 900)
        """,
    )
    assert endings(runs) == [Ending.TEST_LIMIT]


def test_console_that_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="/dev/full: cannot be written: No space left") as full:
        play(Path("/dev/full"), 'kernel("[    0.100000] hello")\nforever()')
    assert full.value.code is ExitCode.LOST
