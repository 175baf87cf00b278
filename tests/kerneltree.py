# SPDX-License-Identifier: GPL-2.0-only
"""Small kernel trees for tests, with the files that the harness reads.

As a folder, a git repository, or a tarball.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Runs a process in its own mount namespace. Without root this needs a user namespace.
UNSHARE = ("unshare", *(() if os.getuid() == 0 else ("--map-root-user",)), "--mount")

MAKEFILE = """\
# SPDX-License-Identifier: GPL-2.0
VERSION = {0}
PATCHLEVEL = {1}
SUBLEVEL = {2}
EXTRAVERSION =
NAME = Test
"""


def make(folder: Path, version: str = "9.9.1") -> Path:
    """Write a tree of ``version`` into the new ``folder``, with an executable and a symlink."""
    files = {
        "Makefile": MAKEFILE.format(*version.split(".")),
        "Kconfig": 'mainmenu "Test"\n',
        "drivers/vfio/vfio_main.c": "int vfio;\n",
        "scripts/run.sh": "#!/bin/sh\n",
        ".gitignore": "*.o\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "scripts/run.sh").chmod(0o755)
    (folder / "include").mkdir()
    (folder / "include/scripts").symlink_to("../scripts")
    return folder


def pack(tree: Path, archive: Path, *, top: str = "linux-9.9") -> str:
    """Pack ``tree`` into ``archive``, compressed according to its suffix. Returns its sha256."""
    kind = archive.suffix.removeprefix(".")
    mode = "w" if kind == "tar" else f"w:{kind}"
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        tar.add(tree, arcname=top)
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def git(folder: Path, *arguments: str) -> str:
    """Run git in ``folder`` with a fixed user name and address. Returns its output."""
    who = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    argv = ("git", "-C", str(folder), *who, *arguments)
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path) -> Path:
    """Write a tree into ``folder``, as a git repository with one commit."""
    make(folder)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


RESOLVE = """\
import signal, sys
from kpatch.errors import HarnessError
from kpatch.source.resolve import resolve
from kpatch.lib.stage import Silent
class Told(Silent):
    def note(self, text):
        print(text, flush=True)
try:
    print(resolve(sys.argv[1], stage=Told()).path)
except HarnessError as error:
    sys.exit(f"{int(error.code)} {error}")
"""


def resolver(spec: str) -> list[str]:
    """Return a command that resolves ``spec`` and prints notes and the path, or the error."""
    return [sys.executable, "-c", RESOLVE, spec]


def environment(cache: Path, **more: str) -> dict[str, str]:
    """Return the environment for the command of `resolver`."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "VFIO_ACPI_CACHE": str(cache), **more}


def leftovers(cache: Path) -> list[str]:
    """Return the names in the cache's folder of trees that are not complete entries."""
    folder = cache / "trees"
    if not folder.exists():
        return []
    return [item.name for item in folder.iterdir() if item.name.startswith(".")]
