# SPDX-License-Identifier: GPL-2.0-only
"""virtme-ng's QEMU command: the parts that are used, and that it has the known form."""

from __future__ import annotations

import base64
import itertools
import os
import re
import shlex
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kpatch import pipeline
from kpatch.errors import HarnessError
from kpatch.lib.progress import Progress
from kpatch.lib.stage import Silent
from kpatch.model import Kernel
from kpatch.tables import paths
from kpatch.tables.outcomes import ExitCode
from kpatch.vm import acpid, guest_image, machine, qemu, virtme
from kpatch.vm.accel import Accel
from kpatch.vm.guest_image import Images

DATA = Path(__file__).parent / "data" / "virtme"
FDS = {"records": 5, "console": 6, "qmp": 7, "qtest": 8}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def setup(tmp_path: Path) -> qemu.Setup:
    (tmp_path / "bzImage").write_bytes(b"no kernel")
    return qemu.Setup(
        image=tmp_path / "bzImage",
        machine=machine.load(),
        firmware=Path("/aml"),
        images=Images(Path("/runtime"), Path("/suite"), cached=True),
        accel=Accel("tcg", "tcg", "asked for"),
    )


def golden(name: str) -> list[str]:
    return (DATA / f"{name}.txt").read_text().splitlines()


def known(argv: list[str]) -> list[str]:
    """Return the parts that do not depend on the host, its user, or the project's path."""
    append = virtme.value_of(argv, "-append")
    words = [
        re.sub(r"=/\S*/virtme/guest/bin/", "=/venv/virtme/guest/bin/", word)
        for word in append.split()
        if not word.startswith(("virtme_rw_overlay", "virtme_root_user=", "TERM="))
    ]
    return [
        re.sub(r"path=\S*/virtme_ret\w*", "path=/tmp/virtme_ret", word)
        for word in virtme.replaced(argv, "-append", append, " ".join(words))[1:]
    ]


def values(argv: list[str], flag: str) -> list[str]:
    return [after for word, after in pairwise(argv) if word == flag]


@pytest.mark.parametrize(("name", "interactive"), [("script", False), ("interactive", True)])
def test_installed_version_has_the_known_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, interactive: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    image = tmp_path / "bzImage"
    image.write_bytes(b"no kernel")
    stage = Silent()
    argv = virtme.qemu_command(image, kvm=False, stage=stage, interactive=interactive)
    expected = [str(image) if word == "@bzImage@" else word for word in golden(name)]
    assert Path(argv[0]).name == "qemu-system-x86_64"
    assert known(argv) == known(expected)
    # The second call takes the command from the cache, with the name of another image.
    other = tmp_path / "other"
    again = virtme.qemu_command(other, kvm=False, stage=stage, interactive=interactive)
    assert [str(image) if word == str(other) else word for word in again] == argv
    assert len(stage.commands) == 2 and str(other) in stage.commands[1]


def test_another_place_of_virtme_ng_is_another_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment `.venv` may be a link, which led elsewhere when the command was cached."""
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))
    image = tmp_path / "bzImage"
    image.write_bytes(b"no kernel")
    virtme.qemu_command(image, kvm=False, stage=Silent())
    monkeypatch.setattr(virtme, "guest_folder", lambda: tmp_path / "moved")
    virtme.qemu_command(image, kvm=False, stage=Silent())
    assert len([*(tmp_path / "cache" / "virtme").glob("*/argv.json")]) == 2


def test_script_ports_are_dropped_with_their_channels() -> None:
    argv = virtme.without_script_ports(golden("script"))
    assert values(argv, "-chardev") == ["file,id=console,path=/proc/self/fd/2"]
    assert values(argv, "-device") == [
        "virtio-9p-pci,fsdev=virtfs5,mount_tag=/dev/root",
        "i6300esb,id=watchdog0",
    ]
    kept = [word for word in golden("script") if not word.startswith(("virtio-serial", "virtser"))]
    assert set(kept) - set(argv) == {
        word for word in kept if re.match(r"(stdio|file),id=(std|dev_std|ret)", word)
    }
    assert argv.count("-no-reboot") == 1, "a flag without a value stays"


def test_replaced() -> None:
    argv = ["qemu", "-a", "x=1", "-b", "x=1", "-a", "y=1"]
    assert virtme.replaced(argv, "-a", "y=", "z") == [*argv[:-1], "z"]
    assert virtme.replaced(argv, "-b", "x", "-a") == ["qemu", "-a", "x=1", "-b", "-a", "-a", "y=1"]
    assert virtme.value_of(argv, "-b") == "x=1"


def test_unknown_command_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"virtme-ng .*: its QEMU command has no -a w=") as error:
        virtme.replaced(["qemu", "-a", "x=1"], "-a", "w=", "z")
    assert error.value.code is ExitCode.LOST


def test_no_qemu_is_a_missing_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HarnessError, match="install the Debian package qemu-system-x86") as error:
        virtme.qemu_command(tmp_path / "bzImage", kvm=False, stage=Silent())
    assert error.value.code is ExitCode.USAGE


def test_kernel_arguments(setup: qemu.Setup) -> None:
    argv = qemu.command(setup, FDS, Silent())
    words = virtme.value_of(argv, "-append").split()
    ours, _, theirs = " ".join(words).partition(" -- ")
    assert set(qemu.KERNEL_ARGUMENTS) <= set(words)
    assert set(qemu.EMULATED_ARGUMENTS) <= set(words)
    assert "VFIO_ACPI=run" in words
    assert [word for word in words if word.startswith("init=")] == [
        f"init={paths.KTESTS / 'init.sh'}"
    ], "one init, ours"
    assert ours.endswith("init.sh") and Path(theirs).name == "virtme-ng-init"
    [flags] = [word for word in words if word.startswith("rootflags=")]
    assert flags.endswith(",cache=loose")
    [script] = [word for word in words if word.startswith("virtme.exec=")]
    encoded = script.removeprefix("virtme.exec=").strip("`")
    assert base64.b64decode(encoded).decode() == qemu.WHEN_READY


def test_hardware_keeps_its_own_timers(setup: qemu.Setup) -> None:
    native = replace(setup, accel=replace(setup.accel, used="kvm"))
    words = virtme.value_of(qemu.command(native, FDS, Silent()), "-append").split()
    assert not set(qemu.EMULATED_ARGUMENTS) & set(words)


def machine_of(setup: qemu.Setup, monkeypatch: pytest.MonkeyPatch, flavor: str) -> qemu.Setup:
    """Return the parts of a VM that the pipeline makes for ``flavor``."""
    through = pipeline.Pipeline(pipeline.RunRequest(flavor=flavor), Progress())
    monkeypatch.setattr(guest_image, "images", lambda *a, **k: setup.images)
    monkeypatch.setattr(acpid, "folder", lambda **k: None)
    through.state.accel = setup.accel
    return through.machine(cast(Kernel, SimpleNamespace(image=setup.image)), None)


@pytest.mark.parametrize(("flavor", "told"), [("plain", False), ("debug", True)])
def test_kasan_reports_more_than_once(
    setup: qemu.Setup, monkeypatch: pytest.MonkeyPatch, flavor: str, told: bool
) -> None:
    """Only in the flavor with KASAN: a kernel without KASAN passes the unknown word to init."""
    of_flavor = machine_of(setup, monkeypatch, flavor)
    for argv in (
        qemu.command(of_flavor, FDS, Silent()),
        qemu.shell_command(of_flavor, "netlink", stage=Silent()),
    ):
        ours, _, theirs = virtme.value_of(argv, "-append").partition(" -- ")
        assert ("kasan_multi_shot" in ours.split()) == told
        assert "kasan_multi_shot" not in theirs


@pytest.mark.parametrize(("flavor", "cpus"), [("plain", "2"), ("preempt", "4")])
def test_the_flavor_has_the_cpus(
    setup: qemu.Setup, monkeypatch: pytest.MonkeyPatch, flavor: str, cpus: str
) -> None:
    of_flavor = machine_of(setup, monkeypatch, flavor)
    assert virtme.value_of(qemu.command(of_flavor, FDS, Silent()), "-smp") == cpus
    shell = qemu.shell_command(of_flavor, "netlink", stage=Silent())
    assert virtme.value_of(shell, "-smp") == cpus


def test_channels_and_disks(setup: qemu.Setup) -> None:
    argv = qemu.command(setup, FDS, Silent())
    assert set(values(argv, "-chardev")) == {
        "socket,id=records,fd=5",
        "socket,id=console,fd=6",
        "socket,id=qmp,fd=7",
        "socket,id=qtest,fd=8",
    }
    ports = [value for value in values(argv, "-device") if value.startswith("virtserialport")]
    assert ports == ["virtserialport,bus=records-bus.0,chardev=records,name=vfio_acpi.records"]
    drives = values(argv, "-drive")
    assert [drive.split(",")[0] for drive in drives] == ["file=/runtime", "file=/suite"]
    assert all(drive.endswith(",readonly=on") for drive in drives)
    more = qemu.command(replace(setup, selftests=Path("/own")), FDS, Silent())
    assert [drive.split(",")[0] for drive in values(more, "-drive")][2:] == ["file=/own"]
    [share] = values(argv, "-fsdev")
    assert "readonly=on" in share, "the guest cannot write to the host"


def test_shell(setup: qemu.Setup) -> None:
    argv = qemu.shell_command(setup, "netlink", stage=Silent())
    append = shlex.split(virtme.value_of(argv, "-append"))
    assert {"VFIO_ACPI=shell", "vfio_acpi.mechanism=netlink"} <= set(append)
    assert not any(word.startswith("virtme.exec=") for word in append)
    assert "stdio,id=console,signal=off,mux=on" in argv, "the terminal is the console"


GOOD = [
    *(["qemu", "-m", "1G", "-smp", "2", "-fsdev", "local,id=virtfs5,path=/,readonly=on"]),
    *(
        [
            "-device",
            "virtio-9p-pci,x",
            "-net",
            "none",
            "-serial",
            "chardev:console",
            "-kernel",
            "x",
            "-append",
        ]
    ),
    "console=ttyS0 rootfstype=9p ro loglevel=7",
]


def test_a_command_as_asked_for_is_taken() -> None:
    virtme.check_argv(GOOD)


@pytest.mark.parametrize(
    ("before", "after", "objection"),
    [
        (",readonly=on", "", "the guest can write to the file system local,id=virtfs5,path=/"),
        ("-smp 2", "-smp 1", "-smp is 1, not 2"),
        ("-m 1G", "-m 9G", "-m is 9G, not 1G"),
        ("-net none", "-net user", "-net user is not known"),
        ("-serial", "-virtfs x -serial", "-virtfs x is not known"),
        ("virtio-9p-pci", "vhost-vsock-pci", "-device vhost-vsock-pci,x is not known"),
        (" ro ", " ", "the kernel's command line lacks ro"),
        ("ro ", "ro rw ", "the kernel's command line has rw"),
        ("ro ", "ro quiet ", "the kernel's command line has quiet"),
        ("loglevel=7", "loglevel=1", "the kernel's command line lacks loglevel=7"),
        ("loglevel=7", "loglevel=7 loglevel=1", "the kernel's command line has loglevel=1"),
        ("console=ttyS0", "console=tty0", "the kernel's command line lacks console=ttyS0"),
    ],
)
def test_another_command_is_refused(before: str, after: str, objection: str) -> None:
    words, append = " ".join(GOOD[:-1]), GOOD[-1]
    changed = [*words.replace(before, after, 1).split(), append.replace(before, after, 1)]
    assert changed != GOOD
    with pytest.raises(HarnessError) as error:
        virtme.check_argv(changed)
    assert error.value.code is ExitCode.LOST
    assert f"its QEMU command is not as asked for: {objection};" in str(error.value)


def test_the_users_configuration_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hostile configuration makes the host's file system writable and the kernel silent."""
    monkeypatch.setenv("VFIO_ACPI_CACHE", str(tmp_path / "cache"))
    conf = tmp_path / "home" / ".config" / "virtme-ng" / "virtme-ng.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text('{"default_opts": {"rw": true, "quiet": true, "cpus": 1, "memory": "9G"}}')
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    image = tmp_path / "bzImage"
    image.write_bytes(bytes(4096))
    argv = virtme.qemu_command(image, kvm=False, stage=Silent())
    virtme.check_argv(argv)
    assert "readonly=on" in virtme.value_of(argv, "-fsdev")


class Unprivileged(socket.socket):
    """A socket of a user without CAP_NET_ADMIN."""

    def setsockopt(self, level: int, option: int, value: int) -> None:  # type: ignore[override]
        """Refuse SO_SNDBUFFORCE, as the kernel does."""
        if option == qemu.SO_SNDBUFFORCE:
            raise PermissionError
        super().setsockopt(level, option, value)


def room(kind: type[socket.socket], *, made: bool) -> int:
    """Return how many single characters a new console takes that nobody reads."""
    ours, theirs = socket.socketpair()
    with ours, kind(fileno=theirs.detach()) as end:
        if made:
            qemu.make_room(end)
        end.setblocking(False)
        with suppress(BlockingIOError):
            for count in itertools.count():  # noqa: B007 - used when there is no room left
                end.send(b"x")
    return count


def test_the_console_has_room_while_the_harness_is_busy() -> None:
    """How much an unprivileged user gets depends on the machine: more than by default."""
    assert room(Unprivileged, made=True) > room(socket.socket, made=False)
    if os.geteuid() == 0:
        assert room(socket.socket, made=True) > 40_000


PRINTER = """
import itertools, socket, sys
console = socket.socket(fileno=int(sys.argv[1]))
console.setblocking(False)
try:
    for count in itertools.count():
        console.send(b"x")
except BlockingIOError:
    print(count)
"""


def test_the_console_of_a_vm_has_room() -> None:
    """QEMU is simulated: a program that prints until there is no room left."""
    with qemu.started(lambda fds: [sys.executable, "-c", PRINTER, str(fds["console"])]) as vm:
        assert vm.qemu.stdout is not None
        assert int(vm.qemu.stdout.readline()) > room(socket.socket, made=False)
