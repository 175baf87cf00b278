# SPDX-License-Identifier: GPL-2.0-only
"""Check that the kernel builds and links after each patch."""

from __future__ import annotations

from collections.abc import Iterator

from kpatch.checks.context import Context
from kpatch.errors import HarnessError
from kpatch.model import Finding
from kpatch.tables.outcomes import ExitCode


def check(context: Context) -> Iterator[Finding]:
    """Build the kernel after each patch; yield a finding for each patch that breaks the build."""
    for patch in context.patches:
        context.stage.advance(patch.number - 1, patch.total)
        context.parts += 1
        try:
            built = context.kernel(context.after(patch.number))
        except HarnessError as error:
            if error.code is not ExitCode.BUILD:
                raise
            yield Finding(
                f"does not build: {error.cause}",
                patch=patch.number,
                details=tuple(error.details.splitlines()),
            )
        else:
            context.reused += built.cached
