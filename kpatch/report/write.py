# SPDX-License-Identifier: GPL-2.0-only
"""Write the result of a run to its output folder.

``FORMATS`` has a row for each file that is made of the result. During the run, the pipeline writes
the console logs, configs and build logs to the same folder; their names are made here.
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
    # Everything, for programs (the schema is result.schema.json). It is written last: a reader that
    # finds this file finds the others too.
    RESULT: result.dump,
}
"""The functions that make the files of a result, by file name, in the order of writing."""


def write(output: OutputDir, run: RunResult) -> None:
    """Write every file of ``FORMATS`` to ``output``.

    HarnessError: exit 7 if a file cannot be written, exit 2 if it is there and not of this run.
    """
    contents = {name: render(run) for name, render in FORMATS.items()}
    for name, content in contents.items():
        output.write(name, content)


def console_name(series: str, vm: int) -> str:
    """Return the file name of the console log of a VM of the series; ``vm`` counts from 1."""
    return f"console-{series}-{vm}.log"


def config_name(series: str) -> str:
    """Return the file name of the copy of the .config of the series' kernel."""
    return f"{series}.config"


def build_log_name(series: str) -> str:
    """Return the file name of the build log of the series' kernel."""
    return f"build-{series}.log"


def selftests_log_name(series: str) -> str:
    """Return the file name of the build log of the selftests in the series' kernel tree."""
    return f"selftests-{series}.log"
