# SPDX-License-Identifier: GPL-2.0-only
"""The man page of ``vfio-acpi``: it says what the parser of the command line says."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess

import pytest

import uapi
from tests.commandline import ROOT
from uapi.__main__ import manual

PAGE = ROOT / "uapi" / "vfio-acpi.1"


def plain(text: str) -> str:
    """Return the text of the page without roff's requests and escapes, as words."""
    text = re.sub(r"\\f.|\\,|\\/", "", text).replace(r"\-", "-").replace(r"\\", "\\")
    return " ".join(re.sub(r"^\.\w+ ?", "", text, flags=re.MULTILINE).split())


TEXT = plain(PAGE.read_text())


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    (action,) = (one for one in manual()._actions if isinstance(one, argparse._SubParsersAction))
    return dict(action.choices)


def said(parser: argparse.ArgumentParser) -> list[str]:
    """Return what the page has to have of a parser: its description, options and their help."""
    actions = [action for action in parser._actions if "-h" not in action.option_strings]
    helps = [parser._get_formatter()._expand_help(action) for action in actions]
    options = [option for action in actions for option in action.option_strings]
    return [parser.description or "", *helps, *options]


@pytest.mark.parametrize("command", commands())
def test_the_page_has_the_command(command: str) -> None:
    part = TEXT.partition(f"vfio-acpi {command} ")[2]
    missing = [one for one in said(commands()[command]) if " ".join(one.split()) not in part]
    assert not missing, "docs/python.md has the command that makes the page"


def test_the_page_has_nothing_else() -> None:
    known = {"--help", "--version"}
    known |= {
        option
        for parser in commands().values()
        for action in parser._actions
        for option in action.option_strings
    }
    assert set(re.findall(r"(?<!\S)\[?(--[a-z][a-z-]+)", TEXT)) <= known
    assert set(re.findall(r"usage: vfio-acpi ([\w-]+)", TEXT)) == commands().keys()


def test_the_page_has_exit_codes_and_version() -> None:
    assert " ".join((manual().epilog or "-").split()) in TEXT
    assert f'"vfio\\-acpi {uapi.__version__}"' in PAGE.read_text()
    assert "\n.TH VFIO\\-ACPI " in PAGE.read_text()


def test_groff_has_nothing_to_say() -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed: the man page was NOT checked")
    ended = subprocess.run(
        ["groff", "-ww", "-man", "-Tutf8", str(PAGE)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "VFIO-ACPI" in ended.stdout
