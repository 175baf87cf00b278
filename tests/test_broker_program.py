# SPDX-License-Identifier: GPL-2.0-only
"""``python -m uapi broker`` and the files of contrib/broker, as an administrator sees them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import brokers
from uapi.broker.client import Broker
from uapi.errors import OpenError

ROOT = Path(__file__).parent.parent
CONTRIB = ROOT / "contrib/broker"
COMMAND = [sys.executable, "-m", "uapi", "broker"]
NO_DEVICE = "0000:ff:1f.7"
SECONDS = 60


@pytest.fixture
def place() -> Iterator[Path]:
    with brokers.folder() as folder:
        policy = folder / "policy.toml"
        policy.write_text(f'version = 1\n[[device]]\nbdf = "{NO_DEVICE}"\nuid = {os.geteuid()}\n')
        policy.chmod(0o644)
        yield folder


def options(place: Path) -> list[str]:
    return ["--policy", str(place / "policy.toml"), "--socket", str(place / "socket")]


@contextmanager
def started(
    arguments: list[str], *, pass_fds: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True, pass_fds=pass_fds
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "serving 1 devices; Ctrl-C ends it\n"
            yield process
        finally:
            process.kill()


def refused(arguments: list[str]) -> str:
    """Run the program, which has to end with 2 and one line on stderr. Returns the line."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(place: Path, number: signal.Signals) -> None:
    with started([*COMMAND, *options(place)]) as process:
        with (
            Broker(str(place / "socket")) as connection,
            pytest.raises(OpenError, match="No such device"),
        ):
            connection.open(NO_DEVICE)
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
        assert not (place / "socket").exists()


def test_it_drops_all_privileges(place: Path) -> None:
    brokers.require_root()
    with started([*COMMAND, *options(place), "--user", "nobody"]) as process:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        status = {name: value.split() for name, _, value in (it.partition(":") for it in lines)}
        assert set(status["Uid"]) == set(status["Gid"]) == {"65534"}
        assert status["Groups"] == ["65534"]
        assert {status[f"Cap{name}"][0] for name in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}
        assert status["NoNewPrivs"] == ["1"]
        # The files of a process that is not dumpable belong to root.
        assert Path(f"/proc/{process.pid}/fd").stat().st_uid == 0
        with (
            Broker(str(place / "socket")) as connection,
            pytest.raises(OpenError, match="No such device"),
        ):
            connection.open(NO_DEVICE)


def test_root_without_a_user_has_no_capability(place: Path) -> None:
    brokers.require_root()
    with started([*COMMAND, *options(place)]) as process:
        assert re.search(r"CapEff:\s+0{16}\n", Path(f"/proc/{process.pid}/status").read_text())


def test_a_socket_that_was_left_behind_is_replaced(place: Path) -> None:
    with started([*COMMAND, *options(place)]):
        pass
    assert (place / "socket").is_socket()
    with started([*COMMAND, *options(place)]), Broker(str(place / "socket")):
        pass


def test_a_second_broker_is_refused(place: Path) -> None:
    with started([*COMMAND, *options(place)]):
        assert "another broker listens there" in refused(options(place))
        with Broker(str(place / "socket")):
            pass


def test_a_file_in_the_place_of_the_socket_stays(place: Path) -> None:
    (place / "socket").write_text("precious")
    assert "a file is there" in refused(options(place))
    assert (place / "socket").read_text() == "precious"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (["--socket", "/nowhere/socket"], "/nowhere/socket: No such file or directory"),
        (["--socket", "/tmp/" + "x" * 200], "too long"),  # noqa: S108 - never made
        (["--socket", ""], "no --socket, and systemd handed over none"),
        (["--policy", "/nowhere/policy"], "No such file or directory: '/nowhere/policy'"),
        (["--policy", "/dev/null"], "not a regular file"),
        (["--policy", "README.md"], "README.md: no TOML: "),
        (["--user", "no such user"], "user 'no such user': there is none"),
        (["--user", "é"], "there is none"),
    ],
)
def test_one_line_for_an_error(place: Path, change: list[str], cause: str) -> None:
    assert cause in refused([*options(place), *change])


def test_netlink_where_there_is_none(place: Path) -> None:
    policy = place / "policy.toml"
    policy.write_text(policy.read_text() + 'mechanism = "netlink"\n')
    assert "acpi_event: " in refused(options(place))


# What systemd does for a unit with a socket, by Python: the variable has the pid of the program.
ACTIVATE = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); "
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_socket_of_systemd(place: Path, kind: socket.SocketKind) -> None:
    path = str(place / "activated")
    with socket.socket(socket.AF_UNIX, kind) as there:
        there.bind(path)
        there.listen(1)
        number = str(there.fileno())
        policy = options(place)[:2]
        argv = [sys.executable, "-c", ACTIVATE, number, *COMMAND, *policy]
        if kind == socket.SOCK_STREAM:
            done = subprocess.run(
                argv,
                cwd=ROOT,
                pass_fds=(there.fileno(),),
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            assert done.returncode == 2
            assert "use ListenSequentialPacket=" in done.stderr
            return
        with (
            started(argv, pass_fds=(there.fileno(),)),
            Broker(path) as connection,
            pytest.raises(OpenError, match="No such device"),
        ):
            connection.open(NO_DEVICE)


# ---- files of contrib/broker ---------------------------------------------------------------------

ANALYZE = shutil.which("systemd-analyze")
# systemd's rating of a service: 0 is the best, 10 the worst. "OK" begins below 5.
EXPOSURE = 1.5


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units in a folder, with a program that exists in the place of vfio-acpi."""
    if ANALYZE is None:
        pytest.skip("systemd-analyze is not installed")
    for path in CONTRIB.glob("vfio-acpi-broker.*"):
        text = path.read_text().replace("/usr/bin/vfio-acpi", "/bin/true")
        (tmp_path / path.name).write_text(text)
    return tmp_path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ANALYZE), *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_systemd_accepts_the_units(units: Path) -> None:
    done = analyze("verify", *(str(path) for path in sorted(units.glob("vfio-acpi-broker.*"))))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_is_hardened(units: Path) -> None:
    unit = units / "vfio-acpi-broker.service"
    done = analyze("security", "--offline=true", "--no-pager", str(unit))
    found = re.search(r"exposure level for .*: ([\d.]+) ", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE, done.stdout


def test_the_unit_starts_the_program(place: Path) -> None:
    """The options of ExecStart= are those of the program; it refuses the missing policy alone."""
    text = (CONTRIB / "vfio-acpi-broker.service").read_text()
    found = re.search(r"^ExecStart=/usr/bin/vfio-acpi broker (.+)$", text, re.MULTILINE)
    assert found is not None
    arguments = found[1].replace("/etc/vfio-acpi/broker.toml", str(place / "none")).split()
    assert "No such file or directory" in refused(arguments)
