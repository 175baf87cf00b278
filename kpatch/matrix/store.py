# SPDX-License-Identifier: GPL-2.0-only
"""The store of a matrix: records of jobs by key, files by the SHA-256 of their content.

    STORE/cells/KEY.json     the record of a job that is done
    STORE/objects/ab/abcd…   a file

It is a folder, or any place that fsspec knows (``s3://…``, ``gs://…``, ``sftp://…``). A record is
written after all its files, under another name, and then renamed: what has a record is complete.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path
from typing import Any

from kpatch.errors import HarnessError
from kpatch.matrix.job import FINAL, Ending, Record
from kpatch.tables.outcomes import ExitCode

# Larger files are not stored, and larger objects are not read.
LARGEST = 64 << 20

_KEY = re.compile(r"[0-9a-f]{16,64}")


class Store:
    """A store at ``url``, a path or a URL of fsspec. HarnessError (exit 2) if there can be none."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise missing("fsspec") from error
        self.url = url
        try:
            fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError, TypeError) as error:
            raise HarnessError(
                f"--store {url}", f"is no place that fsspec can use: {error}", hint="name a folder"
            ) from error
        self._fs: Any = fs
        self._root: str = root.rstrip("/")

    def put(self, data: bytes) -> str:
        """Store ``data``, if it is not there, and return its digest. OSError if that fails."""
        digest = hashlib.sha256(data).hexdigest()
        if not self._fs.exists(self._object(digest)):
            self._write(self._object(digest), data)
        return digest

    def get(self, digest: str) -> bytes:
        """Return the content with the ``digest``.

        HarnessError (exit 7) if it is not there, is too large, or has another digest.
        """
        cause = "is no digest"
        if re.fullmatch(r"[0-9a-f]{64}", digest):
            data = self._read(self._object(digest), LARGEST)
            if data is not None and hashlib.sha256(data).hexdigest() == digest:
                return data
            cause = "is missing" if data is None else "is damaged"
        raise HarnessError(
            f"{self.url}: object {digest[:64]}",
            cause,
            hint="remove the record of the cell and run it again",
            code=ExitCode.LOST,
        )

    def finish(self, record: Record) -> None:
        """Store the ``record`` of a job that is done, after its files. OSError if that fails."""
        assert record.ending is Ending.DONE
        self._write(self._cell(record.key), record.dump().encode())

    def record(self, key: str) -> Record | None:
        """Return the record ``key``; None if there is none, or it or one of its files is damaged.

        Of the files only the presence is looked at; `get` checks the content.
        """
        data = self._read(self._cell(key), LARGEST)
        if data is None:
            return None
        try:
            found = Record.load(data.decode())
        except ValueError:
            return None
        whole = all(self._fs.exists(self._object(digest)) for digest in found.files.values())
        done = found.ending is Ending.DONE and found.code in FINAL
        return found if found.key == key and done and whole else None

    def _object(self, digest: str) -> str:
        return f"{self._root}/objects/{digest[:2]}/{digest}"

    def _cell(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key")
        return f"{self._root}/cells/{key}.json"

    def _write(self, path: str, data: bytes) -> None:
        partial = f"{path}.{uuid.uuid4().hex}"
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(partial, data)
        self._fs.mv(partial, path)

    def _read(self, path: str, limit: int) -> bytes | None:
        try:
            data: bytes = self._fs.cat_file(path, end=limit + 1)
        except FileNotFoundError:
            return None
        return data if len(data) <= limit else None


def place(url: str) -> str:
    """Return the path or URL ``url`` of a store so that it is valid in every working directory."""
    return url if "://" in url else str(Path.cwd() / url)


def missing(package: str, target: str = "matrix-ready") -> HarnessError:
    """Return the error that ``package`` is not installed, which make's ``target`` does."""
    return HarnessError(package, "is not installed", hint=f"run: make {target}")
