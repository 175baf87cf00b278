# SPDX-License-Identifier: GPL-2.0-only
"""The installation of the project's packages, its messages, and the lock file."""

from __future__ import annotations

import ast
import fcntl
import functools
import hashlib
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kpatch import bootstrap
from kpatch.lib import system

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "kpatch" / "bootstrap.py"
OURS = {"kconfig", "kpatch", "ktests", "tests", "uapi"}

# The distributions of modules whose names differ from their distribution's.
# Packages that only tests with the marker check import, when they run.
OPTIONAL = {"playwright"}

DISTRIBUTIONS = {
    "_cffi_backend": "cffi",
    "elftools": "pyelftools",
    "qemu": "qemu.qmp",
    "yaml": "pyyaml",
    "virtme": "virtme-ng",
}


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without root, where sudo asks for a password or does not exist."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda *a, **k: None if a[0] == "sudo" else which(*a, **k))


def test_signs_tell_there_from_missing(tmp_path: Path) -> None:
    assert bootstrap.present("sh")
    assert bootstrap.present("/etc/passwd")
    assert not bootstrap.present("no-such-tool")
    assert not bootstrap.present(str(tmp_path))


def test_administrators_commands_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bootstrap.present("depmod")


@pytest.mark.skipif(not Path("/var/lib/dpkg/info").is_dir(), reason="a system without dpkg")
def test_signs_are_of_their_packages() -> None:
    """dpkg names the package that owns each sign; links between folders are followed."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    signs: dict[str, set[str]] = {}
    for package, sign in bootstrap.PACKAGES.items():
        place = shutil.which(sign, path=path) or sign
        names = {place, str(Path(place).resolve())}
        signs[package] = names | {name.removeprefix("/usr") for name in names}
    argv = ["dpkg", "--search", *(name for names in signs.values() for name in names)]
    said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    owners = dict(line.rsplit(": ", 1)[::-1] for line in said.splitlines())
    for package, names in signs.items():
        found = {owners[name] for name in names if name in owners}
        # gcc is a link to a file of gcc-12; libelf-dev:amd64 includes an architecture.
        assert any(re.match(rf"{re.escape(package)}(-\d+)?(:|,|$)", owner) for owner in found), (
            found
        )


def test_nothing_to_do_is_quick_and_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stamp = tmp_path / "made-from"
    monkeypatch.setattr(bootstrap, "STAMP", stamp)
    monkeypatch.setattr(bootstrap, "PACKAGES", {"dash": "sh"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    stamp.write_text(bootstrap.wanted())
    # No process may be started, because that takes time.
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail(str(a)))
    start = time.monotonic()
    assert bootstrap.main() == 0
    assert time.monotonic() - start < 0.2
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("nobody")
def test_who_may_not_install_is_told_the_one_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    packages = {"dash": "sh", "some-tool": "no-such-tool", "lib-dev": "/no/such/header.h"}
    monkeypatch.setattr(bootstrap, "PACKAGES", packages)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert bootstrap.main() == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (
        "vfio-acpi: missing Debian packages; run: sudo apt-get install -y "
        "--no-install-recommends some-tool lib-dev\n"
    )


@pytest.mark.usefixtures("nobody")
def test_packages_of_a_word_are_asked_for_with_the_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "PACKAGES", {"dash": "sh"})
    monkeypatch.setattr(bootstrap, "EXTRA_PACKAGES", {"browser": {"chromium": "no-such-tool"}})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert bootstrap.packages() == 0
    assert bootstrap.main(["browser"]) == 2
    assert capfd.readouterr().err.endswith(" chromium\n")


@pytest.mark.usefixtures("nobody")
def test_missing_venv_module_is_a_package(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "PACKAGES", {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert bootstrap.main() == 2
    assert capfd.readouterr().err.endswith(" python3-venv\n")


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"ID": "debian"}, "install the Debian packages acpica-tools libelf-dev"),
        (
            {"ID": "fedora"},
            "run: sudo dnf install -y acpica-tools elfutils-libelf-devel"
            " (names from a table, untried on Fedora)",
        ),
        (
            {"ID": "arch"},
            "run: sudo pacman -S --needed acpica libelf"
            " (names from a table, untried on Arch Linux)",
        ),
        ({}, "install what your system calls acpica-tools, libelf-dev (Debian's names)"),
    ],
    ids=["debian", "fedora", "arch", "unknown"],
)
def test_system_without_apt(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    told: dict[str, str],
    line: str,
) -> None:
    packages = {"acpica-tools": "no-such-tool", "libelf-dev": "/no/such.h", "gcc": "/etc/passwd"}
    monkeypatch.setattr(bootstrap, "PACKAGES", packages)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(system, "release", lambda: told)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bootstrap.main() == 2
    assert capfd.readouterr().err == f"vfio-acpi: missing: acpica-tools, libelf-dev; {line}\n"


def test_apt_of_another_distribution_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Fedora packages apt, which does not find packages by Debian's names there."""
    (tmp_path / "apt-get").symlink_to(shutil.which("false") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bootstrap, "PACKAGES", {"bc": "no-such-tool"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(system, "release", lambda: {"ID": "fedora"})
    assert bootstrap.main() == 2
    assert "sudo dnf install -y bc" in capfd.readouterr().err


def test_signs_of_another_distribution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On Arch, corelist is not in a folder of PATH."""
    (tmp_path / "perl").symlink_to(shutil.which("true") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bootstrap, "PACKAGES", {"perl": "no-corelist"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(system, "release", lambda: {"ID": "arch"})
    assert bootstrap.packages() == 0


def test_failed_environment_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("")
    stamp = tmp_path / "venv" / "made-from"
    monkeypatch.setattr(bootstrap, "LOCK", lock)
    monkeypatch.setattr(bootstrap, "STAMP", stamp)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / "venv")
    # A program in place of pip, which takes a second to fail.
    pip = tmp_path / "venv" / "bin" / "python"
    pip.parent.mkdir(parents=True)
    pip.symlink_to(shutil.which("false") or "")
    stamp.write_text("an older lock file")
    monkeypatch.setattr(bootstrap, "MAKE_VENV", ("true",))
    assert bootstrap.virtual_environment() == 2
    assert "failed with status" in capfd.readouterr().err
    assert not stamp.exists(), "the next run does not take it for whole"


def test_environment_of_another_checkout_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "made-from").write_text("another lock file")
    (tmp_path / ".venv").symlink_to(other)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / ".venv" / "made-from")
    assert bootstrap.virtual_environment() == 2
    assert ".venv is a link, to an environment of another lock file" in capsys.readouterr().err
    assert (other / "made-from").read_text() == "another lock file"
    (other / "made-from").write_text(bootstrap.wanted())
    assert bootstrap.virtual_environment() == 0, "one of the same lock file is used"


HOSTILE_CONF = """\
[global]
index-url = https://user.example.org/simple
trusted-host =
    one.example.org
    two.example.org
user = true
no-deps = false
constraint = /no/such/constraints
[install]
index-url = https://install.example.org/simple
proxy = http://proxy.example.org:3128
target = {0}/target
"""

# Variables that make pip or Python fail, or install elsewhere.
HOSTILE_VARIABLES = {
    "PIP_CONSTRAINT": "/no/such/constraints",
    "PIP_DRY_RUN": "1",
    "PIP_NO_BINARY": ":all:",
    "PIP_PREFIX": "{0}/prefix",
    "PIP_REQUIREMENT": "/no/such/requirements",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_ROOT": "{0}/root",
    "PIP_TARGET": "{0}/target",
    "PIP_USER": "1",
    "PYTHONHOME": "/no/such/home",
    "PYTHONPATH": "{0}/shadow",
    "PYTHONSTARTUP": "{0}/shadow/pip.py",
    "PYTHONUSERBASE": "{0}/base",
    "PIP_EXTRA_INDEX_URL": "https://extra.example.org/simple",
    "PIP_FIND_LINKS": "",
}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with hostile settings of pip and Python."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "PYTHON"))]:
        monkeypatch.delenv(name)
    for name, value in HOSTILE_VARIABLES.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    (tmp_path / "shadow").mkdir()
    for module in ("pip", "venv", "sitecustomize"):
        (tmp_path / "shadow" / f"{module}.py").write_text("raise SystemExit('shadowed')\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text(HOSTILE_CONF.format(tmp_path))
    return tmp_path


def wheel(folder: Path) -> str:
    """Write an empty wheel. Returns its line for a lock file."""
    path, info = folder / "tiny-1-py3-none-any.whl", "tiny-1.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny.py", "")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"tiny @ {path.as_uri()} --hash=sha256:{sha256}\n"


def test_the_users_settings_choose_the_index_and_nothing_else(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A real venv and pip install a local wheel."""
    lock = settings / "requirements.lock"
    lock.write_text(wheel(settings))
    place = settings / "venv"
    for name, value in {"LOCK": lock, "VENV": place, "STAMP": place / "made-from"}.items():
        monkeypatch.setattr(bootstrap, name, value)
    assert bootstrap.virtual_environment() == 0, capfd.readouterr()
    [installed] = settings.rglob("tiny.py")
    assert installed.is_relative_to(place)
    pip = [str(place / "bin" / "python"), "-I", "-m", "pip"]
    taken = bootstrap.settings(pip, {"HOME": str(settings), "PATH": os.environ["PATH"]})
    assert taken["PIP_CONFIG_FILE"] == os.devnull
    # pip itself lists the settings that it uses.
    argv = [*pip, "config", "list"]
    listed = subprocess.run(argv, env=taken, capture_output=True, text=True, check=True).stdout
    assert set(listed.splitlines()) >= {
        f":env:.config-file='{os.devnull}'",
        ":env:.disable-pip-version-check='1'",
        ":env:.extra-index-url='https://extra.example.org/simple'",
        ":env:.index-url='https://install.example.org/simple'",
        ":env:.proxy='http://proxy.example.org:3128'",
        ":env:.trusted-host='one.example.org two.example.org'",
    }
    # The system's settings may add further names.
    names = {line.partition("=")[0].removeprefix(":env:.") for line in listed.splitlines()}
    ours = {"config-file", "disable-pip-version-check"}
    assert names <= ours | bootstrap.PIP_LISTS | bootstrap.PIP_WORDS


def test_make_hides_the_settings_of_python(tmp_path: Path) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"include {ROOT}/Makefile\nshow:\n\t@env\n")
    env = {"PATH": os.environ["PATH"], "PYTHONHOME": "/x", "PYTHONPATH": "/y", "SERIES": "base"}
    argv = ["make", "-s", "-f", str(makefile), "show"]
    said = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout
    assert "SERIES=base" in said.splitlines()
    assert not [line for line in said.splitlines() if line.startswith("PYTHON")]


def test_two_at_once_wait_for_each_other(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from kpatch import bootstrap
from kpatch.lib import system
bootstrap.STAMP = Path({str(tmp_path / "stamp")!r})
bootstrap.make = lambda: print("made") or 0
sys.exit(bootstrap.virtual_environment())
"""
    project = os.open(bootstrap.PROJECT, os.O_RDONLY)
    try:
        fcntl.flock(project, fcntl.LOCK_EX)
        argv = [sys.executable, "-S", "-c", program]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as other:
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.7)
            fcntl.flock(project, fcntl.LOCK_UN)
            assert other.wait(10) == 0
            assert other.stdout is not None and other.stdout.read() == b"made\n"
    finally:
        os.close(project)


def test_script_needs_the_standard_library_only() -> None:
    for name in ("bootstrap.py", "tables/distributions.py", "lib/system.py"):
        assert third_party(SCRIPT.parent / name) == set()
    argv = [sys.executable, "-S", "-I", "-c", f"import runpy; runpy.run_path({str(SCRIPT)!r})"]
    assert subprocess.run(argv, check=False).returncode == 0


def locked(name: str = "requirements.lock") -> dict[str, str]:
    """Return each package of the lock file with its version and hashes."""
    text = re.sub(r"\\\n", " ", (ROOT / name).read_text())
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    return {re.split("[=<>!~ ;\\[]", line)[0]: line for line in lines}


LOCKS = (
    "requirements.lock",
    "requirements-matrix.lock",
    "requirements-browser.lock",
    "requirements-mutants.lock",
    "requirements-coverage.lock",
)


@functools.cache
def wanted() -> set[str]:
    texts = [(ROOT / name).with_suffix(".in").read_text() for name in LOCKS]
    return {
        canonicalize_name(Requirement(line).name)
        for line in "\n".join(texts).splitlines()
        if line.strip() and not line.startswith(("#", "-c "))
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_everything_with_hashes(lock: str) -> None:
    packages = locked(lock)
    assert packages
    for name, line in packages.items():
        assert re.match(rf"{re.escape(name)}==\S+ ", line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", line), f"{name} has no hash"


def test_lock_has_every_requirement() -> None:
    assert wanted() <= {canonicalize_name(name) for lock in LOCKS for name in locked(lock)}


@pytest.mark.parametrize(("one", "other"), itertools.combinations(LOCKS, 2))
def test_locks_pin_the_same_versions(one: str, other: str) -> None:
    """One would replace what the other has installed."""
    first, second = locked(one), locked(other)
    for name in first.keys() & second.keys():
        assert first[name].split()[0] == second[name].split()[0]


def third_party(path: Path) -> set[str]:
    """Return the packages that a module imports, except ours and the standard library's."""

    def imports() -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module

    return {name.split(".")[0] for name in imports()} - OURS - set(sys.stdlib_module_names)


def test_every_import_is_a_requirement() -> None:
    missing = {
        f"{path.relative_to(ROOT)}: {module}"
        for name in OURS
        for path in (ROOT / name).rglob("*.py")
        for module in third_party(path)
        if module not in OPTIONAL
        and canonicalize_name(DISTRIBUTIONS.get(module, module)) not in wanted()
    }
    assert not missing
