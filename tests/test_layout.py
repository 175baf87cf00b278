# SPDX-License-Identifier: GPL-2.0-only
"""Who may import whom, and what every file says or must not say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What the files of a package may import, beside the standard library and itself; of packages
# not named here anything but ktests.
ALLOWED = {
    "uapi": {"_cffi_backend", "cffi", "pyroute2"},
    "ktests": {"pytest", "uapi"},
}
OURS = {"kconfig", "kpatch", "ktests", "tests", "uapi"}

# Patches keep the kernel's own form, a transcript is as it came, and some files take no comment.
UNTAGGED = re.compile(
    r"\.(patch|mbox|json|lock)$|^LICENSES/|^tests/data/|(^|/)(\.gitignore|\.gitkeep|py\.typed)$"
)
TAG = re.compile(r"SPDX-License-Identifier: (.+?)\s*(?:\*/|-->)?$", re.MULTILINE)

# Homes, temporary files, and where packages come from: all of it is somebody's own.
PRIVATE = re.compile(
    r"/(?:home|Users)/\w|/root/|/tmp/w\b|/work/|"
    r"(?:deb|security|ftp|snapshot)\.debian\.org|pypi\.org|pythonhosted\.org"
)


def tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    return [Path(name) for name in listing.split("\0") if name and (ROOT / name).is_file()]


FILES = tracked()


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            # A package's own name says nothing: its modules are what is imported.
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from [module] if "." in module else names


def modules(package: str) -> list[Path]:
    found = [path for path in FILES if path.parts[0] == package and path.suffix == ".py"]
    assert found, f"{package} has modules"
    return found


@pytest.mark.parametrize("package", sorted(OURS))
def test_imports_go_one_way(package: str) -> None:
    for path in modules(package):
        agreed = {"ktests.contract"} if package == "kpatch" else set()
        others = {name.split(".")[0] for name in set(imports(path)) - agreed} - {package}
        others -= set(sys.stdlib_module_names)
        if package in ALLOWED:
            assert others <= ALLOWED[package], path
        elif package != "tests":
            assert not others & {"ktests", "tests"}, path


def test_tables_stand_at_the_bottom() -> None:
    """Data without logic imports nothing of the project, but for other tables."""
    tables = [path for path in FILES if path.parts[:2] == ("kpatch", "tables")]
    assert len(tables) > 5
    for path in tables:
        ours = {module for module in imports(path) if module.split(".")[0] in OURS}
        assert all(module.startswith("kpatch.tables.") for module in ours), path


def test_what_host_and_guest_agree_upon_imports_nothing() -> None:
    of_standard_library = {name.split(".")[0] for name in imports(Path("ktests/contract.py"))}
    assert of_standard_library <= set(sys.stdlib_module_names)


TAGGED = [path for path in FILES if not UNTAGGED.search(path.as_posix())]


def test_only_data_goes_without_a_tag() -> None:
    kinds = {
        path.suffix for path in set(FILES) - set(TAGGED) if path.parts[:2] != ("tests", "data")
    }
    assert kinds <= {"", ".json", ".lock", ".patch", ".txt", ".typed"}
    assert {path.suffix for path in TAGGED} >= {".py", ".md", ".toml", ".config", ".j2", ".sh"}


@pytest.mark.parametrize("path", TAGGED, ids=str)
def test_every_file_has_its_tag(path: Path) -> None:
    head = "\n".join((ROOT / path).read_text().splitlines()[:5])
    tag = TAG.search(head)
    assert tag is not None, f"{path} has no SPDX tag"
    mit_too = path.parts[0] == "uapi"
    assert tag[1] == ("GPL-2.0-only OR MIT" if mit_too else "GPL-2.0-only"), path


def test_nothing_private_is_tracked() -> None:
    found = [
        f"{path}:{number}: {match[0]}"
        for path in FILES
        if path != Path(__file__).relative_to(ROOT)
        for number, line in enumerate((ROOT / path).read_bytes().split(b"\n"), 1)
        if (match := PRIVATE.search(line.decode(errors="replace")))
    ]
    assert not found


# Lines. Longer, and a part has to go.
LONGEST = 900


def test_no_module_is_too_long() -> None:
    long = [
        path
        for path in FILES
        if path.suffix == ".py" and len((ROOT / path).read_text().splitlines()) > LONGEST
    ]
    assert not long
