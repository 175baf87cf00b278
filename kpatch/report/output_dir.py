# SPDX-License-Identifier: GPL-2.0-only
"""The output folder OUT of a run or a review.

It has the results of one run: the next run removes the files of the earlier one when it opens the
folder, so that no old verdict is left if that run is killed. The manifest, the file ``.vfio-acpi``,
has the names of the files that a run has written; no other file is ever removed or overwritten,
except those of the form ``.vfio-acpi.*``, in which a file is written before it gets its name. A run
locks the manifest, so that two runs cannot write to one folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from kpatch.errors import HarnessError
from kpatch.tables.outcomes import ExitCode

MANIFEST = ".vfio-acpi"
PARTIAL = f"{MANIFEST}."

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,200}")


class OutputDir:
    """The output folder of one run, locked by it. `open_output_dir` makes the object."""

    def __init__(self, path: Path, manifest: IO[str]) -> None:
        self.path = path
        self._manifest = manifest
        self._names: list[str] = []

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the files that this run has added to the manifest so far."""
        return tuple(self._names)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write ``content`` to the file ``name`` atomically, and return its path.

        Text is encoded as UTF-8, lone surrogates as "?". HarnessError: exit 7 if the file cannot be
        written; exit 2 if the file exists and was not written by this run, or ``name`` is no plain
        file name.
        """
        final = self.file(name)
        data = content.encode(errors="replace") if isinstance(content, str) else content
        temporary: Path | None = None
        try:
            with tempfile.NamedTemporaryFile(dir=self.path, prefix=PARTIAL, delete=False) as file:
                temporary = Path(file.name)
                file.write(data)
            temporary.chmod(0o644)
            temporary.replace(final)
        except OSError as error:
            raise _late(final, error) from error
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
        return final

    def file(self, name: str) -> Path:
        """Add the file ``name`` to the manifest, and return its path.

        The caller may write the file bit by bit, as a log. HarnessError: exit 7 if the manifest
        cannot be written; exit 2 if the file exists and was not written by this run, or ``name`` is
        no plain file name.
        """
        if not _NAME.fullmatch(name):
            raise HarnessError(f"OUT={self.path}", f"{name!r} is no file name", hint="rename it")
        if name not in self._names:
            self.reserve([name])
            try:
                self._manifest.write(f"{name}\n")
                self._manifest.flush()
            except OSError as error:
                raise _late(self.path / MANIFEST, error) from error
            self._names.append(name)
        return self.path / name

    def reserve(self, names: Iterable[str]) -> None:
        """Raise HarnessError (exit 2) if one of ``names`` exists and this run has not written it.

        The files of earlier runs are already removed, so such a file is not the harness's.
        """
        for name in names:
            if name not in self._names and os.path.lexists(self.path / name):
                raise HarnessError(
                    f"OUT={self.path}",
                    f"{name} is there and is not from a run of this harness",
                    hint="move it away or choose another folder",
                )


@contextmanager
def open_output_dir(path: Path, *, names: Iterable[str] = ()) -> Iterator[OutputDir]:
    """Make the folder ``path`` if needed, lock it, remove the earlier run's files, and yield it.

    ``names`` are files that the run will certainly write. HarnessError (exit 2) if the folder
    cannot be written, another run has locked it, or a file that no run has written has one of
    ``names``.
    """
    with _locked(path) as manifest:
        _remove_earlier(path, manifest)
        output = OutputDir(path, manifest)
        output.reserve(names)
        _try_writing(path)
        yield output


@contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(
            path / MANIFEST, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
        )
    except OSError as error:
        raise _unwritable(path, error) from error
    with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as manifest:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HarnessError(
                f"OUT={path}", "another run is writing there", hint="choose another folder"
            ) from None
        yield manifest


def _remove_earlier(path: Path, manifest: IO[str]) -> None:
    """Remove unfinished files and those that the manifest names, and empty the manifest.

    ``path`` is their folder.

    HarnessError (exit 2) if a file cannot be removed.
    """
    try:
        for name in manifest.read().splitlines():
            if _NAME.fullmatch(name):
                with suppress(FileNotFoundError, IsADirectoryError):
                    (path / name).unlink()
        for partial in path.glob(f"{PARTIAL}*"):
            partial.unlink()
        manifest.seek(0)
        manifest.truncate()
    except OSError as error:
        raise _unwritable(path, error) from error


def _try_writing(path: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"x")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> HarnessError:
    return HarnessError(
        f"OUT={path}",
        f"cannot be written: {error.strerror or error}",
        hint="choose a folder that can be written to",
    )


def _late(path: Path, error: OSError) -> HarnessError:
    return HarnessError(
        str(path),
        f"cannot be written: {error.strerror or error}",
        hint="make room and run again",
        code=ExitCode.LOST,
    )
