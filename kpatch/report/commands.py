# SPDX-License-Identifier: GPL-2.0-only
"""commands.txt: the commands of every stage of a run, in order, as lines for a shell."""

from __future__ import annotations

from kpatch.lib import sanitize
from kpatch.lib.stage import StageRecord
from kpatch.report.result import RunResult


def render(run: RunResult) -> str:
    """Return the text of commands.txt. Each line runs by itself; "#" begins a stage's heading."""
    lines = [f"# Repeats {run.started}, verdict {run.verdict}. Each line runs by itself."]
    for stage in run.stages:
        lines += ["", _heading(stage), *(sanitize.clean(command) for command in stage.commands)]
    return "\n".join(lines) + "\n"


def _heading(stage: StageRecord) -> str:
    what = f"{stage.name} {stage.series}" if stage.series else stage.name
    took = "cached: nothing was run" if stage.cached else f"took {sanitize.duration(stage.seconds)}"
    return f"# {what} ({took})"
