# SPDX-License-Identifier: GPL-2.0-only
"""The cache folder: its entries are named by ids of their input, and made atomically."""

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

# Messages by which tools report a full disk in the C locale. "Wrote only" is tar's for a short
# write; "enough free space" is apt's, which checks before it downloads.
FULL_SIGNS = (*map(os.strerror, FULL), "Wrote only ", "enough free space")


# Characters that the path of the cache must not have: the kernel's Makefile refuses spaces and
# colons, its rules use paths unquoted in shell commands, and a comma ends a value in QEMU's
# options.
UNFIT = re.compile(r"""[\s:,$()'"&;|<>*?`\\\[\]]""")
NAMES = {" ": "a space", ":": "a colon", ",": "a comma"}


class CacheError(HarnessError):
    """The cache folder itself cannot be used (path, permission, full disk).

    A caller that can fill an entry in several ways must not try the others: they would fail for the
    same reason.
    """


@dataclass(frozen=True)
class Freed:
    """A file or folder that clean() removes, and its size on the disk in bytes."""

    path: Path
    size: int


def root() -> Path:
    """Return the cache folder: $VFIO_ACPI_CACHE, else ``vfio-acpi`` in the XDG cache folder."""
    override = os.environ.get(ENVIRONMENT)
    return Path(override).absolute() if override else user_cache_path("vfio-acpi")


def digest(parts: Iterable[str]) -> str:
    """Return a key for ``parts``: the first 16 hex digits of a SHA-256.

    Their order counts. The length of each part is hashed too, so that ("ab", "c") and ("a", "bc")
    have different keys.
    """
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode()
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()[:16]


@contextmanager
def translate_os_errors(only: frozenset[int] | None = None) -> Iterator[None]:
    """Convert an OSError of the block to a CacheError; with ``only``, just those errno values.

    The exit code is 7 for a full disk, else 2.
    """
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        full = error.errno in FULL
        raise CacheError(
            f"cache {root()}",
            error.strerror or str(error),
            hint=f"{'free some space' if full else 'make it writable'}, or set {ENVIRONMENT} to "
            "a folder elsewhere",
            code=ExitCode.LOST if full else ExitCode.USAGE,
        ) from error


def folder(kind: str) -> Path:
    """Return the folder of all entries of ``kind``; make it if needed, with its CACHEDIR.TAG."""
    with translate_os_errors():
        path = root() / kind
        path.mkdir(parents=True, exist_ok=True)
        tag = path / TAG
        if not tag.is_file():
            tag.write_text(TAG_TEXT)
    return path


def write(file: Path, content: bytes) -> None:
    """Write ``content`` to ``file``, which is in a `folder`, atomically.

    Of two runs that write it at the same time, the later one counts. CacheError as in
    `translate_os_errors`.
    """
    with translate_os_errors():
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(file)


@contextmanager
def using() -> Iterator[None]:
    """Hold a shared lock on the cache during the block, so that clean() refuses to run.

    Waits while clean() runs. Every command but ``clean`` uses it, so the cache's path is checked
    here: CacheError (exit 2) if the path has a character with which builds fail, or if the folder
    or the lock in it cannot be made; exit 7 for that on a full disk.
    """
    if unfit := UNFIT.search(str(root())):
        raise CacheError(
            f"cache {str(root()) if str(root()).isprintable() else repr(str(root()))}",
            f"has {NAMES.get(unfit[0], repr(unfit[0]))} in its path, "
            "which make or QEMU does not accept",
            hint=f"set {ENVIRONMENT} to a folder elsewhere",
        )
    with translate_os_errors():
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
    """Hold the exclusive lock ``name`` of the cache during the block; other runs wait for it.

    If another run has it, ``waiting`` is called once before this run waits; if ``wait`` is false,
    HarnessError (exit 2) is raised instead.
    """
    with using():
        path = folder("locks") / f"{name}.lock"
        with translate_os_errors():
            lock = _opened(path)
        try:
            with translate_os_errors():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not wait:
                        raise HarnessError(
                            name, "is locked", hint="wait for the other run"
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
    """Return the folder ``kind/key`` and whether it existed; if not, ``fill`` makes it.

    ``fill`` gets an empty temporary folder beside the final one to write to. The temporary folder
    is renamed when ``fill`` returns: an interrupted run leaves no entry that looks complete. What
    it leaves is removed by the next run that makes the same entry. The entry is locked meanwhile;
    ``waiting`` is called once if another run has the lock. Exceptions of ``fill`` pass through,
    but a full disk becomes a CacheError (exit 7).
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
        with translate_os_errors():
            partial = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=parent))
        try:
            with translate_os_errors(FULL):
                try:
                    fill(partial)
                except shutil.Error as error:
                    # copytree() continues after an error and raises all of them as one text.
                    raise_if_full(str(error))
                    raise
            with translate_os_errors():
                partial.chmod(0o755)
                partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return final, False


def raise_if_full(complaint: str) -> None:
    """Raise OSError (ENOSPC) if the tool's message ``complaint`` (LC_ALL=C) reports a full disk.

    If a ``fill`` raises it, entry() converts it to a CacheError.
    """
    if any(sign in complaint for sign in FULL_SIGNS):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def clean() -> tuple[Freed, ...]:
    """Remove every entry of every kind; return the removed folders and files with their sizes.

    Only folders with a CACHEDIR.TAG are removed; other files in the cache folder stay. HarnessError
    (exit 2) if another run uses the cache; nothing is removed then.
    """
    if not root().is_dir():
        return ()
    with translate_os_errors():
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
    """Open the file ``path`` for flock(2), and make it if needed; return its descriptor.

    Child processes do not inherit the descriptor.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _gate(operation: int) -> int:
    """Lock the whole cache and return the file descriptor that holds the lock.

    ``operation`` is the operation of flock(2): shared for runs, exclusive for clean(). HarnessError
    (exit 2) if it contains LOCK_NB and another run has the lock. On a read-only file system nothing
    is locked.
    """
    path = root() / "in-use"
    try:
        gate = _opened(path)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        # A read-only cache needs no lock: clean() cannot remove its entries.
        return os.open(root(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(gate, operation)
    except BlockingIOError:
        os.close(gate)
        raise HarnessError(
            f"cache {root()}",
            "in use by another run",
            hint="wait for it to end, or end it",
        ) from None
    return gate


def _size(path: Path) -> int:
    """Return the disk space of a folder or file in bytes; each hard link counts."""
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
