# SPDX-License-Identifier: GPL-2.0-only
"""Make the request and the pipeline from the options of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpatch.tables.limits import Limits

if TYPE_CHECKING:
    from kpatch.pipeline import Pipeline, RunRequest


def test_request(
    *, boot_limit: float, test_limit: float, run_limit: float, **wanted: Any
) -> RunRequest:
    """Return a RunRequest with these time limits in seconds, and the fields ``wanted``."""
    from kpatch.pipeline import RunRequest

    return RunRequest(limits=Limits(boot_limit, test_limit, run_limit), **wanted)


def pipeline_of(verbose: bool, **wanted: Any) -> Pipeline:
    """Return a new pipeline for a RunRequest with the fields ``wanted``.

    If ``verbose`` is set, the pipeline prints each command that it runs.
    """
    from kpatch.lib.progress import Progress
    from kpatch.pipeline import Pipeline, RunRequest

    return Pipeline(RunRequest(**wanted), Progress(echo=verbose))
