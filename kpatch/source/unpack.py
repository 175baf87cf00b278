# SPDX-License-Identifier: GPL-2.0-only
"""Unpack an untrusted tarball into a folder; nothing is written outside of it."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kpatch.errors import HarnessError
from kpatch.lib import cache, environment
from kpatch.lib.process import child, require_tool
from kpatch.lib.stage import Stage

# A kernel tree unpacks to 1.4–1.8 GB; a stream longer than this is taken for a bomb.
MAX_BYTES = 8 << 30

CHUNK = 1 << 20
TICK_SECONDS = 0.1

# GNU tar drops a leading slash, refuses "..", and creates a symlink that could lead outside only
# after all other members. The options ignore the archive's owners and special permission bits.
TAR = ("tar", "--extract", "--no-same-owner", "--no-same-permissions")

Command = Sequence[str]


@dataclass(frozen=True)
class Format:
    """A compression format: ``magic`` at ``offset`` identifies it, ``command`` decompresses it.

    ``package`` is the Debian package of the command. An uncompressed tar has no command.
    """

    magic: bytes
    offset: int
    command: tuple[str, ...]
    package: str


# --threads=0: a tarball made by a threaded xz has many blocks, which xz can decode in parallel.
XZ = ("xz", "--decompress", "--stdout", "--threads=0")

FORMATS = (
    Format(b"\xfd7zXZ\x00", 0, XZ, "xz-utils"),
    Format(b"\x1f\x8b", 0, ("gzip", "--decompress", "--stdout"), "gzip"),
    Format(b"BZh", 0, ("bzip2", "--decompress", "--stdout"), "bzip2"),
    Format(b"\x28\xb5\x2f\xfd", 0, ("zstd", "--decompress", "--stdout"), "zstd"),
    Format(b"ustar", 257, (), "tar"),
)


def tarball(archive: Path, into: Path, *, what: str, stage: Stage) -> None:
    """Unpack the tarball ``archive`` to the new folder ``into``.

    If all members are in one top folder, ``into`` gets the content of that folder. OSError (ENOSPC)
    if the disk is full. HarnessError (exit 2) if ``archive`` is not a tarball, is damaged, unpacks
    to more than MAX_BYTES, or has symlinks that lead outside, or special files; also if a program
    that unpacks it is not installed. ``what`` names the input in the error.
    """
    compression = _format(archive, what=what)
    if compression.command:
        require_tool(compression.command[0], package=compression.package)
    stream(
        (compression.command,) if compression.command else (),
        into,
        source=archive,
        what=what,
        stage=stage,
    )


def package(deb: Path, member: str, into: Path, *, what: str, stage: Stage) -> None:
    """Unpack the .tar.xz ``member`` of the Debian package ``deb`` to the new folder ``into``.

    A single top folder is removed, and errors are raised, as by `tarball`.
    """
    require_tool("dpkg-deb", package="dpkg")
    require_tool("xz", package="xz-utils")
    commands = (
        ("dpkg-deb", "--fsys-tarfile", "-"),
        ("tar", "--extract", "--to-stdout", member),
        XZ,
    )
    stream(commands, into, source=deb, what=what, stage=stage)


def stream(
    commands: Sequence[Command],
    into: Path,
    *,
    what: str,
    stage: Stage,
    source: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run ``commands`` as a pipe and unpack its output, a tar stream, to the new folder ``into``.

    The first command, or tar if there is none, reads the file ``source``, if given, as standard
    input. ``env`` is the environment of all commands, as in `kpatch.lib.process.child`. The
    stream itself is not stored. A single top folder is removed, and errors are raised, as by
    `tarball`. After an error the folder ``into``.unpacking stays, incomplete.
    """
    raw = into.with_name(f"{into.name}.unpacking")
    raw.mkdir()
    # A source beside the new tree is a temporary file: the recorded command has its name without
    # a path that will not exist any more.
    shown = source.name if source is not None and source.parent == into.parent else source
    stage.command(("sh", "-c", _shell(commands, shown)))
    with ExitStack() as stack:
        data = None if source is None else stack.enter_context(source.open("rb"))
        pipe = _start(stack, commands, raw, stdin=data, env=env)
        _pump(pipe, data, what=what, stage=stage)
        _judge(pipe, what=what)
    top = _top(raw)
    _refuse_escapes(top, what=what)
    top.rename(into)
    if top != raw:
        raw.rmdir()


@dataclass(frozen=True)
class _Running:
    """One running process of the pipe, and the temporary file that receives its stderr."""

    argv: Command
    process: subprocess.Popen[bytes]
    stderr: IO[bytes]

    def complaint(self) -> str:
        """Return the first MiB that the process wrote to stderr."""
        self.stderr.seek(0)
        return self.stderr.read(CHUNK).decode(errors="replace")


@dataclass(frozen=True)
class _Pipe:
    """The running processes of a pipe, tar last.

    ``reader`` is the output of the command before tar (the source file if there is none),
    ``writer`` is tar's standard input; `_pump` copies from ``reader`` to ``writer``.
    """

    processes: tuple[_Running, ...]
    reader: IO[bytes]
    writer: IO[bytes]


def _start(
    stack: ExitStack,
    commands: Sequence[Command],
    into: Path,
    *,
    stdin: IO[bytes] | None,
    env: Mapping[str, str] | None,
) -> _Pipe:
    english = environment.clean() if env is None else {**env, "LC_ALL": "C"}
    reader = stdin
    running = []
    for argv in (*commands, TAR):
        last = argv is TAR
        complaints = tempfile.TemporaryFile()  # noqa: SIM115 (the stack closes it)
        stack.enter_context(complaints)
        process = stack.enter_context(
            child(
                argv,
                cwd=into if last else None,
                env=english,
                stdin=subprocess.PIPE if last else reader or subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if last else subprocess.PIPE,
                stderr=complaints,
            )
        )
        running.append(_Running(argv, process, complaints))
        if not last:
            if running[:-1] and reader is not None:
                reader.close()  # so that the writing command gets SIGPIPE if its reader dies
            reader = process.stdout
    assert reader is not None
    assert process.stdin is not None
    return _Pipe(tuple(running), reader, process.stdin)


def _pump(pipe: _Pipe, source: IO[bytes] | None, *, what: str, stage: Stage) -> None:
    """Copy the stream to tar until one side ends, and report progress to ``stage``.

    Progress is the number of bytes read from the file ``source``, or of those copied if it is None.
    HarnessError (exit 2) if the stream has more than MAX_BYTES.
    """
    total = None if source is None else os.fstat(source.fileno()).st_size
    moved = 0
    ticked = 0.0
    with suppress(BrokenPipeError):  # tar has ended; _judge reports its error
        while chunk := os.splice(pipe.reader.fileno(), pipe.writer.fileno(), CHUNK):
            moved += chunk
            if moved > MAX_BYTES:
                raise HarnessError(
                    what, f"unpacks to more than {MAX_BYTES >> 30} GiB", hint="give a kernel's"
                )
            if time.monotonic() - ticked > TICK_SECONDS:
                ticked = time.monotonic()
                # The first command shares our open file description, and so its offset.
                done = moved if source is None else os.lseek(source.fileno(), 0, os.SEEK_CUR)
                stage.advance(done, total)
    pipe.writer.close()
    pipe.reader.close()


def _judge(pipe: _Pipe, *, what: str) -> None:
    """Wait for all processes; raise HarnessError (exit 2) if one failed.

    The error names the first command that failed by itself, not by SIGPIPE as a consequence of
    another failure. OSError (ENOSPC) if the disk is full.
    """
    failed = [running for running in pipe.processes if running.process.wait() != 0]
    if not failed:
        return
    texts = [running.complaint() for running in failed]
    cache.raise_if_full("".join(texts))
    culprit, text = next(
        (
            (running, text)
            for running, text in zip(failed, texts, strict=True)
            if running.process.returncode != -signal.SIGPIPE and "Broken pipe" not in text
        ),
        (failed[-1], texts[-1]),
    )
    lines = text.strip().splitlines() or [f"ended with status {culprit.process.returncode}"]
    raise HarnessError(
        what,
        f"cannot be unpacked ({lines[0].strip()})",
        hint="get it again: it is truncated or damaged, or not what it claims to be",
        details=text,
    )


def _format(archive: Path, *, what: str) -> Format:
    with archive.open("rb") as file:
        head = file.read(512)
    for known in FORMATS:
        if head.startswith(known.magic, known.offset):
            return known
    raise HarnessError(
        what, "is no tarball", hint="give a .tar, .tar.xz, .tar.gz, .tar.bz2 or .tar.zst"
    )


def _shell(commands: Sequence[Command], source: Path | str | None) -> str:
    """Return the pipe of ``commands`` and tar as one shell line, to be run in an empty folder."""
    first, *others = (shlex.join(argv) for argv in (*commands, TAR))
    given = first if source is None else f"{first} < {shlex.quote(str(source))}"
    return " | ".join((given, *others))


def _top(raw: Path) -> Path:
    """Return the top folder of the unpacked tree: the only entry of ``raw`` if that is a folder.

    Otherwise return ``raw`` itself.
    """
    items = list(raw.iterdir())
    if len(items) == 1 and items[0].is_dir() and not items[0].is_symlink():
        return items[0]
    return raw


def _refuse_escapes(top: Path, *, what: str) -> None:
    """Raise HarnessError (exit 2) if ``top`` contains a symlink to outside, or a special file."""
    inside = top.resolve()
    for parent, folders, files in os.walk(top, onerror=_raise):
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                bad = not path.resolve().is_relative_to(inside)
                why = "is a symlink that leads out of the tree"
            else:
                bad = not (stat.S_ISDIR(mode) or stat.S_ISREG(mode))
                why = "is neither a file nor a folder"
            if bad:
                raise HarnessError(
                    what, f"{path.relative_to(top)} {why}", hint="give a kernel's tarball"
                )


def _raise(error: OSError) -> None:
    raise error
