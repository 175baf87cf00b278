# SPDX-License-Identifier: GPL-2.0-only
"""Run child processes that end when the harness ends, also if it is killed."""

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
from kpatch.lib import environment, system

GRACE_SECONDS = 5.0
WATCH_SECONDS = 0.5
# Larger than a pipe's buffer.
CHUNK = 1 << 17


def require_tool(tool: str, *, package: str) -> str:
    """Return the path of ``tool``; HarnessError (exit 2) if it is not in PATH.

    ``package`` is the Debian package that the error names.
    """
    path = shutil.which(tool)
    if path is None:
        raise HarnessError(tool, "not found in PATH", hint=system.install([package]))
    return path


def with_pdeathsig(argv: Sequence[str], parent_death: str = "TERM") -> list[str]:
    """Return an argv that runs ``argv`` with a parent-death signal (prctl(2), PR_SET_PDEATHSIG).

    The kernel sends the signal ``parent_death`` to the program when our process has ended, for
    whatever reason. This also covers a Ctrl-C that arrives while subprocess is starting the child,
    when no Popen object exists yet.
    """
    return [require_tool("setpriv", package="util-linux"), "--pdeathsig", parent_death, "--", *argv]


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
    """Start ``argv`` in its own session, yield its Popen, and end its group after the block.

    Its environment is ``env``, or the one of `kpatch.lib.environment.clean` if None, so that the
    user's settings do not decide a run. The other arguments are those of subprocess.Popen.

    A program that gets our terminal (``stdin`` None) stays in our session and group, since only
    processes of that session may read from the terminal. After the block only it is ended.

    If the harness is killed it cannot clean up; the kernel then sends the child ``parent_death``.
    That is TERM for make, which ends its own children, and KILL for QEMU.
    """
    process = subprocess.Popen(
        with_pdeathsig(argv, parent_death),
        cwd=cwd,
        env=environment.clean() if env is None else dict(env),
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
    """End ``process`` and its process group: SIGTERM, and SIGKILL after GRACE_SECONDS.

    For a process in our own group pass os.kill as ``send``, so that only the process is ended. The
    pipes of ``process`` are closed.
    """
    with suppress(ProcessLookupError):
        for action in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is not None:
                break
            send(process.pid, action)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        # Processes that the program has left behind in its group.
        if send is os.killpg:
            send(process.pid, signal.SIGKILL)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def ending(status: int) -> str:
    """Return in words how a process with the exit ``status`` ended, as "was killed by signal 9".

    A signal N is the status -N in Python; bwrap and shells report it as 128 + N.
    """
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
    """Run ``argv`` to its end; return exit status and output (stdout and stderr in one text).

    ``cwd`` and ``env`` are as in `child`. ``line`` is called with each line as it arrives; ``log``,
    an open file, gets the unchanged bytes. ``watch`` is called with the number of bytes printed so
    far, at least every WATCH_SECONDS; if it returns true, the program is ended. The status is -N if
    signal N killed the program.
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
