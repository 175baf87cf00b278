# SPDX-License-Identifier: GPL-2.0-only
"""Taking a VFIO device's descriptor from a process: a real pidfd_getfd(2), /proc simulated."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commandline import ROOT
from uapi.errors import OpenError
from uapi.vmm import descriptor

PID = 4242
GROUP, CDEV = "anon_inode:[vfio-device]", "/dev/vfio/devices/vfio3"
ALPHA = "0000:00:10.0"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(descriptor, "PROC", tmp_path)
    for name in ("fd", "fdinfo"):
        (tmp_path / str(PID) / name).mkdir(parents=True)
    add(tmp_path, 0, "/dev/null")
    add(tmp_path, 7, "anon_inode:[eventfd]")
    return tmp_path


def add(proc: Path, number: int, link: str, bdf: str = "") -> None:
    """Add a descriptor to the process."""
    folder = proc / str(PID)
    (folder / "fd" / str(number)).symlink_to(link)
    told = f"vfio-device-syspath: /sys/devices/pci0000:00/{bdf}\n" if bdf else ""
    (folder / "fdinfo" / str(number)).write_text(f"pos:\t0\nflags:\t02000002\n{told}")


def test_devices_are_told_by_their_names(proc: Path) -> None:
    add(proc, 21, GROUP, ALPHA)
    add(proc, 30, CDEV, "0000:3b:00.0")
    assert descriptor.devices(PID) == {21: ALPHA, 30: "0000:3b:00.0"}
    assert descriptor.find(PID, "0000:3b:00.0") == 30


def test_only_device_is_taken_if_the_kernel_does_not_name_it(proc: Path) -> None:
    add(proc, 21, GROUP)
    assert descriptor.find(PID, ALPHA) == 21
    add(proc, 22, GROUP)
    with pytest.raises(OpenError, match=r"2 VFIO devices, and this kernel does not tell which"):
        descriptor.find(PID, ALPHA)


@pytest.mark.requirement("REQ-VMM-65")
@pytest.mark.parametrize(
    ("bdf", "names"), [("", "none"), ("0000:3b:00.0", "0000:3b:00.0")], ids=["none", "other"]
)
def test_process_without_the_device(proc: Path, bdf: str, names: str) -> None:
    if bdf:
        add(proc, 21, GROUP, bdf)
    with pytest.raises(OpenError, match=f"does not have {ALPHA} open; its VFIO devices: {names};"):
        descriptor.find(PID, ALPHA)


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_descriptor_is_duplicated(other: subprocess.Popen[bytes]) -> None:
    copy = descriptor.duplicate(other.pid, 0)
    try:
        assert other.stdin is not None
        assert os.path.sameopenfile(copy, copy)
        assert os.fstat(copy).st_ino == os.fstat(other.stdin.fileno()).st_ino
        assert not os.get_inheritable(copy)
    finally:
        os.close(copy)


def test_descriptor_that_is_not_there(other: subprocess.Popen[bytes]) -> None:
    with pytest.raises(OpenError, match=f"process {other.pid}: Bad file descriptor") as caught:
        descriptor.duplicate(other.pid, 99)
    assert caught.value.errno == errno.EBADF


def test_process_that_has_ended(other: subprocess.Popen[bytes]) -> None:
    other.kill()
    other.wait()
    for use in (lambda: descriptor.duplicate(other.pid, 0), lambda: descriptor.devices(other.pid)):
        with pytest.raises(OpenError, match=f"process {other.pid}: does not exist") as caught:
            use()
        assert caught.value.errno == errno.ESRCH


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have another user's process")
@pytest.mark.parametrize(
    ("scope", "hint"),
    [
        ("0", "be root, or the user that the VMM runs as"),
        ("1", "kernel.yama.ptrace_scope is 1: be root, or the parent process of the VMM"),
        ("3", "kernel.yama.ptrace_scope is 3: nobody may, until the next boot with another value"),
        ("", "be root, or the user that the VMM runs as"),
    ],
)
def test_another_users_process(
    other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, scope: str, hint: str
) -> None:
    monkeypatch.setattr(descriptor, "_ptrace_scope", lambda: scope)
    os.seteuid(65534)  # the real user is still root; the kernel asks for the effective one's rights
    try:
        with pytest.raises(OpenError) as caught:
            descriptor.devices(other.pid)
    finally:
        os.seteuid(0)
    assert caught.value.errno == errno.EACCES
    assert str(caught.value) == (
        f"process {other.pid}: this process may not attach to it, and so not take a descriptor "
        f"from it; {hint}"
    )


@pytest.mark.requirement("REQ-VMM-65")
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--mailbox", "x"], "error: mailbox 'x': not a number"),
        (["--slot", ALPHA], f"error: slot '{ALPHA}': not a number"),
        (["--slot", "0=0000:01:00.0"], "error: slot '0=0000:01:00.0': 0 is given twice"),
        (["--slot", f"1={ALPHA}"], f"error: slot '1={ALPHA}': {ALPHA} is given twice"),
        (["--slot", "256=x"], "error: slot '256=x': a guest's table has slots 0 to 255"),
        (["--slot", "1=x"], "error: device 'x': not a PCI address"),
        ([], "error: {qtest}: No such file or directory; start QEMU with -qtest unix:PATH,server="),
    ],
    ids=["mailbox", "slot", "twice", "device", "beyond", "address", "socket"],
)
def test_command_says_what_is_wrong(tmp_path: Path, arguments: list[str], line: str) -> None:
    qtest = tmp_path / "qtest"
    argv = ["--pid", "1", f"--slot=0={ALPHA}", "--qtest", str(qtest), "--mailbox", "0x8000000"]
    ended = subprocess.run(
        [sys.executable, "-m", "uapi", "relay", *argv, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(line.format(qtest=qtest)), ended.stderr
    assert len(ended.stderr.splitlines()) == 1
