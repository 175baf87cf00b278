# SPDX-License-Identifier: GPL-2.0-only
"""A temporary bare git repository that ignores the configuration of the user and the system.

Patches are not trusted. They are applied to the repository's index, where they cannot touch files:
git follows no symbolic link, runs no hook and writes to no path outside the temporary folder.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib.process import require_tool, with_pdeathsig

TIME_LIMIT = 120.0
"""Time limit of one git command in seconds; the largest real series takes a thousandth of it."""

NO_SETTINGS = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
}
"""Environment variables for git, by which no settings of the user or the system apply."""

CAUTIOUS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.symlinks=false")
"""Options of git, by which it runs no hook and makes no symbolic link."""


@dataclass(frozen=True)
class GitOutput:
    """Exit status, standard output and standard error of one git command."""

    status: int
    stdout: bytes
    stderr: str


@dataclass(frozen=True)
class Entry:
    """One file in which the index differs from the branch "base" (`Sandbox.fill`).

    ``mode_before`` is None for a new file; ``mode`` and ``blob`` (an object id) are None for a
    deleted file. Modes are git's, in octal ("100644").
    """

    path: str
    mode_before: str | None
    mode: str | None
    blob: str | None


class Sandbox:
    """A temporary git repository in ``folder``, with some files of a kernel tree in its index.

    Its methods run git on the repository, with no configuration of the user or the system.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._git = require_tool("git", package="git")
        (folder / "home").mkdir()
        self._env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C",
            "HOME": str(folder / "home"),
            "GIT_DIR": str(folder / "repo"),
            **NO_SETTINGS,
            "GIT_TERMINAL_PROMPT": "0",
        }
        self.must("init", "--quiet", "--bare", "--template=", str(folder / "repo"))

    def git(
        self,
        *arguments: str,
        stdin: bytes = b"",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> GitOutput:
        """Run ``git arguments`` on the repository; return exit status and output.

        ``stdin`` is its standard input, ``cwd`` its working directory (None: the folder of the
        sandbox). ``env`` is added to the environment. HarnessError (exit 2) if the command takes
        longer than TIME_LIMIT.
        """
        argv = [self._git, *CAUTIOUS]
        try:
            done = subprocess.run(
                with_pdeathsig([*argv, *arguments]),
                input=stdin,
                capture_output=True,
                cwd=cwd or self.folder,
                env={**self._env, **(env or {})},
                timeout=TIME_LIMIT,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HarnessError(
                f"git {arguments[0]}",
                f"still running after {TIME_LIMIT:.0f} s",
                hint="look for what is abnormal in the series",
            ) from None
        return GitOutput(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def must(
        self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> bytes:
        """Run ``git arguments`` and return its standard output; HarnessError (exit 2) if it fails.

        For commands that fail only if git is broken or the disk is full. ``stdin`` and ``env`` are
        as in `git`.
        """
        done = self.git(*arguments, stdin=stdin, env=env)
        if done.status:
            cause = done.stderr.strip().splitlines() or [f"exit status {done.status}"]
            raise HarnessError(
                f"git {arguments[0]}", cause[-1], hint="check git and the space left for files"
            )
        return done.stdout

    def fill(self, files: Mapping[str, tuple[bytes, bool]]) -> None:
        """Commit ``files`` to the new branch "base", and read them into the index.

        ``files`` maps a path to the content and the executable bit of a file.
        """
        stream = [b"commit refs/heads/base\ncommitter kpatch <> 0 +0000\ndata 0\n"]
        for path, (content, executable) in sorted(files.items()):
            quoted = path.replace("\\", "\\\\").replace('"', '\\"').encode()
            mode = b"100755" if executable else b"100644"
            stream.append(b'M %s inline "%s"\ndata %d\n' % (mode, quoted, len(content)))
            stream.append(content + b"\n")
        self.must("fast-import", "--quiet", stdin=b"".join(stream))
        self.must("read-tree", "base")

    def entries(self) -> list[Entry]:
        """Return the files in which the index differs from the branch "base", sorted by path."""
        raw = self.must(
            "diff-index", "--cached", "--raw", "-z", "--no-renames", "--full-index", "base"
        )
        fields = iter(raw.decode().split("\0"))
        return [_entry(head, path) for head, path in zip(fields, fields, strict=False)]

    def blobs(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the content of the blobs with the object ids ``names``, by object id."""
        wanted = list(dict.fromkeys(names))
        rest = self.must("cat-file", "--batch", stdin="".join(f"{n}\n" for n in wanted).encode())
        contents: dict[str, bytes] = {}
        for name in wanted:
            head, _, rest = rest.partition(b"\n")
            size = int(head.split()[2])
            contents[name], rest = rest[:size], rest[size + 1 :]
        return contents


def _entry(head: str, path: str) -> Entry:
    before, after, _, blob, _ = head.lstrip(":").split(" ")
    gone = after == "000000"
    return Entry(
        path,
        None if before == "000000" else before,
        None if gone else after,
        None if gone else blob,
    )


@contextmanager
def sandbox() -> Iterator[Sandbox]:
    """Yield a new Sandbox in a temporary folder, which is removed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="kpatch-apply-") as folder:
        yield Sandbox(Path(folder))
