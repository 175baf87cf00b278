# SPDX-License-Identifier: GPL-2.0-only
"""Child processes that never outlive their parent."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from kpatch.errors import HarnessError
from kpatch.lib import system

GRACE_SECONDS = 5.0
WATCH_SECONDS = 0.5
# More than a pipe holds.
CHUNK = 1 << 17


def need(tool: str, *, package: str) -> str:
    """The path of ``tool``; HarnessError (exit 2) naming its package if it is missing.

    ``package`` is Debian's name of it.
    """
    path = shutil.which(tool)
    if path is None:
        raise HarnessError(tool, "not found in PATH", mend=system.install([package]))
    return path


def ending_with_us(argv: Sequence[str], parent_death: str = "TERM") -> list[str]:
    """``argv`` so that the kernel sends it ``parent_death`` when we are gone, however we went.

    Ctrl-C may come while subprocess is still starting the child, and then nobody knows it.
    """
    return [need("setpriv", package="util-linux"), "--pdeathsig", parent_death, "--", *argv]


@contextmanager
def child(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.PIPE,
    stderr: int | IO[bytes] | None = subprocess.STDOUT,
    pass_fds: Sequence[int] = (),
    parent_death: str = "TERM",
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``argv`` in a session of its own; whatever ends the block ends the whole group.

    Its environment is ``env``, or ours: see `kpatch.lib.environment` for what is to decide a run.

    One that gets our terminal (``stdin`` None) stays in our session, the only one that may read
    from it.

    A parent that is killed outright cannot clean up, so the kernel is asked to send the child
    ``parent_death`` then (prctl(2), PR_SET_PDEATHSIG). For make that is TERM, on which it takes
    its own children down; for QEMU it is KILL.
    """
    process = subprocess.Popen(
        ending_with_us(argv, parent_death),
        cwd=cwd,
        env=None if env is None else dict(env),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        start_new_session=stdin is not None,
    )
    try:
        yield process
    finally:
        stop(process, os.kill if stdin is None else os.killpg)


def stop(process: subprocess.Popen[bytes], send: Callable[[int, int], None] = os.killpg) -> None:
    """End the process and everything in its group: TERM, and after a while KILL.

    ``send`` is os.kill for a process that is in our own group.
    """
    with suppress(ProcessLookupError):
        for action in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is not None:
                break
            send(process.pid, action)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        # What the process left behind in its group.
        if send is os.killpg:
            send(process.pid, signal.SIGKILL)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def ending(status: int) -> str:
    """Say how a program ended; bwrap and shells tell of a signal by 128 and its number."""
    number = -status if status < 0 else status - 128
    if status < 0 or number in set(signal.Signals):
        return f"was killed by signal {number}"
    return f"ended with status {status}"


def capture(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    line: Callable[[str], None] | None = None,
    log: IO[bytes] | None = None,
    watch: Callable[[int], bool] | None = None,
) -> tuple[int, str]:
    """Run ``argv`` to its end; the exit status and all it printed (both streams, as UTF-8).

    ``line`` is called with each line as it comes, ``log`` gets the bytes unchanged. ``watch`` is
    called with the number of bytes that were printed, every WATCH_SECONDS and with all output; the
    program is ended when it returns true.
    """
    output, rest, printed = [], b"", 0
    with child(argv, cwd=cwd, env=env) as process:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        while True:
            ready = select.select([pipe], [], [], None if watch is None else WATCH_SECONDS)[0]
            if watch is not None and watch(printed):
                break
            if not ready:
                continue
            data = os.read(pipe, CHUNK)
            if not data:
                process.wait()
                break
            output.append(data)
            printed += len(data)
            if log is not None:
                log.write(data)
            *lines, rest = (rest + data).split(b"\n")
            for raw in lines if line is not None else ():
                line(raw.decode(errors="replace"))  # type: ignore[misc]
        if rest and line is not None:
            line(rest.decode(errors="replace"))
    return process.returncode, b"".join(output).decode(errors="replace")
