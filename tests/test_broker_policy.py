# SPDX-License-Identifier: GPL-2.0-only
"""The broker's policy and its messages, from hand-written bytes."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from pathlib import Path

import pytest

from uapi.broker import message, policy
from uapi.broker.message import Answer, Role, VersionError
from uapi.broker.policy import DEVICES, LARGEST, Grant, PolicyError
from uapi.errors import FormatError

ROOT = Path(__file__).parent.parent
HEAD = "version = 1\n[[device]]\n"
ROW = 'bdf = "01:00.0"\nuid = 1001\n'

# ---- messages ------------------------------------------------------------------------------------

# As version 1 fixes them, on a little-endian host.
REQUEST = bytes.fromhex(
    "0100 0100 00000000"  # version, OPEN, flags
    "303030303a30313a30302e30 000000000000000000000000"  # 0000:01:00.0
)
OPENED = bytes.fromhex(
    "0100 0200 00000000"  # version, OPENED, no errno
    "0102030000000000"  # EVENTS, DEVICE, ACKNOWLEDGE
    "61636b00000000000000000000000000"  # ack
)
REFUSED = bytes.fromhex("0100 0300 0d000000") + bytes(24)  # EACCES is 13


def test_messages_are_fixed() -> None:
    assert message.request("0000:01:00.0") == REQUEST
    assert message.requested(REQUEST) == "0000:01:00.0"
    opened = Answer(0, (Role.EVENTS, Role.DEVICE, Role.ACKNOWLEDGE), "ack")
    assert message.answer(opened) == OPENED
    assert message.answered(OPENED) == opened
    assert message.answer(Answer(errno.EACCES)) == REFUSED
    assert message.answered(REFUSED) == Answer(errno.EACCES)


def test_the_last_roles_are_fixed() -> None:
    assert [*map(int, (Role.IOMMUFD, Role.GROUP, Role.CONTAINER))] == [4, 5, 6]


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "0 bytes"),
        (OPENED[:-1], "31 bytes"),
        (OPENED + b"\0", "33 bytes"),
        (b"\2" + OPENED[1:], "version 2, not 1"),
        (OPENED[:2] + b"\1" + OPENED[3:], "kind 1"),
        (OPENED[:4] + b"\1" + OPENED[5:], "kind 2, errno 1"),
        (REFUSED[:4] + bytes(28), "kind 3, errno 0"),
        (OPENED[:8] + b"\7" + OPENED[9:], "7 is not a valid Role"),
        (OPENED[:16] + b"x" * 16, "not padded"),
        (OPENED[:16] + b"a\0b" + bytes(13), "not padded"),
    ],
)
def test_what_is_no_answer(data: bytes, cause: str) -> None:
    with pytest.raises(FormatError, match=cause):
        message.answered(data)


def test_another_version_is_an_error_of_its_own() -> None:
    with pytest.raises(VersionError):
        message.requested(b"\2" + REQUEST[1:])


def test_any_bytes_are_read_or_refused() -> None:
    chance = random.Random(1)  # noqa: S311 - repeatable
    for _ in range(2000):
        data = bytearray(chance.choice((REQUEST, OPENED, REFUSED)))
        data[chance.randrange(len(data))] = chance.randrange(256)
        for read in (message.requested, message.answered):
            with contextlib.suppress(FormatError):
                read(bytes(data))


def test_a_name_that_has_no_place() -> None:
    with pytest.raises(FormatError, match="longer than a BDF"):
        message.request("0" * 24)


# ---- the policy ----------------------------------------------------------------------------------


def test_policy() -> None:
    text = (
        f"{HEAD}{ROW}"
        '[[device]]\nbdf = "0000:02:1F.7"\nuid = 0\nmechanism = "netlink"\n'
        "companion = '\\_SB_.PCI0.S80_'\n"
        '[[device]]\nbdf = "0000:03:00.0"\nuid = 4294967294\nmechanism = "eventfd"\n'
    )
    assert policy.parse(text.encode()) == {
        "0000:01:00.0": Grant("0000:01:00.0", 1001),
        "0000:02:1f.7": Grant("0000:02:1f.7", 0, "netlink", "\\_SB_.PCI0.S80_"),
        "0000:03:00.0": Grant("0000:03:00.0", 4294967294, "eventfd"),
    }


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "version: None is not 1"),
        ("version = 2", "version: 2 is not 1"),
        ("version = true", "version: True is not 1"),
        ("version = 1", "device: not a list of 1 to 256 tables"),
        ("version = 1\ndevice = 3", "device: not a list"),
        ("version = 1\ndevice = [3]", "device 1: not a table"),
        (f"{HEAD}uid = 1", "device 1: bdf is missing"),
        (f'{HEAD}bdf = "01:00.0"', "device 1: uid is missing"),
        (f'{HEAD}bdf = "gpu"\nuid = 1', "device 1: bdf: device 'gpu': not a PCI address"),
        (f"{HEAD}bdf = 1\nuid = 1", "device 1: bdf: 1 is not a string"),
        (f'{HEAD}bdf = "01:00.0"\nuid = -1', "device 1: uid: -1 is not a number from 0"),
        (f'{HEAD}bdf = "01:00.0"\nuid = 4294967295', "uid: 4294967295 is not a number"),
        (f'{HEAD}bdf = "01:00.0"\nuid = true', "uid: True is not a number"),
        (f'{HEAD}bdf = "01:00.0"\nuid = "root"', "uid: 'root' is not a number"),
        (f'{HEAD}{ROW}mechanism = "dbus"', "mechanism: 'dbus' is not one of netlink, eventq"),
        # The broker has no capability to join the family.
        (f'{HEAD}{ROW}mechanism = "netlink-device"', "'netlink-device' is not one of netlink, ev"),
        (f"{HEAD}{ROW}mechanism = []", "mechanism: \\[\\] is not one of"),
        (f"{HEAD}{ROW}companion = '\\_SB_'", 'companion: is for mechanism = "netlink" alone'),
        (
            f"{HEAD}{ROW}mechanism = 'netlink'\ncompanion = 'S80'",
            "companion: 'S80' is not an absolute path",
        ),
        (f"{HEAD}{ROW}user = 1", "device 1: 'user' is not one of bdf, companion, mechanism, uid"),
        (f"root = 1\n{HEAD}{ROW}", "'root' is not one of device, version"),
        (f"{HEAD}{ROW}[[device]]\n{ROW}", "device 2: bdf: 0000:01:00.0 is listed twice"),
        ("version = ", "no TOML: Invalid value"),
        ("a = " + "[" * 5000, "no TOML: "),
        ("version = " + "9" * 5000, "no TOML: "),
        (f"{HEAD}{ROW}{'x' * 4000} = 1", "device 1: 'xxxx"),
    ],
)
def test_refused(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    path.chmod(0o644)
    with pytest.raises(PolicyError, match=cause) as caught:
        policy.load(str(path))
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert len(line) < len(str(path)) + 300


def test_too_many_devices_are_refused() -> None:
    rows = "".join(f'[[device]]\nbdf = "{n:04x}:01:00.0"\nuid = 1\n' for n in range(DEVICES + 1))
    with pytest.raises(PolicyError, match="1 to 256"):
        policy.parse(f"version = 1\n{rows}".encode())


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(b"#" * (LARGEST + 1))
    path.chmod(0o644)
    with pytest.raises(PolicyError, match="larger than"):
        policy.load(str(path))


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(HEAD + ROW)
    path.chmod(mode)
    with pytest.raises(PolicyError, match="others than root and this user can write it"):
        policy.load(str(path))


def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("changing the owner takes root")
    path = tmp_path / "policy.toml"
    path.write_text(HEAD + ROW)
    path.chmod(0o644)
    os.chown(path, 61001, 61001)
    with pytest.raises(PolicyError, match="chown it to root"):
        policy.load(str(path))


def test_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(PolicyError, match="not a regular file"):
        policy.load(str(tmp_path / "fifo"))


def test_the_sample_is_a_policy() -> None:
    sample = (ROOT / "contrib/broker/policy.toml").read_bytes()
    assert {grant.mechanism for grant in policy.parse(sample).values()} == {"netlink", None}
