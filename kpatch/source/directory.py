# SPDX-License-Identifier: GPL-2.0-only
"""Identify a kernel tree in a plain folder by its content, and copy it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache
from kpatch.lib.process import capture, require_tool
from kpatch.lib.stage import Stage


def fingerprint(top: Path, *, what: str) -> str:
    """Return the sha256 (hex) of all names, kinds, executable bits and contents below ``top``.

    HarnessError (exit 2) if an entry cannot be read, is neither file, folder nor symlink, or is a
    symlink to a place outside ``top``. ``what`` names the input in the error.
    """
    whole = hashlib.sha256()
    inside = top.resolve()
    try:
        for path, name, status in _walk(top):
            kind, content = _content(path, status, inside, what=what)
            whole.update(f"{kind} {content} {name}\0".encode(errors="surrogateescape"))
    except OSError as error:
        raise HarnessError(
            what, f"{error.filename}: {error.strerror}", hint="make it readable"
        ) from error
    return whole.hexdigest()


def copy(top: Path, into: Path, *, what: str, stage: Stage) -> None:
    """Copy the folder ``top`` to the new folder ``into``, as reflinks if the file system has them.

    Hard links are not used: a user who edits a file in place would change the copy too. OSError
    (ENOSPC) if the disk is full; HarnessError (exit 2), in which ``what`` names the input, if cp
    fails otherwise.
    """
    require_tool("cp", package="coreutils")
    options = ("--recursive", "--no-dereference", "--preserve=mode,timestamps", "--reflink=auto")
    argv = ("cp", *options, "--", str(top), str(into))
    stage.note(f"copying {top}")
    stage.command(argv)
    status, output = capture(argv)
    if status != 0:
        cache.raise_if_full(output)
        first = (output.splitlines() or ["cp gives no reason"])[0]
        raise HarnessError(what, f"cannot be copied ({first})", hint="try again", details=output)


def _walk(top: Path) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield path, name relative to ``top``, and lstat of every entry below ``top``.

    The order depends on the names alone, not on the file system.
    """
    pending = [""]
    while pending:
        parent = pending.pop()
        with os.scandir(top / parent) as items:
            entries = sorted(items, key=lambda item: item.name)
        for item in entries:
            name = f"{parent}{item.name}"
            yield item.path, name, item.stat(follow_symlinks=False)
            if item.is_dir(follow_symlinks=False):
                pending.append(f"{name}/")


def _content(path: str, status: os.stat_result, inside: Path, *, what: str) -> tuple[str, str]:
    """Return the kind of the entry ``path``, whose lstat is ``status``, and its content.

    Kinds: ``f`` file, ``x`` executable file (content: sha256), ``d`` folder (content: empty), ``l``
    symlink (content: its target). HarnessError (exit 2) for any other kind, and for a symlink to a
    place outside ``inside``.
    """
    if stat.S_ISREG(status.st_mode):
        with Path(path).open("rb", buffering=0) as file:
            content = hashlib.sha256(file.read()).hexdigest()
        return "x" if status.st_mode & stat.S_IXUSR else "f", content
    if stat.S_ISDIR(status.st_mode):
        return "d", ""
    if not stat.S_ISLNK(status.st_mode):
        raise HarnessError(what, f"{path} is neither a file nor a folder", hint="remove it")
    if not Path(path).resolve().is_relative_to(inside):
        raise HarnessError(
            what, f"{path} is a symlink that leads out of the tree", hint="remove it"
        )
    return "l", str(Path(path).readlink())
