# SPDX-License-Identifier: GPL-2.0-only
"""``pip install .`` installs all of uapi, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSES", "uapi")
OFFLINE = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")


def pip(*arguments: str, cwd: Path) -> None:
    argv = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, because setuptools writes files beside the source."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc"))
        else:
            shutil.copy(ROOT / name, folder)
    pip("wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", "out", ".", cwd=folder)
    (found,) = folder.glob("out/*.whl")
    return found


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_only_uapi_is_in_it_and_all_of_that(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "uapi").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == tracked


def test_what_it_says_of_itself(wheel: Path) -> None:
    told = metadata(wheel)
    assert sorted(told.get_all("Requires-Dist", [])) == ["cffi", "pyroute2"]
    assert told["License-Expression"] == "MIT OR GPL-2.0-only"
    assert {Path(name).name for name in told.get_all("License-File", [])} == {
        "GPL-2.0-only.txt",
        "MIT.txt",
    }


def test_it_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    pip("install", *OFFLINE, "--target", str(tmp_path / "site"), str(wheel), cwd=tmp_path)
    code = (
        "import sys; sys.path.insert(0, 'site')\n"
        "from importlib.resources import files\n"
        "from uapi import acpi_event, mirror\n"
        "assert files('uapi').joinpath('golden/schema.json').is_file()\n"
        "print(mirror.__file__, mirror.sizeof('vfio_irq_set'))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.split()[0].startswith(("site/", str(tmp_path)))
    assert told.stdout.split()[1] == "20"
