# SPDX-License-Identifier: GPL-2.0-only
"""The messages during a run."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kpatch.lib.progress import KEPT_TIMINGS, Progress, Timings
from kpatch.lib.stage import Stage

Make = Callable[..., tuple[Progress, io.StringIO]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(**options: object) -> tuple[Progress, io.StringIO]:
        file = io.StringIO()
        timings = Timings(tmp_path / "timings.json")
        return Progress(file=file, timings=timings, **options), file  # type: ignore[arg-type]

    return made


def works(stage: Stage) -> None:
    stage.note("compiling")
    stage.advance(1, 4)
    stage.command(["make", "a b"], cwd=Path("/x"))


def test_a_record_of_a_stage(make: Make) -> None:
    progress, file = make()
    with progress.stage("build", series="netlink") as stage:
        works(stage)
        time.sleep(0.05)
    (record,) = progress.records
    assert stage.record is record
    assert (record.name, record.series, record.cached) == ("build", "netlink", False)
    assert record.commands == ("cd /x && make 'a b'",)
    assert 0.05 <= record.seconds < 5
    assert re.fullmatch(r"build netlink: 0\.\ds\n", file.getvalue())


def test_a_cached_stage(make: Make) -> None:
    progress, file = make()
    with progress.stage("source") as stage:
        stage.cached = True
    assert file.getvalue() == "source: cached, 0.0s\n"
    assert progress.records[0].cached


def test_a_stage_that_fails_is_recorded_and_not_learned(make: Make, tmp_path: Path) -> None:
    progress, file = make()
    with pytest.raises(KeyboardInterrupt), progress.stage("build"):
        raise KeyboardInterrupt
    assert re.fullmatch(r"build: stopped after 0\.[0-9]s\n", file.getvalue())
    assert [record.name for record in progress.records] == ["build"]
    assert not (tmp_path / "timings.json").exists()


def test_a_log_has_a_start_a_heartbeat_and_an_end(make: Make) -> None:
    progress, file = make(heartbeat=0.2)
    progress._timings.learn("build 7.3", 312)
    with progress.stage("build", series="netlink", kind="7.3") as stage:
        works(stage)
        time.sleep(1.2)
    lines = file.getvalue().splitlines()
    assert lines[0] == "build netlink: started, about 5m12s"
    assert re.fullmatch(r"build netlink: [01]\.\ds of about 5m12s, 25%, compiling", lines[1])
    assert re.fullmatch(r"build netlink: 1\.\ds", lines[-1])
    assert len(lines) >= 4


def test_what_must_not_be_missed_is_said_at_once(make: Make) -> None:
    progress, file = make(heartbeat=1000.0)
    with progress.stage("build", series="netlink") as stage:
        stage.say("waiting for another run")
        assert file.getvalue() == "build netlink: waiting for another run\n"
        assert stage.status().endswith(", waiting for another run")


def test_no_heartbeat_before_its_time(make: Make) -> None:
    progress, file = make()
    with progress.stage("build"):
        time.sleep(0.8)
    assert len(file.getvalue().splitlines()) == 2


def test_commands_are_echoed_on_demand(make: Make) -> None:
    progress, file = make(echo=True)
    with progress.stage("build") as stage:
        works(stage)
    assert file.getvalue().splitlines()[0] == "  $ cd /x && make 'a b'"


def test_a_note_of_a_guest_is_cleaned(make: Make) -> None:
    progress, file = make(heartbeat=0.1)
    with progress.stage("test") as stage:
        stage.note("\x1b[2J evil\nsecond line")
        time.sleep(0.8)
    assert "\x1b" not in file.getvalue()
    assert "evil" in file.getvalue()
    assert "second line" not in file.getvalue()


def test_several_stages_at_once(make: Make) -> None:
    progress, file = make()

    def run(name: str) -> None:
        for _ in range(20):
            with progress.stage(name) as stage:
                works(stage)

    threads = [threading.Thread(target=run, args=(f"stage{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(progress.records) == 80
    lines = file.getvalue().splitlines()
    assert len(lines) == 80
    assert [line for line in lines if not re.fullmatch(r"stage\d: 0\.\ds", line)] == []
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_a_closed_pipe_does_not_disturb_the_run(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as file:
        progress = Progress(file=file, timings=Timings(tmp_path / "t.json"), heartbeat=0.1)
        with progress.stage("build"):
            time.sleep(0.6)
        assert len(progress.records) == 1
        with pytest.raises(BrokenPipeError):
            file.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


SCRIPT = """
import sys, time
from pathlib import Path
from kpatch.lib.progress import Progress, Timings
progress = Progress(timings=Timings(Path(sys.argv[1])), echo=True)
with progress.stage("source") as stage:
    stage.cached = True
assert "rich" not in sys.modules
with progress.stage("build", series="netlink") as stage:
    stage.note("compiling " + "x" * 200)
    stage.advance(3, 4)
    time.sleep(1.0)
    stage.command(["make", "[bold]"])
"""


def test_a_terminal(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(  # only its stderr is a terminal
        [sys.executable, "-c", SCRIPT, str(tmp_path / "t.json")],
        stderr=slave,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "60"},
        cwd=Path(__file__).parent.parent,
    )
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 4096):
            shown += chunk
    except OSError:  # EIO: the other end is closed
        pass
    finally:
        os.close(master)
    assert process.communicate(timeout=10)[0] == b""
    assert process.returncode == 0, shown.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert lines[0] == "source: cached, 0.0s"
    assert any(
        re.fullmatch(r"build netlink: [01]\.\ds, 75%, compiling x+…", line) for line in lines
    )
    assert max(len(line) for line in lines) <= 60
    assert "$ make '[bold]'" in lines
    assert re.fullmatch(r"build netlink: 1\.\ds", lines[-1])


# timings


def test_the_median_of_the_last_few_is_expected(tmp_path: Path) -> None:
    timings = Timings(tmp_path / "cache" / "timings.json")
    assert timings.expected("build") is None
    for seconds in (1000, 1000, 1000, 10, 12, 11, 900, 10):
        timings.learn("build", seconds)
    timings.learn("other", 1)
    assert timings.expected("build") == 11
    stored = json.loads((tmp_path / "cache" / "timings.json").read_text())
    assert len(stored["build"]) == KEPT_TIMINGS
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["timings.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"build": "x"}', '{"build": [true, -1]}'])
def test_broken_timings_cost_nothing_else(content: str, tmp_path: Path) -> None:
    path = tmp_path / "timings.json"
    path.write_text(content)
    timings = Timings(path)
    assert timings.expected("build") is None
    timings.learn("build", 5)
    assert timings.expected("build") == 5


def test_timings_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    timings = Timings(tmp_path / "file" / "timings.json")
    timings.learn("build", 5)
    assert timings.expected("build") is None


def test_the_cache_keeps_them_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path))
    assert Timings().path == tmp_path / "timings.json"


def test_timings_on_a_full_disk_leave_nothing(tmp_path: Path) -> None:
    """A limit on the file size simulates a full disk: both make write(2) fail."""
    timings = Timings(tmp_path / "timings.json")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        timings.learn("build", 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []
