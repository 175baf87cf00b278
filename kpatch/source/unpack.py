# SPDX-License-Identifier: GPL-2.0-only
"""Unpacking somebody else's tarball into a folder, so that nothing lands beside it."""

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
from kpatch.lib import cache
from kpatch.lib.process import child, need
from kpatch.lib.stage import Stage

# A kernel tree unpacks to 1.4–1.8 GB; what goes on for longer than this is a bomb.
MAX_BYTES = 8 << 30

CHUNK = 1 << 20
TICK_SECONDS = 0.1

# GNU tar drops a leading slash, refuses "..", and makes a symlink that could lead out only
# after everything else is in place; owners and special bits of the archive are not wanted.
TAR = ("tar", "--extract", "--no-same-owner", "--no-same-permissions")

Command = Sequence[str]


@dataclass(frozen=True)
class Format:
    """A kind of tarball: known by the bytes ``magic`` at ``offset``, unpacked by ``command``."""

    magic: bytes
    offset: int
    command: tuple[str, ...]
    package: str


# xz -T0: a tarball made by a threaded xz has many blocks, which decode in parallel.
XZ = ("xz", "--decompress", "--stdout", "--threads=0")

FORMATS = (
    Format(b"\xfd7zXZ\x00", 0, XZ, "xz-utils"),
    Format(b"\x1f\x8b", 0, ("gzip", "--decompress", "--stdout"), "gzip"),
    Format(b"BZh", 0, ("bzip2", "--decompress", "--stdout"), "bzip2"),
    Format(b"\x28\xb5\x2f\xfd", 0, ("zstd", "--decompress", "--stdout"), "zstd"),
    Format(b"ustar", 257, (), "tar"),
)


def tarball(archive: Path, into: Path, *, what: str, stage: Stage) -> None:
    """Unpack the tarball ``archive`` as the new folder ``into``, without its one top folder.

    HarnessError (exit 2) if it is none, is truncated, or holds what would leave the folder.
    """
    found = _format(archive, what=what)
    if found.command:
        need(found.command[0], package=found.package)
    stream((found.command,) if found.command else (), into, source=archive, what=what, stage=stage)


def package(deb: Path, member: str, into: Path, *, what: str, stage: Stage) -> None:
    """Unpack the .tar.xz that is ``member`` of the Debian package ``deb``; see tarball()."""
    need("dpkg-deb", package="dpkg")
    need("xz", package="xz-utils")
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
    """Unpack the tar stream that the pipe of ``commands`` gives as the new folder ``into``.

    The first command reads ``source``, if given, as its standard input. No intermediate is
    written. OSError (ENOSPC) if the disk is full, HarnessError for anything else.
    """
    raw = into.with_name(f"{into.name}.unpacking")
    raw.mkdir()
    # What lies beside the tree to be is gone afterwards: its name alone tells more.
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
    """One process of the pipe, and the file that takes what it complains about."""

    argv: Command
    process: subprocess.Popen[bytes]
    stderr: IO[bytes]

    def complaint(self) -> str:
        """The first of what it wrote to stderr."""
        self.stderr.seek(0)
        return self.stderr.read(CHUNK).decode(errors="replace")


@dataclass(frozen=True)
class _Pipe:
    """The running processes, tar last; ``reader`` to ``writer`` is the gap in front of tar."""

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
    english = {**(os.environ if env is None else env), "LC_ALL": "C"}
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
                reader.close()  # or the command before would never learn that its reader died
            reader = process.stdout
    assert reader is not None
    assert process.stdin is not None
    return _Pipe(tuple(running), reader, process.stdin)


def _pump(pipe: _Pipe, source: IO[bytes] | None, *, what: str, stage: Stage) -> None:
    """Move everything to tar, counting it; ends when either side does."""
    total = None if source is None else os.fstat(source.fileno()).st_size
    moved = 0
    ticked = 0.0
    with suppress(BrokenPipeError):  # then tar's own status says why
        while chunk := os.splice(pipe.reader.fileno(), pipe.writer.fileno(), CHUNK):
            moved += chunk
            if moved > MAX_BYTES:
                raise HarnessError(
                    what, f"unpacks to more than {MAX_BYTES >> 30} GiB", mend="give a kernel's"
                )
            if time.monotonic() - ticked > TICK_SECONDS:
                ticked = time.monotonic()
                # The first command reads through the same open file, so its offset is ours too.
                done = moved if source is None else os.lseek(source.fileno(), 0, os.SEEK_CUR)
                stage.advance(done, total)
    pipe.writer.close()
    pipe.reader.close()


def _judge(pipe: _Pipe, *, what: str) -> None:
    """Raise what the first command that failed of its own accord complained about."""
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
        mend="get it again: it is truncated or damaged, or not what it claims to be",
        details=text,
    )


def _format(archive: Path, *, what: str) -> Format:
    with archive.open("rb") as file:
        head = file.read(512)
    for known in FORMATS:
        if head.startswith(known.magic, known.offset):
            return known
    raise HarnessError(
        what, "is no tarball", mend="give a .tar, .tar.xz, .tar.gz, .tar.bz2 or .tar.zst"
    )


def _shell(commands: Sequence[Command], source: Path | str | None) -> str:
    """The whole pipe as one line that a reader can repeat in a folder of their own."""
    first, *others = (shlex.join(argv) for argv in (*commands, TAR))
    given = first if source is None else f"{first} < {shlex.quote(str(source))}"
    return " | ".join((given, *others))


def _top(raw: Path) -> Path:
    """The tree in what was unpacked: its only folder, or all of it."""
    items = list(raw.iterdir())
    if len(items) == 1 and items[0].is_dir() and not items[0].is_symlink():
        return items[0]
    return raw


def _refuse_escapes(top: Path, *, what: str) -> None:
    """HarnessError if ``top`` holds a symlink that leads out of it, or anything special."""
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
                    what, f"{path.relative_to(top)} {why}", mend="give a kernel's tarball"
                )


def _raise(error: OSError) -> None:
    raise error
