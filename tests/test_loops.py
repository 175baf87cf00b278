# SPDX-License-Identifier: GPL-2.0-only
"""The examples of a VMM's loop (examples/vmm-loop): they relay, and refuse what is no device.

**Simulated**: an ioctl(2) of the test (data/queue_ioctl.c) hands out the queue, which is a socket
into which the test writes events.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.commandline import ROOT

LOOPS = ROOT / "examples" / "vmm-loop"
COMPILERS = {
    ".c": ("gcc", "-O1", "-Wall", "-Wextra", "-Werror"),
    ".rs": ("rustc", "--edition=2021", "-Dwarnings", "-O"),
}

IOCTL = ROOT / "tests" / "data" / "queue_ioctl.c"

NAMES = ("loop.c", "loop.rs", "loop.py")


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ioctl")
    argv = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", "ioctl.so", str(IOCTL)]
    subprocess.run(argv, cwd=folder, check=True)
    return folder / "ioctl.so"


def program(folder: Path, name: str) -> list[str | Path]:
    """Return the command of a loop; skip the test if its compiler is missing."""
    source = LOOPS / name
    if source.suffix == ".py":
        return [sys.executable, source]
    compiler, *options = COMPILERS[source.suffix]
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed: {name} was NOT checked")
    subprocess.run([compiler, *options, "-o", folder / "loop", source], check=True)
    return [folder / "loop"]


def event(sequence: int, value: int, flags: int = 0) -> bytes:
    return struct.pack("=IIII", flags, sequence, value, 0)


# Values for the guest, a loopback, requests to its kernel, and a loss.
EVENTS = (
    event(0, 0xD1),
    event(1, 0x80),
    event(2, 0xD2, flags=1),
    event(3, 0),
    event(4, 3),
    event(5, 0x7F),
    event(9, 0xD5),
    event(10, 0xFFFF),
)
TOLD = ["ready", "notify 0xd1", "notify 0x80", "lost 3", "notify 0xd5", "notify 0xffff", "closed"]


@pytest.mark.parametrize("name", NAMES)
def test_loop_relays_until_the_device_is_closed(tmp_path: Path, preload: Path, name: str) -> None:
    command = program(tmp_path, name)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, Path("/dev/null").open() as device:
        process = subprocess.Popen(
            [*command, str(device.fileno())],
            env=os.environ
            | {
                "PYTHONPATH": str(ROOT),
                "LD_PRELOAD": str(preload),
                "QUEUE": str(theirs.fileno()),
            },
            pass_fds=[device.fileno(), theirs.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
        for message in EVENTS:
            ours.send(message)
        ours.close()
        out, _ = process.communicate(timeout=20)
    assert out.splitlines() == TOLD
    assert process.returncode == 0


def run(command: Sequence[str | Path], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", NAMES)
def test_loop_refuses_what_is_no_device(tmp_path: Path, name: str) -> None:
    command = program(tmp_path, name)
    ended = run(command, "0")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("device 0: ")
    ended = run(command)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("usage: ")
