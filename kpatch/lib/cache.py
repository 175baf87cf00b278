# SPDX-License-Identifier: GPL-2.0-only
"""The cache: everything expensive, kept by content, written atomically, locked."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from kpatch.errors import HarnessError
from kpatch.tables.outcomes import ExitCode

ENVIRONMENT = "VFIO_ACPI_CACHE"

# https://bford.info/cachedir/: backup tools skip a folder that holds this file, and only
# folders that hold it are ever removed by clean(), wherever VFIO_ACPI_CACHE points.
TAG = "CACHEDIR.TAG"
TAG_TEXT = "Signature: 8a477f597d28d172789f06886806bc55\n# made by vfio-acpi; safe to remove\n"

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

# How tools say that the disk is full, in English. tar may only notice that a write was short;
# apt looks before it downloads.
FULL_SIGNS = (*map(os.strerror, FULL), "Wrote only ", "enough free space")


# The kernel's Makefile takes no folder with a space or a colon, its rules put the rest unquoted
# into shell commands, and QEMU's options end at a comma.
UNFIT = re.compile(r"""[\s:,$()'"&;|<>*?`\\\[\]]""")
NAMES = {" ": "a space", ":": "a colon", ",": "a comma"}


class CacheError(HarnessError):
    """The cache folder itself is in the way: nothing else that could go there helps."""


@dataclass(frozen=True)
class Freed:
    """One thing that clean() frees, and how many bytes of the disk it takes."""

    path: Path
    size: int


def root() -> Path:
    """The cache folder: ``$VFIO_ACPI_CACHE``, else ``vfio-acpi`` under the XDG cache folder."""
    override = os.environ.get(ENVIRONMENT)
    return Path(override).absolute() if override else user_cache_path("vfio-acpi")


def digest(parts: Iterable[str]) -> str:
    """A 16-hex-digit key of ``parts``; no two different sequences of strings share one."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode()
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()[:16]


@contextmanager
def explained(only: frozenset[int] | None = None) -> Iterator[None]:
    """Make a CacheError of an OSError (of those numbers only) that the cache folder gave."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        full = error.errno in FULL
        raise CacheError(
            f"cache {root()}",
            error.strerror or str(error),
            mend=f"{'free some space' if full else 'make it writable'}, or set {ENVIRONMENT} to "
            "a folder elsewhere",
            code=ExitCode.LOST if full else ExitCode.USAGE,
        ) from error


def folder(kind: str) -> Path:
    """The folder of all entries of ``kind``, made when it is not there."""
    with explained():
        path = root() / kind
        path.mkdir(parents=True, exist_ok=True)
        tag = path / TAG
        if not tag.is_file():
            tag.write_text(TAG_TEXT)
    return path


@contextmanager
def using() -> Iterator[None]:
    """Keep clean() away for as long as the block runs; any number of runs may.

    HarnessError (exit 2) where nothing could be built. Every command comes by here.
    """
    if unfit := UNFIT.search(str(root())):
        raise CacheError(
            f"cache {str(root()) if str(root()).isprintable() else repr(str(root()))}",
            f"has {NAMES.get(unfit[0], repr(unfit[0]))} in its path, "
            "which make or QEMU does not take",
            mend=f"set {ENVIRONMENT} to a folder elsewhere",
        )
    with explained():
        root().mkdir(parents=True, exist_ok=True)
        holder = _gate(fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(holder)


@contextmanager
def locked(
    name: str, *, waiting: Callable[[], None] | None = None, wait: bool = True
) -> Iterator[None]:
    """Hold the lock ``name`` against other runs; ``waiting`` is called once if somebody has it.

    HarnessError if somebody has it and it is not waited for.
    """
    with using():
        path = folder("locks") / f"{name}.lock"
        with explained():
            lock = _opened(path)
        try:
            with explained():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not wait:
                        raise HarnessError(
                            name, "is locked", mend="wait for the other run"
                        ) from None
                    if waiting is not None:
                        waiting()
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def entry(
    kind: str,
    key: str,
    fill: Callable[[Path], None],
    *,
    waiting: Callable[[], None] | None = None,
) -> tuple[Path, bool]:
    """The folder ``kind/key``, made by ``fill`` when it is not there; and whether it was.

    ``fill`` gets an empty folder beside the final one; only when it returns does the folder
    take its name, in one rename, so that an interrupted run leaves nothing that looks whole.
    What an interrupted run did leave is removed by the next one that makes the same entry.
    Holds the lock of the entry meanwhile; ``waiting`` is called once if another run has it.
    Errors of ``fill`` pass through, except that a full disk becomes a HarnessError.
    """
    final = root() / kind / key
    if final.is_dir():
        return final, True
    with locked(f"{kind}-{key}", waiting=waiting):
        if final.is_dir():
            return final, True
        parent = folder(kind)
        for stale in parent.glob(f".{key}.*"):
            shutil.rmtree(stale, ignore_errors=True)
        with explained():
            partial = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=parent))
        try:
            with explained(FULL):
                try:
                    fill(partial)
                except shutil.Error as error:
                    # copytree() goes on after an error, and then has them all in words.
                    raise_if_full(str(error))
                    raise
            with explained():
                partial.chmod(0o755)
                partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return final, False


def raise_if_full(complaint: str) -> None:
    """OSError (ENOSPC) if a full disk is what a tool, run with LC_ALL=C, complains about.

    Out of a ``fill``, entry() makes the one clear line of it.
    """
    if any(sign in complaint for sign in FULL_SIGNS):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def clean() -> tuple[Freed, ...]:
    """Remove every entry of every kind; return what was freed.

    HarnessError if another run uses the cache, and then nothing is removed.
    """
    if not root().is_dir():
        return ()
    with explained():
        holder = _gate(fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            kinds = sorted(tag.parent for tag in root().glob(f"*/{TAG}"))
            freed = tuple(
                Freed(item, _size(item))
                for kind in kinds
                for item in sorted(kind.iterdir())
                if item.name != TAG
            )
            for item in freed:
                _remove(item.path)
            for kind in kinds:
                shutil.rmtree(kind)
        finally:
            os.close(holder)
    return freed


def _opened(path: Path) -> int:
    """Return a descriptor for flock(2), of a file that is made if needed; no child inherits it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _gate(operation: int) -> int:
    """A descriptor that holds the lock of the whole cache: shared by users, exclusive to clean."""
    path = root() / "in-use"
    try:
        gate = _opened(path)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        # Nobody can clean what is read-only, and a whole entry can be used from there.
        return os.open(root(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(gate, operation)
    except BlockingIOError:
        os.close(gate)
        raise HarnessError(
            f"cache {root()}",
            "in use by another run",
            mend="wait for it to end, or end it",
        ) from None
    return gate


def _size(path: Path) -> int:
    """Bytes of disk that ``path`` and all below it take; a hard link counts each time."""
    blocks = path.lstat().st_blocks
    if path.is_dir() and not path.is_symlink():
        for parent, folders, files in os.walk(path):
            blocks += sum(os.lstat(f"{parent}/{name}").st_blocks for name in (*folders, *files))
    return blocks * 512


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
