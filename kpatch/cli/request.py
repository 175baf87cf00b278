# SPDX-License-Identifier: GPL-2.0-only
"""What the options of a command ask the pipeline for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpatch.tables.limits import Limits

if TYPE_CHECKING:
    from kpatch.pipeline import Pipeline, Request


def test_request(
    *, boot_limit: float, test_limit: float, run_limit: float, **wanted: Any
) -> Request:
    """Return the request for one kernel of those that the options of ``test`` name."""
    from kpatch.pipeline import Request

    return Request(limits=Limits(boot_limit, test_limit, run_limit), **wanted)


def pipeline_of(verbose: bool, **wanted: Any) -> Pipeline:
    """Return the pipeline whose request has the fields ``wanted``; it has run no stage yet."""
    from kpatch.lib.progress import Progress
    from kpatch.pipeline import Pipeline, Request

    return Pipeline(Request(**wanted), Progress(echo=verbose))
