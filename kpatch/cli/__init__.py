# SPDX-License-Identifier: GPL-2.0-only
"""The command line. A module here parses options and prints; the packages of kpatch do the work.

    options.py   the options that more than one command has
    request.py   what the options ask the pipeline for
    guard.py     how a command ends: its last line and its exit code

Every other module has the commands of one group, in ``COMMANDS``. They import what they run when
they run it, so that ``--help`` is there at once.
"""

from __future__ import annotations

import click

import kpatch
from kpatch.cli import abi, cache, dev, run, series, steps
from kpatch.cli.guard import Commands, epilog

GROUPS = (run, steps, series, abi, dev, cache)


@click.group(cls=Commands, epilog=epilog(""), context_settings={"max_content_width": 100})
@click.version_option(package_name=None, version=kpatch.__version__)
def main() -> None:
    """Test ACPI notifications of VFIO PCI devices: from a kernel patch series to a verdict."""


for command in (command for group in GROUPS for command in group.COMMANDS):
    command.epilog = epilog(str(command.name))
    main.add_command(command)
