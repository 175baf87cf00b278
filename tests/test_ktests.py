# SPDX-License-Identifier: GPL-2.0-only
"""The modules of the guest side, tested on the host.

The recorder runs a real pytest with small suites and writes to a real channel: a raw terminal pair
in place of the virtio-serial port. The kernel's debugger is simulated by a script at the other end
of a terminal, sysfs by a folder.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import textwrap
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kpatch.run import protocol
from kpatch.tables import bases
from ktests import (
    acpi,
    bad_input,
    channel,
    contract,
    debugger,
    lazy_imports,
    pci,
    recorder,
    release,
    session,
)

ROOT = Path(__file__).parent.parent

# The guest's end of a run, without the kernel's log and the tests.
GUEST = """
import sys
from pathlib import Path
import pytest
from ktests import leaks, recorder, session
from ktests.channel import Channel
from ktests.recorder import Job, Recorder
port, kmsg, suite, order, expression, flavor, *done = sys.argv[1:]
job = Job(
    mechanism="netlink",
    machine={},
    expression=expression,
    done=frozenset(done),
    order=tuple(filter(None, order.split(","))),
    requirements={
        "REQ-ANY": {"text": "t", "needs": ["any"]},
        "REQ-LIMIT": {"text": "t", "needs": ["netlink"], "limits": {"netlink": "cannot"}},
        "REQ-EVENTFD": {"text": "t", "needs": ["eventfd"]},
        "REQ-WITHOUT": {"text": "t", "needs": ["none"]},
        "REQ-OTHER": {"text": "t", "needs": ["any"], "limits": {"eventfd": "cannot"}},
        "REQ-NOW": {"text": "t", "needs": ["any"], "from": "6.12"},
        "REQ-LATER": {"text": "t", "needs": ["any"], "from": "7.3"},
    },
    limit=60,
    release="6.12.117+",
    flavor=flavor,
)
leaks.look = lambda: recorder.mark(Path(kmsg), "scanned")
session.SUITE = Path(suite)
plugins = [Recorder(job, Channel(Path(port)), kmsg=Path(kmsg))]
sys.exit(pytest.main(session.options("-p", "no:terminal"), plugins=plugins))
"""

HEAD = """
import pytest
pytestmark = pytest.mark.requirement("REQ-ANY")
"""


@dataclass(frozen=True)
class Told:
    """The result of a run of the recorder."""

    status: int
    records: list[dict[str, Any]]
    kmsg: str
    console: str

    @property
    def transcript(self) -> protocol.Transcript:
        """The host's view, behind a hello."""
        state = protocol.Transcript().add(protocol.Hello(contract.PROTOCOL, "7.3.4", "3.11"))
        for one in self.records:
            state = state.add(protocol.parse(json.dumps(one).encode()))
        return state

    def ends(self) -> dict[str, tuple[str, str]]:
        """Return each test's outcome and the first line of its message, by its short name."""
        return {
            one["id"].split("::")[1]: (one["outcome"], one["message"].split("\n")[0])
            for one in self.records
            if one["type"] == "end"
        }


@contextmanager
def terminal() -> Iterator[tuple[int, Path]]:
    """Open a raw terminal pair. Returns our end, and the path of the other end."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    try:
        yield ours, Path(os.ttyname(theirs))
    finally:
        os.close(ours)
        os.close(theirs)


def drain(file: int) -> bytes:
    os.set_blocking(file, False)
    data = b""
    try:
        while chunk := os.read(file, 1 << 16):
            data += chunk
    except (BlockingIOError, OSError):
        pass
    return data


def tell(
    tmp_path: Path,
    suite: str,
    *,
    expression: str = "",
    done: tuple[str, ...] = (),
    order: tuple[str, ...] = (),
    flavor: str = "plain",
    files: tuple[str, ...] = ("test_it.py",),
) -> Told:
    folder = tmp_path / "suite"
    folder.mkdir()
    for name in files:
        (folder / name).write_text(HEAD + textwrap.dedent(suite))
    kmsg = tmp_path / "kmsg"
    kmsg.touch()
    with terminal() as (ours, path):
        run = subprocess.run(
            [
                *(sys.executable, "-c", GUEST, str(path), str(kmsg), str(folder)),
                *(",".join(order), expression, flavor, *done),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = drain(ours).splitlines()
    return Told(run.returncode, [json.loads(line) for line in lines], kmsg.read_text(), run.stderr)


@pytest.mark.parametrize(
    ("flavor", "lines"),
    [
        ("plain", ["begin a", "end a", "begin b", "end b"] * 2),
        ("kmemleak", ["begin a", "end a", "begin b", "end b", "scanned"] * 2),
    ],
)
def test_leaks_are_looked_for_after_each_file(
    tmp_path: Path, flavor: str, lines: list[str]
) -> None:
    suite = """
        def test_a(): pass
        def test_b(): pass
        """
    told = tell(tmp_path, suite, flavor=flavor, files=("test_1.py", "test_2.py"))
    words = [line.removeprefix("<5>vfio_acpi: ") for line in told.kmsg.splitlines()]
    assert [re.sub(r" \S+::test_", " ", word) for word in words] == lines


def test_outcomes(tmp_path: Path) -> None:
    told = tell(
        tmp_path,
        """
        @pytest.fixture
        def broken():
            raise RuntimeError("no device")

        @pytest.fixture
        def left():
            yield
            raise RuntimeError("device left bound")

        def test_pass(): pass
        def test_fail(): assert 1 == 2, "one is two"
        def test_skip(): pytest.skip("no reason")
        def test_setup(broken): pass
        def test_teardown(left): pass
        def test_both(left): assert 1 == 2, "the first fault"
        @pytest.mark.requirement("REQ-LIMIT")
        def test_limit(): assert False
        @pytest.mark.requirement("REQ-LIMIT")
        def test_limit_gone(): pass
        @pytest.mark.requirement("REQ-OTHER")
        def test_limit_of_another(): assert False, "no limit here"
        """,
    )
    ends = told.ends()
    assert {name: outcome for name, (outcome, _) in ends.items()} == {
        "test_pass": "pass",
        "test_fail": "fail",
        "test_skip": "skip",
        "test_setup": "infra",
        "test_teardown": "infra",
        "test_both": "fail",
        "test_limit": "xfail",
        "test_limit_gone": "fail",
        "test_limit_of_another": "fail",
    }
    assert ends["test_pass"][1] == ""
    assert "one is two" in ends["test_fail"][1]
    assert "no device" in ends["test_setup"][1]
    assert "device left bound" in ends["test_teardown"][1]
    assert "the first fault" in ends["test_both"][1]
    assert ends["test_limit"][1] == "cannot"
    assert "[XPASS(strict)] cannot" in ends["test_limit_gone"][1]
    # The host accepts every message, in this order.
    assert told.transcript.broken == ()
    assert len(told.transcript.ended) == 9
    assert told.transcript.running is None


def test_order_is_that_of_the_requirements(tmp_path: Path) -> None:
    """Tests of one requirement keep their order; those of other ones come first."""
    suite = """
    def test_first(): pass
    @pytest.mark.requirement("REQ-LIMIT")
    def test_limit(): assert False
    @pytest.mark.requirement("REQ-NOW")
    def test_now(): pass
    def test_last(): pass
    """
    told = tell(tmp_path, suite, order=("REQ-LIMIT", "REQ-ANY"))
    assert list(told.ends()) == ["test_now", "test_limit", "test_first", "test_last"]


def test_markers_are_about_each_test(tmp_path: Path) -> None:
    told = tell(tmp_path, "def test_a(): pass\ndef test_b(): assert False")
    assert told.kmsg.splitlines() == [
        "<5>vfio_acpi: begin test_it.py::test_a",
        "<5>vfio_acpi: end test_it.py::test_a",
        "<5>vfio_acpi: begin test_it.py::test_b",
        "<5>vfio_acpi: end test_it.py::test_b",
    ]


def test_begin_is_told_before_the_test_and_its_limit(tmp_path: Path) -> None:
    told = tell(
        tmp_path,
        """
        import os
        @pytest.mark.limit(7)
        def test_a(host): os._exit(9)
        """,
    )
    assert told.status == 9
    assert [one["type"] for one in told.records] == ["collected", "begin"]
    assert told.records[-1] == {"type": "begin", "id": "test_it.py::test_a", "limit": 7}
    assert told.transcript.running is not None


def test_values(tmp_path: Path) -> None:
    told = tell(
        tmp_path,
        'def test_a(request): request.node.user_properties.append(("events", 7))',
    )
    assert told.transcript.ended["test_it.py::test_a"].values == {"events": 7}


def test_done_are_collected_and_not_run(tmp_path: Path) -> None:
    told = tell(
        tmp_path,
        "def test_a(): pass\ndef test_b(): pass\ndef test_c(): pass",
        done=("test_it.py::test_a", "test_it.py::test_c", "test_it.py::gone"),
    )
    assert len(told.transcript.ids) == 3
    assert list(told.ends()) == ["test_b"]


def test_kernel_that_is_too_old_does_not_have_the_test(tmp_path: Path) -> None:
    told = tell(
        tmp_path,
        """
        @pytest.mark.requirement("REQ-NOW")
        def test_now(): pass
        @pytest.mark.requirement("REQ-LATER")
        def test_later(): pass
        """,
    )
    assert {test.id for test in told.transcript.collected or ()} == {"test_it.py::test_now"}
    assert told.ends() == {"test_now": ("pass", "")}


def test_other_mechanisms_requirements_are_left_out(tmp_path: Path) -> None:
    told = tell(
        tmp_path,
        """
        def test_any(): pass
        @pytest.mark.requirement("REQ-LIMIT")
        def test_ours(): assert 0
        @pytest.mark.requirement("REQ-EVENTFD")
        def test_other(): pass
        @pytest.mark.requirement("REQ-WITHOUT")
        def test_without(): pass
        """,
    )
    assert list(told.ends()) == ["test_any", "test_ours"]
    assert told.transcript.ids == {f"test_it.py::{name}" for name in told.ends()}


def test_expression(tmp_path: Path) -> None:
    told = tell(tmp_path, "def test_a(): pass\ndef test_b(): pass", expression="not test_a")
    assert told.transcript.ids == {"test_it.py::test_b"}
    assert list(told.ends()) == ["test_b"]


@pytest.mark.parametrize(
    ("suite", "reason"),
    [
        ("pytestmark = []\ndef test_a(): pass", "test_it.py::test_a has no requirement"),
        ('@pytest.mark.requirement("REQ-NO")\ndef test_a(): pass', "REQ-NO is not in the table"),
        ("import no_such_module\ndef test_a(): pass", "No module named 'no_such_module'"),
        ("@pytest.mark.flaky\ndef test_a(): pass", "'flaky' not found in `markers`"),
    ],
)
def test_suite_that_is_wrong_runs_nothing_and_says_why(
    tmp_path: Path, suite: str, reason: str
) -> None:
    told = tell(tmp_path, suite)
    assert told.status == pytest.ExitCode.USAGE_ERROR
    assert told.records == [], "nothing was collected, so that the host calls the run lost"
    assert reason in told.console
    assert told.kmsg == ""


def test_plugins_that_are_never_loaded_are_switched_off() -> None:
    off = {f"_pytest.{name}" for name in (*session.WITHOUT, *session.WITHOUT_FOR_HOST)}
    no_plugins = {"_pytest.approx", "_pytest.pytester", "pygments"}
    assert lazy_imports.Never.NAMES - no_plugins <= off


@pytest.mark.parametrize("size", [1, 1 << 17])
def test_channel_carries_whole_messages(size: int) -> None:
    with terminal() as (ours, path):
        port = channel.Channel(path)
        got: list[bytes] = []

        def read() -> None:
            while not b"".join(got).endswith(b"\n"):
                got.append(os.read(ours, 1000))

        reader = threading.Thread(target=read)
        reader.start()
        port.send("end", message="x" * size)
        reader.join(10)
        assert json.loads(b"".join(got)) == {"type": "end", "message": "x" * size}
        # The first write has two messages, the second one incomplete.
        os.write(ours, b'{"n": 1}\n{"n"')
        assert port.receive() == {"n": 1}
        os.write(ours, b": 2}\n")
        assert port.receive() == {"n": 2}


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        ({"type": "answer", "serial": 1}, None),
        ({"type": "answer", "serial": 1, "error": "no"}, "host refused plug: no"),
        ({"type": "answer", "serial": 2}, "host refused plug: {"),
    ],
)
def test_request(answer: dict[str, object], refusal: str | None) -> None:
    with terminal() as (ours, path):
        port = channel.Channel(path)
        os.write(ours, json.dumps(answer).encode() + b"\n")
        if refusal is None:
            port.request("plug", model="edu")
        else:
            with pytest.raises(RuntimeError, match=refusal):
                port.request("plug", model="edu")
        asked = protocol.parse(drain(ours))
    assert asked == protocol.Request(1, "plug", {"model": "edu"})


def test_port_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PORT_SECONDS", 0.1)
    monkeypatch.setattr(channel, "PORT", "no such port")
    with pytest.raises(FileNotFoundError, match="no such port"):
        channel.find()


@contextmanager
def acpi_debugger(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, bytes]
) -> Iterator[tuple[debugger.Debugger, list[str]]]:
    """A simulated kernel debugger: a prompt, then for each command its answer and a prompt."""
    commands: list[str] = []
    with terminal() as (ours, path):
        monkeypatch.setattr(debugger, "FILE", path)
        os.write(ours, b"- ")

        def serve() -> None:
            for line in os.fdopen(os.dup(ours), "rb", buffering=0):
                command = line.decode().strip()
                if command == "quit":
                    return
                commands.append(command)
                # In two pieces, as the kernel's ring buffer returns it.
                answer = answers.get(command, b"") + b"- "
                os.write(ours, answer[:3])
                os.write(ours, answer[3:])

        server = threading.Thread(target=serve)
        server.start()
        try:
            with debugger.Debugger() as opened:
                yield opened, commands
        finally:
            path.write_bytes(b"quit\n")
            server.join(10)


EVALUATED = b"Evaluating \\N080\nNo object was returned from evaluation of \\N080\n"


def test_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        r"evaluate \N080 0x81 0x0 0x1": EVALUATED,
        r"evaluate \N0FF 0x1": b"Evaluation of \\N0FF failed with status AE_NOT_FOUND\n",
        "nonsense": b"Unknown Command: NONSENSE\n",
    }
    with acpi_debugger(monkeypatch, answers) as (opened, commands):
        assert opened.evaluate("N080", 0x81, 0, 1) == EVALUATED.decode()
        with pytest.raises(debugger.DebuggerError, match=r"evaluate \\N0FF 0x1: .*AE_NOT_FOUND"):
            opened.evaluate("N0FF", 1)
        with pytest.raises(debugger.DebuggerError, match="Unknown Command"):
            opened.run("nonsense")
        assert opened.run(r"notify \_SB.PCI0.S80 0x81") == "", "and the next answer is its own"
        assert commands == [*answers, r"notify \_SB.PCI0.S80 0x81"]


def test_a_method_has_run_before_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further output of the first command is not taken for the answer to the second."""
    answers = [
        b"Evaluating \\NALP\nACPI Debug:  " + debugger.RAN,
        b"No object was returned from evaluation of \\NALP\n\n- ",
        b"Evaluation of \\NBET failed with status AE_NOT_FOUND\n\n- ",
    ]
    with terminal() as (ours, path):
        monkeypatch.setattr(debugger, "FILE", path)
        os.write(ours, b"- ")
        with debugger.Debugger() as opened:
            monkeypatch.setattr(os, "read", lambda _file, _size: answers.pop(0))
            assert opened.evaluate("NALP", 0x81).endswith('"notified"\n')
            assert len(answers) == 2
            with pytest.raises(debugger.DebuggerError, match=r"NBET 0x81: .*AE_NOT_FOUND"):
                opened.evaluate("NBET", 0x81)


def test_debugger_whose_thread_is_too_fast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """First its thread ends at once, then its prompt is lost, then it works."""
    ended = tmp_path / "ended"
    ended.touch()
    monkeypatch.setattr(debugger, "PROMPT_SECONDS", 0.1)
    with terminal() as (_, silent), terminal() as (ours, working):
        os.write(ours, b"- ")
        files = iter([ended, silent, working])
        monkeypatch.setattr(debugger, "FILE", Files(files))
        with debugger.Debugger():
            assert not list(files)
    monkeypatch.setattr(debugger, "FILE", ended)
    monkeypatch.setattr(debugger, "START_SECONDS", 0.1)
    with pytest.raises(debugger.DebuggerError, match="gives no prompt"):
        debugger.Debugger()


@dataclass(frozen=True)
class Files:
    """A path that is another file each time it is opened."""

    paths: Iterator[Path]

    def __fspath__(self) -> str:
        return str(next(self.paths))


@pytest.mark.parametrize(
    ("path", "short"),
    [
        (r"\_SB_.PCI0.S80_", r"\_SB.PCI0.S80"),
        (r"\_SB_.PCI0.S98_.S00_", r"\_SB.PCI0.S98.S00"),
        (r"\_SB_.ACAD", r"\_SB.ACAD"),
    ],
)
def test_short_path(path: str, short: str) -> None:
    assert acpi.short(path) == short


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of /sys/bus/pci. Writing to its files has no effect."""
    monkeypatch.setattr(pci, "BUS", tmp_path)
    (tmp_path / "devices").mkdir()
    return tmp_path


def test_pci_device(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pci, "BIND_SECONDS", 0.1)
    device = pci.PciDevice("alpha", "0000:00:10.0", r"\_SB.PCI0.S80", "N080")
    device.folder.mkdir()
    assert (device.companion, device.driver) == ("", "")
    device.unbind()  # it is not bound
    (device.folder / "firmware_node").mkdir()
    (device.folder / "firmware_node" / "path").write_text("\\_SB_.PCI0.S80_\n")
    assert device.companion == r"\_SB_.PCI0.S80_"
    with pytest.raises(RuntimeError, match="is bound to no driver, not vfio-pci"):
        device.bind()
    assert (device.folder / "driver_override").read_text() == "vfio-pci"
    assert (sysfs / "drivers_probe").read_text() == device.bdf
    driver = sysfs / "drivers" / "vfio-pci"
    driver.mkdir(parents=True)
    (device.folder / "driver").symlink_to(driver)
    device.bind()
    device.unbind()
    assert (driver / "unbind").read_text() == device.bdf


def test_hotplug_port(sysfs: Path) -> None:
    port = pci.Port("0000:00:13.0", r"\_SB.PCI0.S98.S00")
    (sysfs / "devices" / port.bdf).mkdir()
    assert port.plugged is None
    port.wait_empty(0)
    with pytest.raises(TimeoutError, match=r"no device in port 0000:00:13.0 after 0.1 s"):
        port.wait(0.1)
    (sysfs / "devices" / port.bdf / "0000:01:00.0").mkdir()
    (sysfs / "devices" / "0000:01:00.0").mkdir()
    assert port.plugged is None, "the folder is there before its files are"
    (sysfs / "devices" / "0000:01:00.0" / "driver_override").touch()
    assert port.wait(0.1).bdf == "0000:01:00.0"
    with pytest.raises(TimeoutError, match="still has a device"):
        port.wait_empty(0.1)


# --- kernels that are newer than the suite ---


def test_the_suite_knows_the_newest_base() -> None:
    assert max(map(contract.release_line, bases.BASES)) == release.NEWEST


@pytest.mark.parametrize(
    ("running", "bits"), [((7, 3), range(6, 32)), ((6, 1), range(6, 32)), ((7, 4), range(31, 32))]
)
def test_a_later_kernel_may_have_more_flags(
    monkeypatch: pytest.MonkeyPatch, running: contract.Line, bits: range
) -> None:
    monkeypatch.setattr(release, "running", lambda: running)
    assert [call.name for call in bad_input._unknown_flags(bad_input.NONE)] == [
        f"bit {n}" for n in bits
    ]


def test_a_skip_is_told_by_its_reason() -> None:
    place = ("test_a.py", 7, "Skipped: could not run: no acpid")
    report = pytest.TestReport(
        "test_a.py::test", ("test_a.py", 7, "test"), {}, "skipped", place, "call"
    )
    assert recorder.verdict([report]) == {"outcome": "skip", "message": "could not run: no acpid"}


@pytest.mark.parametrize(
    ("command_line", "flavor"),
    [
        ("ro quiet vfio_acpi.flavor=debug kasan_multi_shot\n", "debug"),
        ("vfio_acpi.flavor=plain", "plain"),
        ("ro quiet\n", None),
    ],
)
def test_an_argument_of_the_kernel(tmp_path: Path, command_line: str, flavor: str | None) -> None:
    (tmp_path / "cmdline").write_text(command_line)
    assert recorder.argument(contract.FLAVOR_ARGUMENT, tmp_path / "cmdline") == flavor
