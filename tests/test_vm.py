# SPDX-License-Identifier: GPL-2.0-only
"""A VM's channels and monitor, with a real QEMU whose CPUs never start (``-S``)."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from kpatch.errors import HarnessError
from kpatch.lib import environment
from kpatch.tables.outcomes import ExitCode
from kpatch.vm import qemu
from kpatch.vm.qmp import Monitor


def stopped_machine(fds: Mapping[str, int]) -> list[str]:
    chardevs = (
        part
        for name in ("records", "console", "qmp")
        for part in ("-chardev", f"socket,id={name},fd={fds[name]}")
    )
    return [
        *("qemu-system-x86_64", "-S", "-machine", "q35", "-nodefaults", "-display", "none"),
        *chardevs,
        *("-serial", "chardev:console", "-mon", "chardev=qmp,mode=control"),
        *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=records"),
    ]


@pytest.fixture
def machine() -> Iterator[qemu.VM]:
    with qemu.started(stopped_machine) as started:
        yield started


def test_monitor(machine: qemu.VM) -> None:
    status = machine.qmp("query-status")
    assert isinstance(status, dict) and status["status"] == "prelaunch"
    with pytest.raises(HarnessError, match="QMP device_del: Device 'none' not found") as refused:
        machine.qmp("device_del", id="none")
    assert refused.value.code is ExitCode.LOST
    machine.sysrq("w")


def test_quit_ends_it(machine: qemu.VM) -> None:
    machine.qmp("quit")
    end = time.monotonic() + 10
    while machine.alive and time.monotonic() < end:
        list(machine.output(1.0))
    assert not machine.alive
    assert machine.qemu.wait() == 0
    machine.send({"type": "job"})  # no guest is connected; nothing happens


def test_output_ends_in_time(machine: qemu.VM) -> None:
    start = time.monotonic()
    assert list(machine.output(0.3)) == []
    assert 0.25 < time.monotonic() - start < 3
    assert machine.alive


def test_stopped_qemu_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    monitor = Monitor(ours, seconds=0.5)
    start = time.monotonic()
    with pytest.raises(HarnessError, match=r"QMP query-status: no answer within 0.5 s") as mute:
        monitor.command("query-status", {})
    assert mute.value.code is ExitCode.LOST
    monitor.close()
    assert time.monotonic() - start < 5
    theirs.close()


def test_frozen_qemu_is_ended() -> None:
    with qemu.started(stopped_machine) as frozen:
        frozen.qmp("query-status")
        os.kill(frozen.qemu.pid, signal.SIGSTOP)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert frozen.qemu.returncode == -signal.SIGKILL
    assert not Path(f"/proc/{frozen.qemu.pid}").exists()


def test_nothing_of_the_users_environment_is_qemus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest can read QEMU's environment."""
    monkeypatch.setenv("A_TOKEN_OF_MINE", "secret")
    with qemu.started(stopped_machine) as started:
        started.qmp("query-status")  # setpriv has executed QEMU by now
        raw = Path(f"/proc/{started.qemu.pid}/environ").read_bytes()
    names = {word.partition(b"=")[0].decode() for word in raw.split(b"\0") if word}
    assert {"PATH"} <= names <= {*environment.VARIABLES, "LC_ALL"}


def test_exception_ends_it() -> None:
    with pytest.raises(RuntimeError), qemu.started(stopped_machine) as started:
        raise RuntimeError
    assert started.qemu.returncode == -signal.SIGKILL


def test_what_was_printed_before_a_record_comes_before_it() -> None:
    talk = "records.sendall(b'r'); console.sendall(b'c'); records.sendall(b'R')"
    with qemu.started(lambda fds: saying(fds, talk)) as talking:
        talking.qemu.wait()
        said = list(talking.output(5.0))
    assert said == [qemu.ChannelOutput("console", b"c"), qemu.ChannelOutput("records", b"rR")]


def saying(fds: Mapping[str, int], script: str) -> list[str]:
    """Return the command of a process that has QEMU's channels but is not QEMU."""
    prelude = "import socket, sys; records, console = (socket.socket(fileno=int(word)) "
    prelude += "for word in sys.argv[1:]); "
    return [sys.executable, "-S", "-c", prelude + script, str(fds["records"]), str(fds["console"])]
