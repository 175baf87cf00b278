# SPDX-License-Identifier: GPL-2.0-only
"""The guest's images: their content, and that their interpreter runs."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import struct
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from kpatch.lib.stage import Silent
from kpatch.tables.paths import PROJECT
from kpatch.vm import guest_image, machine
from tests import commandline

MINOR = f"python3.{sys.version_info.minor}"
CLIENT = b"\x7fELF\xff"
UNCHECKED_HASH = 0b01  # PEP 552: bit 0 (hash-based) of the flags without bit 1 (check_source)


@dataclass(frozen=True)
class Unpacked:
    """Both images, unpacked into folders as the guest mounts them below /mnt."""

    images: guest_image.Images
    runtime: Path
    suite: Path
    left: list[str]
    """What still ran when they were made."""

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the image's interpreter as ktests/start.sh does, without the host's modules."""
        return subprocess.run(
            [str(self.runtime / "bin" / "python3"), "-S", "-s", "-P", *arguments],
            env={
                "PYTHONHOME": str(self.runtime),
                "LD_LIBRARY_PATH": str(self.runtime / "lib"),
                "PATH": "/nonexistent",
                "PYTHONDONTWRITEBYTECODE": "1",  # the images are read-only
            },
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    at = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFIO_ACPI_CACHE", str(at / "cache"))
        # What the default is since Python 3.14, and compileall's own choice before.
        method = multiprocessing.get_start_method()
        multiprocessing.set_start_method("forkserver", force=True)
        before = set(commandline.children(os.getpid()))
        clients = at / "clients"
        clients.mkdir()
        (clients / "acpid").write_bytes(CLIENT)
        (clients / "acpid").chmod(0o755)
        extras = guest_image.Extras(clients)
        images = guest_image.images(machine.load(), extras, stage=Silent())
        assert not images.cached
        left = set(commandline.children(os.getpid())) - before
        multiprocessing.set_start_method(method, force=True)
        start = time.monotonic()
        again = guest_image.images(machine.load(), extras, stage=Silent())
        assert again.cached and again.runtime == images.runtime
        assert time.monotonic() - start < 1
    for name, image in {"runtime": images.runtime, "suite": images.suite}.items():
        argv = ["fsck.erofs", f"--extract={at / name}", str(image)]
        subprocess.run(argv, check=True, capture_output=True)
    return Unpacked(images, at / "runtime", at / "suite", [*map(commandline.command, left)])


def test_nothing_is_left_running(unpacked: Unpacked) -> None:
    assert unpacked.left == []


def test_interpreter_runs_with_the_packages(unpacked: Unpacked) -> None:
    imports = "pytest, cffi, pyroute2.netlink, ctypes, json, tomllib, hashlib, decimal"
    site = f"{unpacked.runtime}/lib/{MINOR}/site-packages"
    run = unpacked.python(
        "-c", f"import sys; sys.path.append({site!r})\nimport {imports}\nprint(pytest.__file__)"
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.strip() == f"{site}/pytest/__init__.py"


def test_no_library_is_missing(unpacked: Unpacked) -> None:
    binaries = [unpacked.runtime / "bin" / "python3", *unpacked.runtime.rglob("*.so")]
    assert len(binaries) > 10
    listing = subprocess.run(
        ["ldd", *map(str, binaries)],
        env={"LD_LIBRARY_PATH": str(unpacked.runtime / "lib"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "not found" not in listing


def test_suite_is_collected_by_the_image_alone(unpacked: Unpacked) -> None:
    """The images contain all modules that the suite imports; only the paths of /mnt differ."""
    site = f"{unpacked.runtime}/lib/{MINOR}/site-packages"
    program = f"""
import re, sys
sys.path[:0] = [{str(unpacked.suite)!r}, {site!r}]
from ktests import session
session.mechanism_of = lambda _: "none"  # this kernel's command line names none
sys.exit(session.by_hand(["--collect-only"]))
"""
    run = unpacked.python("-c", program)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "test_format.py::test_headers[alpha]" in run.stdout


def test_machine_as_the_tests_read_it(unpacked: Unpacked) -> None:
    assert json.loads((unpacked.suite / "machine.json").read_text()) == machine.load().facts()


def test_clients_are_there_as_they_are(unpacked: Unpacked) -> None:
    client = unpacked.suite / "clients" / "acpid"
    assert client.read_bytes() == CLIENT
    assert client.stat().st_mode & 0o111 == 0o111


def test_suite_is_whole(unpacked: Unpacked) -> None:
    for name in guest_image.SUITE:
        for path in (PROJECT / name).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                copy = unpacked.suite / path.relative_to(PROJECT)
                assert copy.read_bytes() == path.read_bytes()
    assert (unpacked.suite / "ktests" / "start.sh").stat().st_mode & 0o111


BUNDLED = """
import sys, traceback
suite, site, path = sys.argv[1:]
sys.path[:0] = [suite, site]
from ktests import bundle
sys.meta_path.insert(0, bundle.Bundle(path))
import json, pytest, pyroute2.netlink, uapi.probe
loaded = [m for m in sys.modules.values() if hasattr(m, "__loader__")]
bundled = [m for m in loaded if isinstance(m.__loader__, bundle.Bundle)]
assert all(m.__file__.startswith("/mnt/runtime/") for m in bundled), bundled
print(len(bundled) > 150, pytest in bundled, pyroute2 in bundled, uapi in bundled)
print(json.__file__, *json.__path__, json.decoder.__package__)
try:
    json.loads("{")
except ValueError as error:
    print(traceback.extract_tb(error.__traceback__)[-1].filename)
"""


def test_bundled_modules(unpacked: Unpacked) -> None:
    """pytest's modules come from the bundle, and have their usual ``__file__``."""
    site = f"{unpacked.runtime}/lib/{MINOR}/site-packages"
    path = unpacked.runtime / "lib" / "bundle"
    run = unpacked.python("-c", BUNDLED, str(unpacked.suite), site, str(path))
    assert run.returncode == 0, run.stdout + run.stderr
    library = f"/mnt/runtime/lib/{MINOR}"
    assert run.stdout.splitlines() == [
        "True True True False",
        f"{library}/json/__init__.py {library}/json json",
        f"{library}/json/decoder.py",
    ]


def test_requirements_as_the_tests_read_them(unpacked: Unpacked) -> None:
    table = tomllib.loads((PROJECT / "ktests" / "requirements.toml").read_text())
    assert json.loads((unpacked.suite / "requirements.json").read_text()) == table


def test_emptied_modules(unpacked: Unpacked) -> None:
    for module in guest_image.EMPTIED:
        path = unpacked.runtime / "lib" / MINOR / "site-packages" / module
        assert path.read_bytes() == b""
        code = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
        assert code.stat().st_size < 300, "its byte code as well"


def test_unused_parts_are_left_out(unpacked: Unpacked) -> None:
    library = unpacked.runtime / "lib" / MINOR
    for name in ("test", "idlelib", "tkinter", "ensurepip"):
        assert not (library / name).exists()
    assert unpacked.images.runtime.stat().st_size < 100e6


def test_byte_code_is_taken_as_it_is(unpacked: Unpacked) -> None:
    # pytest has its own byte code files, with its own rules, for the modules that it rewrites.
    codes = [
        code
        for root in (unpacked.runtime, unpacked.suite)
        for code in root.rglob("*.pyc")
        if "-pytest-" not in code.name
    ]
    flags = {struct.unpack_from("<I", code.read_bytes(), 4)[0] for code in codes}
    assert flags == {UNCHECKED_HASH}
    named = {code.name.split(".")[0] for code in codes if "ktests" in code.parts}
    assert "recorder" in named
    assert not {name for name in named if name.startswith(("test_", "conftest"))}
    source = (unpacked.suite / "ktests" / "recorder.py").read_text()
    assert source, "the source is there too, for tracebacks"
    code = next((unpacked.suite / "ktests").rglob("recorder.*.pyc")).read_bytes()
    assert b"/mnt/suite/ktests/recorder.py" in code, "and tracebacks find it"


def test_suite_key_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in guest_image.SUITE:
        shutil.copytree(PROJECT / name, tmp_path / name)
    monkeypatch.setattr(guest_image, "PROJECT", tmp_path)
    keys = [guest_image.suite_key("{}")]
    assert guest_image.suite_key("{}") == keys[0]
    keys.append(guest_image.suite_key('{"devices": {}}'))
    (tmp_path / "ktests" / "test_more.py").write_text("")
    keys.append(guest_image.suite_key("{}"))
    test = tmp_path / "ktests" / "test_more.py"
    test.rename(test.with_name("test_other.py"))
    keys.append(guest_image.suite_key("{}"))
    (tmp_path / "uapi" / "probe.py").write_text("broken")
    keys.append(guest_image.suite_key("{}"))
    assert len(set(keys)) == len(keys)
    (tmp_path / "ktests" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "ktests" / "__pycache__" / "x.pyc").write_bytes(b"\xff")
    assert guest_image.suite_key("{}") == keys[-1], "byte code is no content"
    clients = tmp_path / "clients"
    clients.mkdir()
    for content in (b"\xff", b"\xfe"):
        (clients / "acpid").write_bytes(content)
        keys.append(guest_image.suite_key("{}", guest_image.Extras(clients)))
    assert len(set(keys)) == len(keys), "clients are content"


def test_keys_follow_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    before = guest_image.runtime_key(), guest_image.suite_key("{}")
    monkeypatch.setattr(sys, "version", "3.99")
    after = guest_image.runtime_key(), guest_image.suite_key("{}")
    assert before[0] != after[0]
    assert before[1] != after[1], "the byte code in it is that interpreter's"
