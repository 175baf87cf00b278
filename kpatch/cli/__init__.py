# SPDX-License-Identifier: GPL-2.0-only
"""The command line. Its modules parse options and print results; other packages do the work.

    options.py   the options that several commands have
    request.py   makes a pipeline and its request from options
    guard.py     turns errors into one line and an exit code

Each other module has the commands of one group, in ``COMMANDS``. A command imports the packages
that it needs only when it runs, so that ``--help`` does not have to wait for these imports.
"""

from __future__ import annotations

import click

import kpatch
from kpatch.cli import abi, cache, compare, coverage, dev, matrix, run, series, steps
from kpatch.cli.guard import Commands, epilog

GROUPS = (run, steps, series, compare, coverage, matrix, abi, dev, cache)


@click.group(cls=Commands, epilog=epilog(""), context_settings={"max_content_width": 100})
@click.version_option(package_name=None, version=kpatch.__version__)
def main() -> None:
    """Test ACPI notifications of VFIO PCI devices: from a kernel patch series to a verdict."""


for command in (command for group in GROUPS for command in group.COMMANDS):
    command.epilog = epilog(str(command.name))
    main.add_command(command)
