# SPDX-License-Identifier: GPL-2.0-only
"""``pip install .`` installs all of uapi/ as the package vfio_acpi, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import uapi

ROOT = Path(__file__).parent.parent
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSES", "uapi", "tests")
OFFLINE = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
# The documents in uapi/, which are in the source distribution alone.
DOCUMENTS = {"README.md", "CHANGELOG.md"}
MANUAL = "vfio-acpi.1"


def python(*arguments: str, cwd: Path) -> str:
    argv = [sys.executable, *arguments]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build from, with a new sub-package, and with what an earlier build has left."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc"))
        else:
            shutil.copy(ROOT / name, folder)
    (folder / "build/lib/vfio_acpi").mkdir(parents=True)
    (folder / "build/lib/vfio_acpi/left.py").touch()
    (folder / "uapi/planted").mkdir()
    (folder / "uapi/planted/__init__.py").write_text("from .. import mirror as mirror\n")
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    pip = ("-m", "pip", "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", "out", ".")
    python(*pip, cwd=source)
    (found,) = source.glob("out/*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel: Path) -> Path:
    """A folder in which the wheel is installed, beside a package ``uapi`` of somebody else."""
    folder = wheel.parent / "site"
    (folder / "uapi").mkdir(parents=True)
    (folder / "uapi/__init__.py").write_text("raise SystemExit('the other uapi')\n")
    python("-m", "pip", "install", *OFFLINE, "--target", "site", str(wheel), cwd=wheel.parent)
    return folder


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def tracked(source: Path) -> set[str]:
    return {
        path.relative_to(source / "uapi").as_posix()
        for path in (source / "uapi").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_only_uapi_is_in_it_and_all_of_that(source: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    manual = {f"vfio_acpi-{uapi.__version__}.data/data/share/man/man1/{MANUAL}"}
    modules = {f"vfio_acpi/{name}" for name in tracked(source) - DOCUMENTS - {MANUAL}}
    assert names == modules | manual
    assert "vfio_acpi/golden/schema.json" in names
    assert [path.name for path in (source / "build").rglob("*.py")] == ["left.py"]


def test_the_source_distribution_builds_the_same_wheel(source: Path, wheel: Path) -> None:
    python("-m", "build", "--sdist", "--no-isolation", "--outdir", "out", cwd=source)
    (found,) = source.glob("out/*.tar.gz")
    shutil.unpack_archive(found, source / "unpacked")
    (unpacked,) = (source / "unpacked").iterdir()
    files = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*")}
    assert {f"uapi/{name}" for name in tracked(source)} <= files
    assert {"LICENSES/MIT.txt", "setup.py", "pyproject.toml"} <= files
    assert not {name for name in files if name.startswith(("tests", "kpatch", "build"))}
    pip = ("-m", "pip", "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", "out", ".")
    python(*pip, cwd=unpacked)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(unpacked / "out" / wheel.name) as other:
        assert {name: one.read(name) for name in one.namelist()} == {
            name: other.read(name) for name in other.namelist()
        }


def test_what_it_says_of_itself(wheel: Path) -> None:
    told = metadata(wheel)
    assert (told["Name"], told["Version"]) == ("vfio-acpi", uapi.__version__)
    wanted = ['argcomplete; extra == "completion"', "cffi", "pyroute2"]
    assert sorted(told.get_all("Requires-Dist", [])) == wanted
    assert told["License-Expression"] == "MIT OR GPL-2.0-only"
    assert {Path(name).name for name in told.get_all("License-File", [])} == {
        "GPL-2.0-only.txt",
        "MIT.txt",
    }
    text = told.get_payload()
    assert isinstance(text, str)
    assert "# vfio-acpi" in text
    assert f"## {uapi.__version__}\n" in (ROOT / "uapi/CHANGELOG.md").read_text()


def test_it_works_where_it_is_installed(site: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, 'site')\n"
        "from importlib.resources import files\n"
        "from vfio_acpi import acpi_event, mirror, planted, vfio\n"
        "assert files('vfio_acpi').joinpath('golden/schema.json').is_file()\n"
        "assert 'uapi' not in sys.modules and planted.mirror is mirror\n"
        "print(mirror.__file__, mirror.sizeof('vfio_irq_set'))"
    )
    told = python("-c", code, cwd=site.parent)
    assert told.split()[0].startswith(("site/", str(site)))
    assert told.split()[1] == "20"


def vfio_acpi(site: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(site / "bin/vfio-acpi"), *arguments],
        cwd=site,
        env=os.environ | {"PYTHONPATH": str(site)} | more,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_man_page_is_installed(site: Path) -> None:
    installed = site / "share" / "man" / "man1" / MANUAL
    assert installed.read_text() == (ROOT / "uapi" / MANUAL).read_text()


def test_the_program(site: Path) -> None:
    assert vfio_acpi(site, "--version").stdout == f"vfio-acpi {uapi.__version__}\n"
    assert "usage: vfio-acpi listen" in vfio_acpi(site, "listen", "--help").stdout
    refused = vfio_acpi(site, "conformance", "--device", "alpha")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: device 'alpha': not a PCI address")


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("vfio-acpi c", {"conformance"}),
        ("vfio-acpi listen --js", {"--json"}),
        ("vfio-acpi listen --mechanism e", {"eventfd", "eventq"}),
    ],
)
def test_the_shell_completes_the_command(
    site: Path, tmp_path: Path, line: str, completions: set[str]
) -> None:
    told = tmp_path / "completions"
    vfio_acpi(
        site,
        _ARGCOMPLETE="1",
        _ARGCOMPLETE_STDOUT_FILENAME=str(told),
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
    )
    assert {word.strip() for word in told.read_text().split("\v")} == completions
