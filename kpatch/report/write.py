# SPDX-License-Identifier: GPL-2.0-only
"""Writes a run's result into its folder, so that others can read, parse and repeat it.

    result.json    everything, for programs (result.schema.json)
    junit.xml      for CI systems
    results.ktap   for the kernel's own tools
    summary.txt    the table of the end
    commands.txt   the exact commands of every stage

The stages put the consoles, configs and build logs beside these as they get them.
"""

from __future__ import annotations

from kpatch.lib import sanitize
from kpatch.lib.stage import StageRecord
from kpatch.report import junit, ktap, result, tables
from kpatch.report.output_dir import Output
from kpatch.report.result import RunResult

RESULT = "result.json"
NAMES = ("junit.xml", "results.ktap", "summary.txt", "commands.txt", RESULT)


def write(output: Output, run: RunResult) -> None:
    """Write all files; result.json last, so that its presence tells that the rest is there."""
    contents: dict[str, str | bytes] = {
        "junit.xml": junit.render(run),
        "results.ktap": ktap.render(run),
        "summary.txt": tables.render(run),
        "commands.txt": commands(run),
        RESULT: result.dump(run),
    }
    for name in NAMES:
        output.write(name, contents[name])


def console_name(series: str, vm: int) -> str:
    """The file of the console of a series' VM; ``vm`` counts from 1."""
    return f"console-{series}-{vm}.log"


def config_name(series: str) -> str:
    """The file of the .config that a series was built with."""
    return f"{series}.config"


def build_log_name(series: str) -> str:
    """The file of the log of a series' build."""
    return f"build-{series}.log"


def selftests_log_name(series: str) -> str:
    """The file of the log of the build of the kernel's own selftests."""
    return f"selftests-{series}.log"


def commands(run: RunResult) -> str:
    """The commands of every stage, in order, as lines for a shell."""
    lines = [f"# Repeats {run.started}, verdict {run.verdict}. Each line runs by itself."]
    for stage in run.stages:
        lines += ["", _heading(stage), *(sanitize.clean(command) for command in stage.commands)]
    return "\n".join(lines) + "\n"


def _heading(stage: StageRecord) -> str:
    what = f"{stage.name} {stage.series}" if stage.series else stage.name
    took = "cached: nothing was run" if stage.cached else f"took {sanitize.duration(stage.seconds)}"
    return f"# {what} ({took})"
