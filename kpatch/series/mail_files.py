# SPDX-License-Identifier: GPL-2.0-only
"""Read the mail of a series from files, folders or standard input.

Accepted are an mbox, a file with one mail, a maildir, an MH folder, a folder of patches, and
standard input (``-``). Each file may be compressed by gzip (lore's ``t.mbox.gz``) or xz. In a
folder of patches, files are read if `is_mail` accepts their names, in the order of the names
(``git format-patch`` numbers them); folders in it are not read. In all folders, files whose names
begin with a dot are not read.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import lzma
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache

SIZE_LIMIT = 32 << 20
"""Largest size of a series' mail in bytes, decompressed: ten times the largest series on a list."""

COUNT_LIMIT = 4096
"""Largest number of mail files in one folder."""

STDIN = "-"
"""The name that stands for standard input."""

EXPORT = "export the series with git format-patch --stdout"

NAME = "name an mbox file, a maildir or a folder of patches"

PACKED = (".gz", ".xz")
SUFFIXES = (".mbox", ".mbx", ".patch", ".eml")

_MEMORY_LIMIT = 256 << 20
_BOM = b"\xef\xbb\xbf"
_MAIL_START = re.compile(rb"\s*(?:From |>?From:|[!-9;-~]+:[ \t])")


@dataclass(frozen=True)
class Post:
    """The decompressed content of the file ``name``: one mail if ``single``, else an mbox."""

    name: str
    content: bytes
    single: bool = False


def is_mail(name: str) -> bool:
    """Return whether ``name`` ends in one of `SUFFIXES`, which .gz or .xz may follow."""
    return name.removesuffix(".gz").removesuffix(".xz").endswith(SUFFIXES)


@functools.cache
def standard_input() -> Path:
    """Copy standard input to a file in the cache, and return the path of that file.

    Later calls return the same path. HarnessError (exit 2) if standard input is empty or longer
    than SIZE_LIMIT.
    """
    what = f"SERIES={STDIN}"
    content = sys.stdin.buffer.read(SIZE_LIMIT + 1)
    if not content.strip():
        raise HarnessError(what, "nothing came by standard input", hint=EXPORT)
    _limit(what, len(content))
    return keep("stdin", ".mbox", content)


def keep(stem: str, suffix: str, content: bytes) -> Path:
    """Write ``content`` to a file in the cache, and return the path of that file.

    A command that repeats a run can then name the file. Its name is ``stem``, "-", the first 12
    hexadecimal digits of the sha256 of ``content``, and ``suffix``.
    """
    name = f"{stem}-{hashlib.sha256(content).hexdigest()[:12]}{suffix}"
    path = cache.folder("mail") / name
    cache.write(path, content)
    return path


def posts(what: str, paths: tuple[Path, ...]) -> list[Post]:
    """Read the mail files at ``paths``, and those in folders at ``paths``; return their content.

    HarnessError (exit 2), about ``what``, if a file is missing, no mail or damaged, if a folder has
    no mail or too many files, or if all files together are larger than SIZE_LIMIT.
    """
    files = [file for path in paths for file in _files(what, path)]
    _limit(what, sum(_size(what, path) for path, _ in files))
    found, total = [], 0
    for path, single in files:
        content = _unpacked(what, path, _read(what, path)).removeprefix(_BOM)
        total += len(content)
        _limit(what, total)
        flaw = _flaw(content)
        if flaw is not None:
            raise HarnessError(what, f"{path} {flaw[0]}", hint=flaw[1])
        found.append(Post(path.name, content, single))
    return found


def _files(what: str, path: Path) -> list[tuple[Path, bool]]:
    """Return ``path``, or the mail files in it if it is a folder, each with a bool.

    The bool is true for a file that is one mail (in a maildir or an MH folder), and false for a
    file that is read as an mbox. HarnessError (exit 2), about ``what``, if the folder has no mail
    or more than COUNT_LIMIT mail files, or cannot be read.
    """
    if not path.is_dir():
        return [(path, False)]
    try:
        maildir = [path / name for name in ("cur", "new") if (path / name).is_dir()]
        if len(maildir) == 2:
            found = [(file, True) for part in maildir for file in _visible(part)]
        else:
            found = [
                (file, file.name.isdigit())
                for file in _visible(path)
                if (is_mail(file.name) or file.name.isdigit()) and not file.is_dir()
            ]
    except OSError as error:
        raise HarnessError(what, f"{path} cannot be read: {error.strerror}", hint=NAME) from None
    if not found:
        ends = ", ".join(SUFFIXES)
        raise HarnessError(
            what,
            f"{path} is a folder without mail: no maildir, and no file ends in {ends}",
            hint=NAME,
        )
    if len(found) > COUNT_LIMIT:
        raise HarnessError(
            what, f"{path} has more than {COUNT_LIMIT} files", hint="take the series out of it"
        )
    return found


def _visible(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if not file.name.startswith("."))


def _size(what: str, path: Path) -> int:
    try:
        info = path.stat()
    except OSError as error:
        raise HarnessError(what, f"{path} cannot be read: {error.strerror}", hint=NAME) from None
    if not stat.S_ISREG(info.st_mode):
        raise HarnessError(what, f"{path} is not a file", hint=NAME)
    return info.st_size


def _read(what: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HarnessError(what, f"{path} cannot be read: {error.strerror}", hint=NAME) from None


def _limit(what: str, size: int) -> None:
    if size > SIZE_LIMIT:
        raise HarnessError(
            what,
            f"{size >> 20} MiB of mail, more than {SIZE_LIMIT >> 20}",
            hint="take out what is not part of the series",
        )


def _gunzip(content: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        return file.read(SIZE_LIMIT + 1)


def _unxz(content: bytes) -> bytes:
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MEMORY_LIMIT)
    unpacked = unpacker.decompress(content, max_length=SIZE_LIMIT + 1)
    if not unpacker.eof and len(unpacked) <= SIZE_LIMIT:
        raise EOFError
    return unpacked


_MAGIC: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": ("gzip", _gunzip),
    b"\xfd7zXZ\0": ("xz", _unxz),
}


def _unpacked(what: str, path: Path, content: bytes) -> bytes:
    """Return ``content`` decompressed; its first bytes, not the name of ``path``, tell the format.

    Content that is not compressed is returned unchanged; of other content, no more than SIZE_LIMIT
    + 1 bytes are decompressed. HarnessError (exit 2), about ``what`` and the file ``path``, if it
    is damaged.
    """
    for magic, (name, unpack) in _MAGIC.items():
        if content.startswith(magic):
            try:
                return unpack(content)
            except (OSError, EOFError, zlib.error, lzma.LZMAError):
                raise HarnessError(
                    what, f"{path} is compressed by {name}, and damaged", hint="fetch it again"
                ) from None
    return content


def _flaw(content: bytes) -> tuple[str, str] | None:
    """Return the reason why ``content`` is no mail, and a hint; None if it begins like a mail."""
    start = content.lstrip()
    if not start:
        return "is empty", EXPORT
    if b"\0" in content:
        return "is not an mbox: it has binary data", EXPORT
    if start.startswith((b"diff ", b"--- ", b"Index: ")):
        return "is not an mbox: it is a bare diff without a mail's header", EXPORT
    if re.match(rb"commit [0-9a-f]{40}\b", start):
        return "is not an mbox: it is what git show or git log prints", EXPORT
    if not _MAIL_START.match(content):
        return "is not an mbox: it does not begin like a mail", EXPORT
    return None
