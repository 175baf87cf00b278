# SPDX-License-Identifier: GPL-2.0-only
"""The allowed imports, and the text that every file must or must not contain."""

from __future__ import annotations

import ast
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What uapi and ktests may import of third parties, beside the standard library. Who of ours may
# import whom is in pyproject.toml, where import-linter has no list of what is allowed.
THIRD_PARTIES = {
    "uapi": {"_cffi_backend", "argcomplete", "cffi", "pyroute2"},
    "ktests": {"hypothesis", "pytest"},
}
OURS = {"kconfig", "kpatch", "ktests", "tests", "uapi"}

# Files without an SPDX tag: patches, transcripts, and files that cannot have comments.
UNTAGGED = re.compile(
    r"\.(patch|mbox|json|lock)$|^LICENSES/|^tests/data/|(^|/)(\.gitignore|\.gitkeep|py\.typed)$"
)
TAG = re.compile(r"SPDX-License-Identifier: (.+?)\s*(?:\*/|-->)?$", re.MULTILINE)

# Private text: home folders, temporary files, addresses of package registries.
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
            # `from package import module`: the modules are imported, not the package alone.
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from [module] if "." in module else names


def modules(package: str) -> list[Path]:
    found = [path for path in FILES if path.parts[0] == package and path.suffix == ".py"]
    assert found, f"{package} has modules"
    return found


def lint_imports(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Hold the imports of the packages in ``root`` against the contracts of its pyproject.toml."""
    program = Path(sys.executable).with_name("lint-imports")
    argv = [str(program), "--no-cache", "--no-logo", *options]
    return subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False)


def test_imports_keep_the_contracts() -> None:
    ended = lint_imports(ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr


# A wrong import for each contract: the file that it is planted in, and the line.
WRONG_IMPORTS = {
    "layers": ("kpatch/run/console.py", "from kpatch.verdict import judge"),
    "bottom": ("kpatch/tables/bases.py", "from ktests import contract"),
    "kconfig": ("kconfig/fragment.py", "from kpatch.errors import HarnessError"),
    "kconfig-users": ("kpatch/build/kernel.py", "from kconfig import dotconfig"),
    "uapi": ("uapi/pci.py", "import ktests.contract"),
    "ktests": ("ktests/pci.py", "from kpatch.tables import limits"),
    "contract": ("kpatch/vm/machine.py", "from ktests import pci"),
    "tests": ("kpatch/source/git.py", "from tests import kerneltree"),
    "siblings": ("kpatch/run/protocol.py", "from kpatch.run import vm_run"),
    "sources": ("kpatch/source/git.py", "from kpatch.source.debian import fetch"),
    "outputs": ("kpatch/report/junit.py", "from kpatch.report.ktap import render"),
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and their contracts, to plant a wrong import in."""
    root = tmp_path_factory.mktemp("packages")
    for path in FILES:
        if path == Path("pyproject.toml") or (path.parts[0] in OURS and path.suffix == ".py"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, root / path)
    return root


@pytest.mark.parametrize("contract", WRONG_IMPORTS)
def test_a_wrong_import_breaks_its_contract(copied: Path, contract: str) -> None:
    name, line = WRONG_IMPORTS[contract]
    before = (copied / name).read_text()
    (copied / name).write_text(f"{before}\n{line}\n")
    try:
        ended = lint_imports(copied, "--contract", contract)
    finally:
        (copied / name).write_text(before)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "0 kept, 1 broken" in ended.stdout


def test_every_contract_has_its_wrong_import() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert [contract["id"] for contract in settings["contracts"]] == list(WRONG_IMPORTS)


@pytest.mark.parametrize("package", sorted(THIRD_PARTIES))
def test_third_parties(package: str) -> None:
    for path in modules(package):
        others = {name.split(".")[0] for name in imports(path)} - OURS
        assert others - set(sys.stdlib_module_names) <= THIRD_PARTIES[package], path


def test_tables_hold_data_alone() -> None:
    """They import no third party's code either."""
    tables = [path for path in FILES if path.parts[:2] == ("kpatch", "tables")]
    assert len(tables) > 5
    for path in tables:
        others = {name.split(".")[0] for name in imports(path)} - OURS
        assert others <= set(sys.stdlib_module_names), path


def test_what_host_and_guest_agree_upon_imports_nothing() -> None:
    of_standard_library = {name.split(".")[0] for name in imports(Path("ktests/contract.py"))}
    assert of_standard_library <= set(sys.stdlib_module_names)


TAGGED = [path for path in FILES if not UNTAGGED.search(path.as_posix())]


def test_only_data_goes_without_a_tag() -> None:
    kinds = {
        path.suffix for path in set(FILES) - set(TAGGED) if path.parts[:2] != ("tests", "data")
    }
    assert kinds <= {"", ".json", ".lock", ".mbox", ".patch", ".txt", ".typed"}
    assert {path.suffix for path in TAGGED} >= {".py", ".md", ".toml", ".config", ".j2", ".sh"}


@pytest.mark.parametrize("path", TAGGED, ids=str)
def test_every_file_has_its_tag(path: Path) -> None:
    head = "\n".join((ROOT / path).read_text().splitlines()[:5])
    tag = TAG.search(head)
    assert tag is not None, f"{path} has no SPDX tag"
    # What a VMM may copy.
    mit_too = path.parts[0] == "uapi" or path.match("examples/vmm-loop/loop.*")
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


# A name of ours in backticks, as docstrings, comments and documents have it.
NAMED = re.compile(r"`((?:kconfig|kpatch|ktests|uapi)(?:\.\w+)+)`")
FILE_NAMES = (".toml", ".json")


def names() -> list[tuple[Path, str]]:
    texts = [path for path in FILES if path.suffix in (".py", ".md", ".j2")]
    mine = [path for path in texts if path.parts[:2] != ("tests", "data")]
    found = [(path, name) for path in mine for name in NAMED.findall((ROOT / path).read_text())]
    return [(path, name) for path, name in found if not name.endswith(FILE_NAMES)]


def test_every_name_in_backticks_exists() -> None:
    found = names()
    assert len(found) > 30
    for path, name in found:
        try:
            pkgutil.resolve_name(name)
        except (AttributeError, ImportError):
            pytest.fail(f"{path}: {name} does not exist")


# The largest number of lines in a module. A longer one has to be split.
LONGEST = 900


def test_no_module_is_too_long() -> None:
    long = [
        path
        for path in FILES
        if path.suffix == ".py" and len((ROOT / path).read_text().splitlines()) > LONGEST
    ]
    assert not long
