# SPDX-License-Identifier: GPL-2.0-only
"""Make the read-only EROFS images that the guest mounts."""

from __future__ import annotations

from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache, process
from kpatch.lib.stage import Stage
from kpatch.tables.outcomes import ExitCode


def pack(root: Path, image: Path, stage: Stage) -> None:
    """Write the content of the folder ``root`` to the new EROFS image ``image``.

    In the image all files belong to uid 0, and have the time stamp 0.

    OSError (ENOSPC) if the disk is full. HarnessError: exit 7 if mkfs.erofs fails otherwise, exit 2
    if it is not installed.
    """
    tool = process.require_tool("mkfs.erofs", package="erofs-utils")
    argv = [tool, "--all-root", "-T0", str(image), str(root)]
    stage.command(argv)
    status, output = process.capture(argv)
    if status != 0:
        cache.raise_if_full(output)
        raise HarnessError(
            str(image),
            f"mkfs.erofs failed (status {status})",
            hint="see its messages above",
            code=ExitCode.LOST,
            details=output,
        )
