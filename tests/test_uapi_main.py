# SPDX-License-Identifier: GPL-2.0-only
"""``python -m uapi`` as its user sees it, without a device."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from uapi import checks, conformance, listen, probe
from uapi.bench import Bench, BrokenError, Reader
from uapi.checks import Item
from uapi.conformance import Check, Report
from uapi.eventfd import EventFd
from uapi.notification import Notification, encode
from uapi.notifications import Notifications
from uapi.vfio import DeviceInfo

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "uapi"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", ["listen", "conformance"])
@pytest.mark.parametrize(
    ("device", "cause"),
    [
        ("alpha", "device 'alpha': not a PCI address"),
        ("ffff:ff:1f.7", "ffff:ff:1f.7: no such PCI device"),
        ("../../../etc", "not a PCI address"),
    ],
)
def test_refused(command: str, device: str, cause: str) -> None:
    done = run(command, "--device", device)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert cause in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("conformance",),
        ("listen", "--device"),
        ("listen", "--open-method", "tunnel"),
        ("dance",),
    ],
)
def test_usage(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage: python -m uapi" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_listen_ends_by_a_signal(number: signal.Signals) -> None:
    try:
        probe.family()
    except OSError:
        pytest.skip("no acpi_event family in this network namespace")
    process = subprocess.Popen(
        [*COMMAND, "listen"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline() == "listening; Ctrl-C ends it\n"
        process.send_signal(number)
        out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (0, "", "")


# Sends SIGINT to the process when it imports the module.
INTERRUPTED = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("module", ["argparse", "uapi.conformance", "uapi.vfio"])
def test_ctrl_c_while_it_starts(tmp_path: Path, module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED.format(module=module))
    done = subprocess.run(
        [*COMMAND, "conformance", "--device", "00:10.0"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# Runs the program with a source that is never ready.
WAITING = """
import os, sys
from uapi import __main__, listen
class Silent:
    over = False
    def __init__(self):
        self.pipe = os.pipe()
    def fileno(self):
        return self.pipe[0]
    def close(self):
        pass
listen.NetlinkSource = Silent
sys.exit(__main__.main(["listen", "--json"]))
"""


def test_listen_ends_with_its_reader() -> None:
    """`listen | true`, without any notification."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    with process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "listening; Ctrl-C ends it\n"
            assert process.poll() is None
            os.close(reader)
            assert process.communicate(timeout=30)[1] == ""
        finally:
            process.kill()
    assert process.returncode == 0


def test_no_prose_in_the_json_where_stderr_is_closed() -> None:
    program = 'exec timeout --foreground -s INT 3 "$0" -c "$1" 2>&-'
    done = subprocess.run(
        ["sh", "-c", program, sys.executable, WAITING],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""


def test_the_table_of_mechanisms_is_read_when_it_is_needed() -> None:
    program = (
        "import sys, uapi.__main__ as m\ntry: m.main(['--help'])\nfinally: print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = done.stdout.splitlines()[-1].split()
    assert "uapi.__main__" in loaded
    assert not {"uapi.streams", "uapi.mirror", "_cffi_backend"} & set(loaded)


def test_no_family_in_another_namespace() -> None:
    alone = ["unshare", "-rn"]
    # Tried separately, because a traceback of ours also ends with 1.
    possible = subprocess.run([*alone, "true"], capture_output=True, text=True, check=False)
    if possible.returncode != 0:
        pytest.skip(f"no user namespaces here: {possible.stderr.strip()}")
    done = subprocess.run(
        [*alone, *COMMAND, "listen"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: acpi_event: this network namespace does not have")


def test_help_names_every_option() -> None:
    for command, options in (
        ("listen", ("--device", "--netlink", "--mechanism", "--open-method", "--json")),
        ("conformance", ("--device", "--open-method", "--json")),
    ):
        text = run(command, "--help").stdout
        assert [name for name in options if name not in text] == []


# ---- the lines of listen ----


class Given:
    """A source that gives some lines and then ends."""

    def __init__(self, *texts: str) -> None:
        self._texts = list(texts)
        self._pipe = os.pipe()
        os.write(self._pipe[1], b"x")

    @property
    def over(self) -> bool:
        """See listen.Source."""
        return not self._texts

    def fileno(self) -> int:
        """See listen.Source."""
        return self._pipe[0]

    def lines(self) -> Iterator[listen.Line]:
        """See listen.Source."""
        yield listen.Line(self._texts.pop(0), {})

    def close(self) -> None:
        """Close the pipe."""
        for fd in self._pipe:
            os.close(fd)


def test_lines_of_several_sources_until_all_are_over() -> None:
    sources = (Given("a", "b", "c"), Given("1"))
    assert sorted(line.text for line in listen.lines(sources)) == ["1", "a", "b", "c"]
    for source in sources:
        source.close()


class Armed:
    """A simulated open device."""

    bdf = "0000:00:10.0"
    closed = False

    def __init__(self) -> None:
        self.stream = Notifications(self)

    def notifications(self, mechanism: str | None = None) -> Notifications:
        """As Device."""
        assert mechanism is None
        return self.stream

    def arm(self, fd: object) -> None:
        """As Device."""

    def disarm(self) -> None:
        """As Device."""


@pytest.mark.parametrize(
    ("word", "text", "facts"),
    [
        (
            encode(Notification(0x81)),
            "eventfd 0000:00:10.0 0x81",
            {"value": 0x81, "loopback": False, "lost": 0},
        ),
        (
            encode(Notification(0, True)),
            "eventfd 0000:00:10.0 0x00 loopback",
            {"value": 0, "loopback": True, "lost": 0},
        ),
        (
            encode(Notification(0xD1, False, 3)),
            "eventfd 0000:00:10.0 0xd1 lost 3 before",
            {"value": 0xD1, "loopback": False, "lost": 3},
        ),
        (
            1,
            "eventfd 0000:00:10.0 no notification: 0x0000000000000001 lacks VALID (bit 32)",
            {"error": "0x0000000000000001 lacks VALID (bit 32)"},
        ),
    ],
)
def test_line_of_a_device(word: int, text: str, facts: dict[str, object]) -> None:
    device = Armed()
    source = listen.DeviceSource(device)  # type: ignore[arg-type]
    assert list(source.lines()) == []
    device.stream.eventfd.write(word)
    [line] = source.lines()
    source.close()
    assert line.text == text
    assert line.facts == {"mechanism": "eventfd", "device": "0000:00:10.0"} | facts
    assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{6}} {re.escape(text)}", str(line))
    read = json.loads(line.json())
    assert datetime.fromisoformat(read.pop("time")) == line.time
    assert read == line.facts


def test_names_of_firmware_cannot_write_on_the_terminal() -> None:
    assert listen.printable("0000:00:10.0") == "0000:00:10.0"
    assert listen.printable("") == "-"
    assert listen.printable("a\x1b[2J\nb\u202e") == r"a\x1b[2J\nb\u202e"


# ---- conformance ----


def test_every_check_is_of_a_requirement() -> None:
    known = tomllib.loads((ROOT / "ktests" / "requirements.toml").read_text())
    assert [item.requirement for item in checks.ALL if item.requirement not in known] == []
    assert len({item.title for item in checks.ALL}) == len(checks.ALL)


@pytest.mark.parametrize(
    ("outcomes", "passed"),
    [(("pass", "pass"), True), (("pass", "fail"), False), ((), False)],
)
def test_report(outcomes: tuple[str, ...], passed: bool) -> None:
    made = tuple(
        Check("REQ-EVT-05", "a title", outcome, "a message" if outcome == "fail" else "")
        for outcome in outcomes
    )
    report = Report("0000:00:10.0", "cdev", "7.3.4", True, made)
    assert report.passed is passed
    assert json.loads(report.json())["passed"] is passed
    assert len(json.loads(report.json())["checks"]) == len(outcomes)
    failed = outcomes.count("fail")
    assert str(report).endswith(f"{len(outcomes) - failed} passed, {failed} failed")
    assert ("a message" in str(report)) is bool(failed)


def test_readers_see_what_is_wrong() -> None:
    loopback = encode(Notification(0, True))
    with Reader() as reader:
        for word, wrong in (
            (encode(Notification(0, True, 1)), "lost=1"),
            (encode(Notification(1, True)), "value=1"),
        ):
            reader.write(word)
            with pytest.raises(BrokenError, match=wrong):
                reader.loopbacks(1)
        # Two loopbacks that were added up, and one more than was sent.
        reader.write(loopback)
        with pytest.raises(BrokenError, match="more than were sent"):
            reader.loopbacks(0)
        reader.write(loopback)
        reader.loopbacks(1)


@pytest.mark.parametrize(("number", "wrong"), [(5, True), (6, False), (7, False)])
def test_a_later_kernel_may_have_more_indices(number: int, wrong: bool) -> None:
    device = SimpleNamespace(info=lambda: DeviceInfo(0, 9, number, 0))
    [item] = [item for item in checks.ALL if item.requirement == "REQ-INT-03"]
    with pytest.raises(BrokenError, match="num_irqs 5") if wrong else nullcontext():
        item.function(SimpleNamespace(device=device))  # type: ignore[arg-type]


def test_a_check_that_raises_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bench:
        restored = 0
        foreign = 0

        def restore(self) -> None:
            """Like `Bench.restore`."""
            self.restored += 1

    def fail(bench: object) -> None:
        raise BrokenError("it is so")

    bench = Bench()
    items = [
        Item("REQ-EVT-05", "bad", True, fail),
        Item("REQ-EVT-06", "good", True, lambda _: None),
    ]
    got = list(conformance._run(items, bench))  # type: ignore[arg-type]
    assert [(check.outcome, check.message) for check in got] == [("fail", "it is so"), ("pass", "")]
    assert bench.restored == 2


class Scripted:
    """A device whose loopbacks deliver ``words``: firmware's, where a test wants so."""

    closed = False

    def __init__(self, *words: int) -> None:
        self.words = list(words)
        self.reader: EventFd | None = None

    def arm(self, reader: EventFd, index: int) -> None:
        """Deliver to ``reader``."""
        self.reader = reader

    def disarm(self, index: int) -> None:
        """End the delivery."""
        self.reader = None

    def loopback(self) -> None:
        """Deliver the next word."""
        assert self.reader is not None
        self.reader.write(self.words.pop(0))

    def loopback_bool(self, number: int) -> None:
        """Deliver the next word."""
        self.loopback()

    def close(self) -> None:
        """Do nothing."""


def bench_of(device: Scripted, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("uapi.bench.open_device", lambda *_: device)
    return Bench("0000:00:10.0")


FIRMWARE, GOOD, BAD = (
    encode(word)
    for word in (Notification(0x80), Notification(0, True), Notification(0, True, lost=1))
)


@pytest.mark.parametrize(
    ("words", "outcome", "disturbances"),
    [
        ((GOOD, GOOD), "pass", 0),
        ((FIRMWARE, GOOD, GOOD), "pass", 1),
        ((GOOD, FIRMWARE, GOOD, GOOD), "pass", 1),
        ((FIRMWARE, FIRMWARE, FIRMWARE), "disturbed", 3),
        ((BAD,), "fail", 0),
        ((FIRMWARE, BAD), "fail", 1),
    ],
)
def test_firmware_disturbs_a_check(
    monkeypatch: pytest.MonkeyPatch, words: tuple[int, ...], outcome: str, disturbances: int
) -> None:
    items = [item for item in checks.ALL if item.requirement == "REQ-EVT-05"]
    with bench_of(Scripted(*words), monkeypatch) as bench:
        (check,) = conformance._run(items, bench)
    assert (check.outcome, check.disturbances) == (outcome, disturbances)
    assert ("firmware notified" in check.message) is (outcome == "disturbed")


def test_a_notification_that_a_check_does_not_read_disturbs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(bench: Bench) -> None:
        bench.armed()
        bench.send()
        raise BrokenError("it is so")

    with bench_of(Scripted(*[FIRMWARE] * 3), monkeypatch) as bench:
        (check,) = conformance._run([Item("REQ-EVT-05", "a title", True, fail)], bench)
        assert check.outcome == "disturbed"
    report = Report("0000:00:10.0", "cdev", "7.3.4", True, (check,))
    assert not report.passed
    assert str(report).endswith(
        "0 passed, 0 failed, 1 disturbed by firmware: run again when it is quiet"
    )
