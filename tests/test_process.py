# SPDX-License-Identifier: GPL-2.0-only
"""Child processes end with their parent, however the parent ends. The processes are real."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kpatch.errors import HarnessError
from kpatch.lib import process
from kpatch.tables.outcomes import ExitCode

ROOT = Path(__file__).parent.parent
SECONDS = 10.0

# Starts a child as the harness does, and prints its pid.
PARENT = """
import sys, time
from kpatch.lib import process
with process.child(["sleep", "60"], parent_death=sys.argv[1]) as child:
    print(child.pid, flush=True)
    time.sleep(60)
"""

# A process with a child in the same group. It prints both pids, then nothing.
FAMILY = ("sh", "-c", "sleep 60 & echo $$ $!; wait")


def gone(pid: int) -> bool:
    """Return whether the process has ended; a zombie counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def pids(child: subprocess.Popen[bytes]) -> list[int]:
    assert child.stdout is not None
    return [int(word) for word in child.stdout.readline().split()]


@pytest.mark.parametrize("parent_death", ["TERM", "KILL"])
def test_parent_that_is_killed_takes_the_child_along(parent_death: str) -> None:
    argv = [sys.executable, "-c", PARENT, parent_death]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        [pid] = pids(parent)
        assert not gone(pid)
        # The child only ends with its parent after setpriv has called prctl(2) and executed sleep.
        cmdline = Path(f"/proc/{pid}/cmdline")
        assert within(SECONDS, lambda: cmdline.read_bytes().startswith(b"sleep"))
        parent.send_signal(signal.SIGKILL)
        assert within(SECONDS, lambda: gone(pid))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_parent_ends_the_child(signum: signal.Signals) -> None:
    script = f"import signal\nsignal.signal({signum:d}, signal.default_int_handler)\n{PARENT}"
    argv = [sys.executable, "-c", script, "TERM"]
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        [pid] = pids(parent)
        parent.send_signal(signum)
        assert parent.wait(SECONDS) != 0
        assert gone(pid), "before the parent itself ended"


def test_exception_ends_the_group() -> None:
    with pytest.raises(KeyboardInterrupt), process.child(FAMILY) as child:
        family = pids(child)
        assert not any(map(gone, family))
        raise KeyboardInterrupt
    assert within(SECONDS, lambda: all(map(gone, family)))


def test_group_outlives_its_leader_not_the_block() -> None:
    with process.child(("sh", "-c", "sleep 60 & echo $!")) as child:
        [left] = pids(child)
        assert child.wait(SECONDS) == 0
        assert not gone(left)
    assert within(SECONDS, lambda: gone(left))


def test_child_that_ignores_term_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.3)
    with process.child(("sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done")) as child:
        pids(child)
    assert child.returncode == -signal.SIGKILL


def test_child_has_a_session_of_its_own() -> None:
    # Ctrl-C on the terminal reaches only this process, which then ends the child.
    with process.child(("sleep", "60")) as child:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_child_on_our_terminal_stays_in_our_session() -> None:
    with process.child(("sleep", "60"), stdin=None) as child:
        assert os.getsid(child.pid) == os.getsid(0)
        assert os.getpgid(child.pid) == os.getpgid(0)
    assert child.returncode == -signal.SIGTERM, "and the child alone was ended"


def test_capture() -> None:
    lines: list[str] = []
    log = io.BytesIO()
    status, output = process.capture(
        ("sh", "-c", r"echo out; echo err >&2; printf 'raw \377'; exit 3"),
        line=lines.append,
        log=log,
    )
    assert (status, output) == (3, "out\nerr\nraw \N{REPLACEMENT CHARACTER}")
    assert lines == ["out", "err", "raw \N{REPLACEMENT CHARACTER}"]
    assert log.getvalue() == b"out\nerr\nraw \xff"


def test_capture_where_and_with_what(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "ONLY": "this"}
    status, output = process.capture(("sh", "-c", "pwd; echo $ONLY$HOME"), cwd=tmp_path, env=env)
    assert (status, output.splitlines()) == (0, [str(tmp_path), "this"])


def test_no_shell_reads_the_arguments() -> None:
    assert process.capture(("echo", "$(id)", "; id")) == (0, "$(id) ; id\n")


def test_need() -> None:
    assert Path(process.require_tool("sh", package="dash")).name == "sh"
    with pytest.raises(
        HarnessError, match=r"no-such-tool: not found in PATH; .* package xyz"
    ) as no:
        process.require_tool("no-such-tool", package="xyz")
    assert no.value.code is ExitCode.USAGE
