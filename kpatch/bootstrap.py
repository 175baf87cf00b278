# SPDX-License-Identifier: GPL-2.0-only
"""Bring what the project needs: Debian packages, and a virtual environment from the lock file.

Run by the system's Python before anything else is there, so it uses the standard library only:
``python3 kpatch/bootstrap.py``. Each step is skipped when it is already done, which is found
out without starting a process.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
LOCK = PROJECT / "requirements.lock"
STAMP = VENV / "made-from"

MAKE_VENV = (sys.executable, "-m", "venv", "--clear")

USAGE = 2

# Debian package: what shows that it is there, a command in PATH or else a file.
PACKAGES: dict[str, str] = {
    "acpica-tools": "iasl",
    "bc": "bc",
    "bison": "bison",
    "bzip2": "bzip2",  # for tarballs; not in Debian's minimal system
    "bubblewrap": "bwrap",
    "busybox-static": "/bin/busybox",
    "ccache": "ccache",
    "erofs-utils": "mkfs.erofs",
    "flex": "flex",
    "gcc": "gcc",
    "git": "git",
    "gpg": "gpg",  # for the tests: apt's signatures
    "gpg-agent": "gpg-agent",
    "kmod": "depmod",
    "libc6-dev": "/usr/include/stdio.h",
    "libelf-dev": "/usr/include/libelf.h",
    "perl": "corelist",  # the interpreter alone is in perl-base, without most modules
    "qemu-system-x86": "qemu-system-x86_64",
    "sparse": "sparse",
    "util-linux": "setpriv",
    "uuid-dev": "/usr/include/uuid/uuid.h",
    "xz-utils": "xz",
}


def main() -> int:
    """Make everything ready; the exit status (0, or 2 with one line of what to do)."""
    return packages() or environment()


def packages() -> int:
    """Install the missing Debian packages, or print the command that does."""
    missing = [name for name, sign in PACKAGES.items() if not present(sign)]
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("python3-venv")
    if not missing:
        return 0
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    command = " ".join(["sudo", *install])
    if shutil.which("apt-get") is None:
        return refuse(f"missing: {' '.join(missing)}; install what your system calls these")
    if os.geteuid() == 0:
        before: list[str] = []
    elif shutil.which("sudo") and quiet(["sudo", "-n", "true"]) == 0:
        before = ["sudo", "-n"]
    else:
        return refuse(f"missing Debian packages; run: {command}")
    print(f"vfio-acpi: installing {' '.join(missing)} (about a minute)", flush=True)
    frontend = ["env", "DEBIAN_FRONTEND=noninteractive"]
    # The lists may be missing or so old that what they name is gone from the archive.
    status = quiet([*before, "apt-get", "update"])
    status = quiet([*before, *frontend, *install]) or status
    if any(not present(PACKAGES[name]) for name in missing if name in PACKAGES):
        return refuse(f"apt-get failed with status {status}; run: {command}")
    return 0


def present(sign: str) -> bool:
    """Whether the command or file is there. Administrators' commands count for users too."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return shutil.which(sign, path=path) is not None or Path(sign).is_file()


def environment() -> int:
    """Make the virtual environment, unless it was made from this very lock file."""
    if made():
        return 0
    # Two first runs at once: the second waits, instead of emptying what the first fills. The
    # lock is the project's folder itself, so that no file is left behind.
    project = os.open(PROJECT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(project, fcntl.LOCK_EX)
        return 0 if made() else make()
    finally:
        os.close(project)


def wanted() -> str:
    """Name what the virtual environment is made from."""
    return hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()


def made() -> bool:
    """Whether the virtual environment is whole and of this lock file."""
    return STAMP.is_file() and STAMP.read_text() == wanted()


def make() -> int:
    """Make it; the stamp comes last, so that half of one is never taken for whole."""
    print("vfio-acpi: making the virtual environment .venv (about half a minute)", flush=True)
    STAMP.unlink(missing_ok=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "-qq", "install"]
    for argv in (
        [*MAKE_VENV, str(VENV)],
        [*pip, "--require-hashes", "--no-deps", "--requirement", str(LOCK)],
    ):
        status = subprocess.run(argv, check=False).returncode
        if status != 0:
            return refuse(f"{' '.join(argv[:4])} … failed with status {status}; see above")
    STAMP.write_text(wanted())
    return 0


def quiet(argv: list[str]) -> int:
    """Run ``argv``, showing its output only if it fails."""
    run = subprocess.run(argv, check=False, capture_output=True, text=True)
    if run.returncode != 0 and argv[-1] != "true":
        print(run.stdout + run.stderr, file=sys.stderr)
    return run.returncode


def refuse(reason: str) -> int:
    """Say why it cannot go on."""
    print(f"vfio-acpi: {reason}", file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
