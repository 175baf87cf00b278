# SPDX-License-Identifier: GPL-2.0-only
"""The C files of a series as a git repository with a commit for each patch.

The commit of the base has the message 0, that of a patch its number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from kpatch.build.objects import OUTSIDE
from kpatch.errors import HarnessError
from kpatch.lib import environment, process
from kpatch.model import Applied
from kpatch.series import apply
from kpatch.series.scratch_index import CAUTIOUS, NO_SETTINGS
from kpatch.tables.outcomes import ExitCode

BASE, TIP = "base", "tip"
"""The branches: the unpatched files, and those with the whole series."""


class History:
    """The repository in ``folder``, whose working tree has the files with the whole series."""

    def __init__(self, folder: Path, applied: Applied) -> None:
        self.folder = folder
        self.paths = tuple(sorted(_paths(applied)))
        folder.mkdir()
        self._git("init", "--quiet", "--template=")
        stream = folder.with_suffix(".stream")
        stream.write_bytes(b"".join(_stream(applied, self.paths)))
        self._git("fast-import", "--quiet", stdin=stream)
        self._git("checkout", "--quiet", TIP)

    def patches(self, path: str) -> list[int]:
        """Return the number of the patch that added each line of the file; 0 if it is the base's.

        [] if the series removes the file.
        """
        if not (self.folder / path).is_file():
            return []
        output = self._git("blame", "--line-porcelain", TIP, "--", path)
        heads = (line for line in output.splitlines() if line.startswith("summary "))
        return [int(head.removeprefix("summary ")) for head in heads]

    def lines(self, path: str) -> list[str]:
        """Return the lines of the file with the whole series."""
        return (self.folder / path).read_text(errors="replace").split("\n")

    def _git(self, *arguments: str, stdin: Path | None = None) -> str:
        words = ["git", *CAUTIOUS, *arguments]
        if stdin is not None:
            words = ["sh", "-c", 'exec "$@" < "$0"', str(stdin), *words]
        status, output = process.capture(words, cwd=self.folder, env=settings())
        if status != 0:
            raise HarnessError(
                f"git {arguments[0]}",
                output.strip().rpartition("\n")[2] or process.ending(status),
                hint="check git and the space left for files",
                code=ExitCode.LOST,
            )
        return output


def settings() -> dict[str, str]:
    """Return the environment for git in which no settings of the user or the system apply."""
    return environment.clean(**NO_SETTINGS)


def _paths(applied: Applied) -> Iterator[str]:
    """Yield the C files of the kernel that a patch of the series changes."""
    for path in {change.path for step in applied.steps for change in step}:
        if path.endswith((".c", ".h")) and not path.startswith(OUTSIDE):
            yield path


def _stream(applied: Applied, paths: Iterable[str]) -> Iterator[bytes]:
    """Yield the input of git fast-import."""
    for number in range(len(applied.steps) + 1):
        state = apply.after(applied, number)
        yield b"commit refs/heads/%s\nmark :%d\n" % (TIP.encode(), number + 1)
        yield b"committer kpatch <> 0 +0000\ndata %d\n%d\n" % (len(str(number)), number)
        yield b"from :%d\ndeleteall\n" % number if number else b"deleteall\n"
        for path in paths:
            content = apply.content(state, path)
            if content is not None:
                quoted = path.replace("\\", "\\\\").replace('"', '\\"').encode()
                yield b'M 100644 inline "%s"\ndata %d\n' % (quoted, len(content))
                yield content + b"\n"
    yield b"reset refs/heads/%s\nfrom :1\n\n" % BASE.encode()
