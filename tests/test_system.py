# SPDX-License-Identifier: GPL-2.0-only
"""The distributions' names of packages. Other systems are simulated by their os-release."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from kpatch import bootstrap
from kpatch.lib import confine, system
from kpatch.source import unpack
from kpatch.tables import packages
from kpatch.tables.distributions import DISTRIBUTIONS, Distribution
from kpatch.vm import acpid

ROOT = Path(__file__).parent.parent

# The fields of /etc/os-release on these systems.
DEBIAN = {"ID": "debian", "VERSION_ID": "13"}
UBUNTU = {"ID": "ubuntu", "ID_LIKE": "debian"}
FEDORA = {"ID": "fedora", "VERSION_ID": "43"}
ROCKY = {"ID": "rocky", "ID_LIKE": "rhel centos fedora"}
ARCH = {"ID": "arch"}
MANJARO = {"ID": "manjaro", "ID_LIKE": "arch"}
GENTOO = {"ID": "gentoo"}


def asked_for() -> set[str]:
    """Return Debian's names of all packages that the sources ask for."""
    names = {*bootstrap.PACKAGES, "python3-venv", acpid.PACKAGE, confine.PACKAGE}
    names |= {*packages.BUILD.values(), *packages.RUN.values(), *packages.FILES.values()}
    names |= {form.package for form in unpack.FORMATS}
    for path in (ROOT / "kpatch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                names |= {
                    str(word.value.value)
                    for word in node.keywords
                    if word.arg == "package" and isinstance(word.value, ast.Constant)
                }
    return names


@pytest.mark.parametrize("row", DISTRIBUTIONS, ids=lambda row: row.name)
def test_every_package_has_its_name(row: Distribution) -> None:
    in_the_environment = {"virtme-ng"}
    wanted = set() if row.tried else asked_for() - in_the_environment
    assert wanted <= set(row.packages)
    assert set(row.signs) <= set(bootstrap.PACKAGES)


def test_debian_alone_is_tried() -> None:
    assert [row.name for row in DISTRIBUTIONS if row.tried] == ["Debian"]


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (DEBIAN, "Debian"),
        (UBUNTU, "Debian"),
        (FEDORA, "Fedora"),
        (ROCKY, "Fedora"),
        (ARCH, "Arch Linux"),
        (MANJARO, "Arch Linux"),
        (GENTOO, None),
        ({}, None),
    ],
)
def test_row_of_a_system(told: dict[str, str], name: str | None) -> None:
    row = system.distribution(told)
    assert (row.name if row else None) == name


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (DEBIAN, "install the Debian packages acpica-tools gpg gpg-agent"),
        (
            FEDORA,
            "run: sudo dnf install -y acpica-tools gnupg2 (names from a table, untried on Fedora)",
        ),
        (
            ARCH,
            "run: sudo pacman -S --needed acpica gnupg (names from a table, untried on Arch Linux)",
        ),
        (
            GENTOO,
            "install what your system calls acpica-tools, gpg, gpg-agent (Debian's names)",
        ),
    ],
)
def test_what_to_do_about_missing_packages(told: dict[str, str], line: str) -> None:
    assert system.install(["acpica-tools", "gpg", "gpg-agent"], told) == line


def test_one_package_and_one_without_a_name() -> None:
    assert system.install(["bc"], DEBIAN) == "install the Debian package bc"
    assert (
        system.install(["no-such"], ARCH)
        == "install what your system calls no-such (Debian's names)"
    )


def test_system_without_os_release(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> dict[str, str]:
        raise OSError

    monkeypatch.setattr("platform.freedesktop_os_release", absent)
    assert system.release() == {}
