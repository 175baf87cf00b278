# SPDX-License-Identifier: GPL-2.0-only
"""The client's Debian package, from a small archive that these tests make; apt is real."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from kpatch.errors import HarnessError
from kpatch.lib import cache, system
from kpatch.lib.stage import Silent, Stage
from kpatch.source import debian
from kpatch.tables.outcomes import ExitCode
from kpatch.vm import acpid
from ktests import acpid as guest_acpid
from tests import test_archive
from tests.test_archive import Debian

debian_system = test_archive.debian_system
keys = test_archive.keys

VERSION = "2.0.33-2"


def control(version: str) -> str:
    """Return the control file of the package."""
    return (
        f"Package: {acpid.PACKAGE}\nVersion: {version}\nArchitecture: all\n"
        "Maintainer: T <t@example.org>\nDescription: test\n"
    )


def folder_of(stage: Stage) -> Path:
    """Return the folder of the client, which has to exist."""
    folder = acpid.folder(stage=stage)
    assert folder is not None
    return folder


def publish(
    debian_system: Debian, monkeypatch: pytest.MonkeyPatch, *, without: str = "", suite: str = ""
) -> None:
    """Publish a package in the first suite. Each program's content is only its name.

    The programs are never run: a fault might give the real program, a daemon.
    """
    monkeypatch.setattr(debian_system, "control", control)
    root = debian_system.folder / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(control(VERSION))
    (root / "DEBIAN/postinst").write_text(f"#!/bin/sh\ntouch {debian_system.folder}/installed\n")
    (root / "DEBIAN/postinst").chmod(0o755)
    for name, path in acpid.PROGRAMS.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if name != without:
            program(root / path, name)
    pool = debian_system.folder / "www/pool"
    pool.mkdir(parents=True)
    deb = pool / f"{acpid.PACKAGE}_{VERSION}_all.deb"
    argv = ("dpkg-deb", "--root-owner-group", "--build", str(root), str(deb))
    subprocess.run(argv, check=True, capture_output=True)
    shutil.rmtree(root)
    debian_system.suite(suite or acpid.SUITES[0], deb)


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def programs(folder: Path) -> list[bytes]:
    """Return the content of each program, which has to be executable."""
    assert all(os.access(folder / name, os.X_OK) for name in acpid.PROGRAMS)
    return [(folder / name).read_bytes() for name in acpid.PROGRAMS]


def test_programs_of_the_package(debian_system: Debian, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(debian_system, monkeypatch)
    stage = Silent()
    folder = folder_of(stage)
    assert programs(folder) == [name.encode() for name in acpid.PROGRAMS]
    assert sorted(item.name for item in folder.iterdir()) == sorted([*acpid.PROGRAMS, acpid.ORIGIN])
    assert (folder / acpid.ORIGIN).read_text() == f"{VERSION} from {acpid.SUITES[0]}\n"
    assert not (debian_system.folder / "installed").exists(), "it is unpacked, not installed"
    assert debian_system.downloads() == 1
    asked = len(debian_system.requests)
    assert folder_of(stage) == folder
    assert len(debian_system.requests) == asked, "the second time it comes from the cache"


def test_package_of_a_later_suite(debian_system: Debian, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(debian_system, monkeypatch, suite=acpid.SUITES[1])
    folder = folder_of(Silent())
    assert (folder / acpid.ORIGIN).read_text() == f"{VERSION} from {acpid.SUITES[1]}\n"


def test_installed_ones_where_the_archive_has_none(
    debian_system: Debian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "sbin"
    local.mkdir()
    for name in acpid.PROGRAMS:
        program(local / name, f"own-{name}")
    monkeypatch.setenv("PATH", f"{local}{os.pathsep}{os.environ['PATH']}")
    folder = folder_of(Silent())
    assert programs(folder) == [f"own-{name}".encode() for name in acpid.PROGRAMS]
    assert (folder / acpid.ORIGIN).read_text() == "installed\n"


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs with names that no system has, so that the host does not matter."""
    names = {f"strange-{name}": path for name, path in acpid.PROGRAMS.items()}
    monkeypatch.setattr(acpid, "PROGRAMS", names)


@pytest.mark.usefixtures("strange")
def test_package_without_its_programs(
    debian_system: Debian, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(debian_system, monkeypatch, without="strange-acpi_listen")
    with pytest.raises(HarnessError) as caught:
        acpid.folder(stage=Silent())
    assert caught.value.code is ExitCode.LOST
    assert "holds no usr/bin/acpi_listen" in caught.value.cause
    assert "\n" not in str(caught.value)
    left = [item.name for item in (cache.root() / "clients").iterdir()]
    assert left == [cache.TAG], "nothing half-made"


def test_cache_that_cannot_be_written_is_no_missing_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise cache.CacheError("the cache", "cannot be written", hint="make it writable")

    monkeypatch.setattr(cache, "entry", refuse)
    with pytest.raises(cache.CacheError, match="cannot be written"):
        acpid.folder(stage=Silent())


class Said(Silent):
    """A stage that records the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Record the line."""
        self.lines.append(text)


@pytest.mark.usefixtures("strange")
@pytest.mark.parametrize("apt", [True, False], ids=["not in the archive", "no apt"])
def test_none_to_be_had_is_said(
    debian_system: Debian, monkeypatch: pytest.MonkeyPatch, apt: bool
) -> None:
    if not apt:
        monkeypatch.setenv("PATH", "/no/such")
    monkeypatch.setattr(system, "release", lambda: {"ID": "fedora"})
    stage = Said()
    assert acpid.folder(stage=stage) is None
    cause = "no acpid could be had" if apt else "this system has no apt-get"
    [line] = stage.lines
    assert line.startswith(f"acpid: {cause}")
    assert "sudo dnf install -y acpid (names from a table, untried on Fedora)" in line
    assert line.endswith("; the tests that need it cannot run")
    left = [item.name for item in (cache.root() / "clients").iterdir()]
    assert left == [cache.TAG], "looked for again the next time"


@pytest.mark.parametrize("there", [True, False])
def test_guest_tells_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(guest_acpid, "CLIENTS", tmp_path)
    if there:
        program(tmp_path / "acpid", "")
    assert guest_acpid.missing().startswith("could not run: the host has no acpid") is not there


def test_full_disk_is_no_reason_to_look_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        with cache.translate_os_errors():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path))
    monkeypatch.setattr(debian, "find", full)
    with pytest.raises(cache.CacheError, match="No space left on device; free some space"):
        folder_of(Silent())


def test_package_of_somebody_else(debian_system: Debian, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package list that an untrusted key has signed is refused."""
    strange = {f"strange-{name}": path for name, path in acpid.PROGRAMS.items()}
    monkeypatch.setattr(acpid, "PROGRAMS", strange)
    publish(debian_system, monkeypatch)
    suite = debian_system.folder / "www/dists" / acpid.SUITES[0]
    data = (suite / "InRelease").read_text().split("\n\n", 1)[1].split("-----BEGIN PGP SIG")[0]
    signed = debian_system.keys.gpg(
        "--local-user", "other@example.org", "--clearsign", data=data.encode()
    )
    (suite / "InRelease").write_bytes(signed)
    with pytest.raises(HarnessError):
        folder_of(Silent())
    assert debian_system.downloads() == 0
