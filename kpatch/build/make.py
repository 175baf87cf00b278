# SPDX-License-Identifier: GPL-2.0-only
"""Run make in a kernel tree, confined if bwrap works; keep its output, name the first error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from kpatch.build import log
from kpatch.errors import HarnessError
from kpatch.lib import cache, confine, process
from kpatch.tables.outcomes import ExitCode

LOGS = "logs"

DETAIL = 2000
"""Number of characters at the end of the output to show if no line is recognised as an error."""


def log_file(kind: str, key: str) -> Path:
    """Return the path for the output of a run of make, ``logs/KIND-KEY.log`` in the cache."""
    return cache.folder(LOGS) / f"{kind}-{key}.log"


def run(
    argv: Sequence[str],
    *,
    what: str,
    log_file: Path,
    source: Path,
    out: Path,
    more: Mapping[str, str] = MappingProxyType({}),
    readable: Sequence[Path] = (),
    writable: Sequence[Path] = (),
    line: Callable[[str], None] | None = None,
    marker: Path | None = None,
) -> None:
    """Run the make command ``argv`` by `kpatch.lib.confine.make`; write its output to ``log_file``.

    ``source``, ``out``, ``more``, ``readable``, ``writable`` and ``line`` are passed on to it. The
    file ``marker`` exists while make runs; it stays if make is killed, also at a limit.

    HarnessError (exit 4) if make fails, with the first error and its place if the output has them,
    or if it was ended because it exceeded a limit. ``what`` names the build in the error. OSError
    (ENOSPC) if the disk is full.
    """
    if marker is not None:
        marker.touch()
    with log_file.open("wb") as file:
        status, text = confine.make(
            argv,
            source=source,
            out=out,
            more=more,
            readable=readable,
            writable=writable,
            line=line,
            log=file,
        )
    # If a signal killed make, bwrap exits with 128 + the signal's number.
    if marker is not None and 0 <= status <= 128:
        marker.unlink()
    if status != 0:
        raise failure(what, log_file, *_reason(text, source, status))


def failure(what: str, log_file: Path, cause: str, details: str = "") -> HarnessError:
    """Return the error (exit 4) of the failed build ``what``; its hint names ``log_file``."""
    return HarnessError(what, cause, hint=f"see {log_file}", code=ExitCode.BUILD, details=details)


def _reason(text: str, source: Path, status: int) -> tuple[str, str]:
    """Return one line with the reason why make failed, and the lines of its output that show it.

    ``text`` is the output, ``status`` the exit status; negative if a signal killed make.
    """
    error = log.first_error(text, source=str(source)) if status > 0 else None
    if error is None:
        return f"make {process.ending(status)}", text[-DETAIL:]
    return str(error[0]), error[1]
