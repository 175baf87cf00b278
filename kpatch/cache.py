# SPDX-License-Identifier: GPL-2.0-only
"""The cache: everything expensive, kept by content, written atomically, locked."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

ENVIRONMENT = "VFIO_ACPI_CACHE"


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
def locked(name: str, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock ``name`` against other runs; ``waiting`` is called once if somebody has it."""
    folder = root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting is not None:
            waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def entry(kind: str, key: str, fill: Callable[[Path], None]) -> tuple[Path, bool]:
    """The folder ``kind/key``, made by ``fill`` when it is not there; and whether it was.

    ``fill`` gets an empty folder beside the final one; only when it returns does the folder
    take its name, in one rename, so that an interrupted run leaves nothing that looks whole.
    What an interrupted run did leave is removed by the next one that makes the same entry.
    Holds the lock of the entry meanwhile. Errors of ``fill`` pass through.
    """
    final = root() / kind / key
    if final.is_dir():
        return final, True
    with locked(f"{kind}-{key}"):
        if final.is_dir():
            return final, True
        final.parent.mkdir(parents=True, exist_ok=True)
        for stale in final.parent.glob(f".{key}.*"):
            shutil.rmtree(stale, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=final.parent))
        try:
            fill(partial)
            partial.chmod(0o755)
            partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return final, False
