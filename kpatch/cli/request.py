# SPDX-License-Identifier: GPL-2.0-only
"""Make the request and the pipeline from the options of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpatch.tables.limits import Limits

if TYPE_CHECKING:
    from kpatch.pipeline import Pipeline, Request


def test_request(
    *, boot_limit: float, test_limit: float, run_limit: float, **wanted: Any
) -> Request:
    """Return the request for one kernel. ``wanted`` are other fields of `Request`."""
    from kpatch.pipeline import Request

    return Request(limits=Limits(boot_limit, test_limit, run_limit), **wanted)


def pipeline_of(verbose: bool, **wanted: Any) -> Pipeline:
    """Return a new pipeline. ``wanted`` are the fields of its request."""
    from kpatch.lib.progress import Progress
    from kpatch.pipeline import Pipeline, Request

    return Pipeline(Request(**wanted), Progress(echo=verbose))
