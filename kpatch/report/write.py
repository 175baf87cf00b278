# SPDX-License-Identifier: GPL-2.0-only
"""Write the result of a run to its output folder.

``FORMATS`` has a row for each file. The stages put the consoles, configs and build logs beside
these as they get them.
"""

from __future__ import annotations

from collections.abc import Callable

from kpatch.report import commands, junit, kcidb, ktap, result, tables
from kpatch.report.output_dir import OutputDir
from kpatch.report.result import RunResult

RESULT = "result.json"

FORMATS: dict[str, Callable[[RunResult], str | bytes]] = {
    "junit.xml": junit.render,  # for CI systems
    "results.ktap": ktap.render,  # for the kernel's own tools
    "kcidb.json": kcidb.render,  # for kernelci.org
    "summary.txt": tables.render,  # what the run prints at its end
    "commands.txt": commands.render,  # the exact commands of every stage
    # Everything, for programs (result.schema.json). The last one: a reader that finds it finds
    # the others too.
    RESULT: result.dump,
}
"""The files of a run, in the order of writing: name, and the function that makes the content."""


def write(output: OutputDir, run: RunResult) -> None:
    """Write every file of ``FORMATS``; HarnessError (exit 7) if it cannot be written."""
    contents = {name: render(run) for name, render in FORMATS.items()}
    for name, content in contents.items():
        output.write(name, content)


def console_name(series: str, vm: int) -> str:
    """Return the name of the console log of a series' VM; ``vm`` counts from 1."""
    return f"console-{series}-{vm}.log"


def config_name(series: str) -> str:
    """Return the name of the copy of the series' .config."""
    return f"{series}.config"


def build_log_name(series: str) -> str:
    """Return the name of the series' build log."""
    return f"build-{series}.log"


def selftests_log_name(series: str) -> str:
    """Return the name of the build log of the kernel's own selftests."""
    return f"selftests-{series}.log"
