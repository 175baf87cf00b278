# SPDX-License-Identifier: GPL-2.0-only
"""Make commands.txt: the commands of every stage of a run, in order, one shell line each."""

from __future__ import annotations

from kpatch.lib import sanitize
from kpatch.lib.stage import StageRecord
from kpatch.report.result import RunResult


def render(run: RunResult) -> str:
    """Return the text of commands.txt for ``run``.

    Each command is one shell line that needs no earlier line of the file. A line that begins with
    "#" is the title of the file or the heading of a stage.
    """
    lines = [f"# Repeats {run.started}, verdict {run.verdict}. Each line runs by itself."]
    for stage in run.stages:
        lines += ["", _heading(stage), *(sanitize.clean(command) for command in stage.commands)]
    return "\n".join(lines) + "\n"


def _heading(stage: StageRecord) -> str:
    what = f"{stage.name} {stage.series}" if stage.series else stage.name
    took = "cached: nothing was run" if stage.cached else f"took {sanitize.duration(stage.seconds)}"
    return f"# {what} ({took})"
