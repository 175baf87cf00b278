# SPDX-License-Identifier: GPL-2.0-only
"""Install the missing Debian packages, and make the virtual environment from the lock file.

On a system other than Debian and its derivatives no package is installed; the command that would
install them is printed.

``python3 kpatch/bootstrap.py`` runs under the system's Python before the virtual environment
exists, so it uses the standard library only. A step that has been done is skipped; the check takes
no process.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
if not __package__:  # run as a script, with no PYTHONPATH that leads to the project
    sys.path.insert(0, str(PROJECT))

from kpatch.lib import system  # noqa: E402
from kpatch.lib.environment import VARIABLES  # noqa: E402

VENV = PROJECT / ".venv"
LOCK = PROJECT / "requirements.lock"
STAMP = VENV / "made-from"

MAKE_VENV = (sys.executable, "-I", "-m", "venv", "--clear")

# Variables that pip gets: those of other programs, and how the network is reached. PYTHON* is left
# out, and of PIP_* all but the `settings`.
PIP_VARIABLES = (
    *VARIABLES,
    *("NETRC", "XDG_CACHE_HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME"),
    *("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("all_proxy", "http_proxy", "https_proxy", "no_proxy"),
    *("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
)

# pip's settings that are taken over from the user and the system: the package index, and the access
# to it. Others (target, user, constraint, no-deps, …) would change what is installed where. A
# setting that is a list has one value in each line of a file, and words in a variable.
PIP_LISTS = frozenset({"extra-index-url", "find-links", "trusted-host"})
PIP_WORDS = frozenset(
    {
        *("cache-dir", "cert", "client-cert", "default-timeout", "index-url"),
        *("keyring-provider", "no-index", "proxy", "retries", "timeout"),
    }
)

# A line of `pip config list`. A later one of SECTIONS overrides an earlier one.
SETTING = re.compile(
    r"^(?P<section>global|install|:env:)\.(?P<name>[\w-]+)=(?P<value>'.*'|\".*\")$"
)
SECTIONS = ("global", "install", ":env:")

USAGE = 2

# Debian package, and a command in PATH, or a file, that exists if it is installed.
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
    "lz4": "lz4",
    "perl": "corelist",  # the interpreter alone is in perl-base, without most modules
    "qemu-system-x86": "qemu-system-x86_64",
    "sparse": "sparse",
    "util-linux": "setpriv",
    "uuid-dev": "/usr/include/uuid/uuid.h",
    "xz-utils": "xz",
}


def main() -> int:
    """Install packages and virtual environment. Returns 0, or prints one line and returns 2."""
    return packages() or virtual_environment()


def packages() -> int:
    """Install the missing Debian packages with apt-get. Returns 0 if none is missing afterwards.

    Otherwise prints the packages, or the command that installs them, and returns 2.
    """
    here = system.distribution()
    signs = PACKAGES | {
        name: sign for name, sign in (here.signs if here else {}).items() if name in PACKAGES
    }
    missing = [name for name, sign in signs.items() if not present(sign)]
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("python3-venv")
    if not missing:
        return 0
    if shutil.which("apt-get") is None or not (here is None or here.tried):
        return refuse(f"missing: {', '.join(missing)}; {system.install(missing)}")
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    command = " ".join(["sudo", *install])
    if os.geteuid() == 0:
        before: list[str] = []
    elif shutil.which("sudo") and quiet(["sudo", "-n", "true"]) == 0:
        before = ["sudo", "-n"]
    else:
        return refuse(f"missing Debian packages; run: {command}")
    print(f"vfio-acpi: installing {' '.join(missing)} (about a minute)", flush=True)
    frontend = ["env", "DEBIAN_FRONTEND=noninteractive"]
    # apt's lists may be missing, or name versions that the archive has removed.
    status = quiet([*before, "apt-get", "update"])
    status = quiet([*before, *frontend, *install]) or status
    if any(not present(PACKAGES[name]) for name in missing if name in PACKAGES):
        return refuse(f"apt-get failed with status {status}; run: {command}")
    return 0


def present(sign: str) -> bool:
    """Return whether the command or file ``sign`` exists. Looks in PATH, /usr/sbin and /sbin."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return shutil.which(sign, path=path) is not None or Path(sign).is_file()


def virtual_environment() -> int:
    """Make the virtual environment, unless it was made from the current lock file.

    Returns 0, or prints one line and returns 2: also if it is a link to the environment of another
    checkout with another lock file. Waits for another process that makes it.
    """
    if made():
        return 0
    if VENV.is_symlink():
        # Making it again would empty the environment of another checkout.
        return refuse(f"{VENV} is a link, to an environment of another lock file; remove the link")
    # If two first runs are concurrent, the second one waits: it would empty the folder that the
    # first one fills.
    # The project's folder itself is locked, which leaves no lock file behind.
    project = os.open(PROJECT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(project, fcntl.LOCK_EX)
        return 0 if made() else make()
    finally:
        os.close(project)


def wanted() -> str:
    """Return a digest of the lock file and the Python version: the content of STAMP."""
    return hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()


def made() -> bool:
    """Return whether the virtual environment is complete and made from this lock file."""
    return STAMP.is_file() and STAMP.read_text() == wanted()


def make() -> int:
    """Make the virtual environment. Returns 0, or prints one line and returns 2.

    STAMP is written last: an environment without it counts as incomplete.
    """
    print("vfio-acpi: making the virtual environment .venv (about half a minute)", flush=True)
    STAMP.unlink(missing_ok=True)
    clean = {name: os.environ[name] for name in PIP_VARIABLES if name in os.environ}
    pip = [str(VENV / "bin" / "python"), "-I", "-m", "pip"]
    options = ["-qq", "--require-hashes", "--no-deps", "--requirement", str(LOCK)]
    if not run_step([*MAKE_VENV, str(VENV)], clean):
        return USAGE
    if not run_step([*pip, "install", *options], clean | settings(pip, clean)):
        return USAGE
    STAMP.write_text(wanted())
    return 0


def run_step(argv: list[str], env: dict[str, str]) -> bool:
    """Run the command ``argv``. Returns whether it succeeded; prints a line if it failed."""
    status = subprocess.run(argv, env=env, check=False).returncode
    if status != 0:
        refuse(f"{' '.join(argv[:4])} … failed with status {status}; see above")
    return status == 0


def settings(pip: list[str], clean: dict[str, str]) -> dict[str, str]:
    """Return environment variables for pip, with which it reads no configuration file.

    They include the user's settings in PIP_LISTS and PIP_WORDS, which ``pip config list`` prints
    from all configuration files. ``clean`` is the environment in which to run that.
    """
    known = {f"PIP_{name.upper().replace('-', '_')}" for name in PIP_LISTS | PIP_WORDS}
    pip_variables = {
        name: os.environ[name] for name in {*known, "PIP_CONFIG_FILE"} if name in os.environ
    }
    # `pip config` has options of these names, which select one file; settings would set them.
    every = {"PIP_GLOBAL": "0", "PIP_SITE": "0", "PIP_USER": "0"}
    argv, env = [*pip, "config", "list"], clean | pip_variables | every
    listing = subprocess.run(argv, env=env, stdout=subprocess.PIPE, text=True, check=False)
    matches = [match for line in listing.stdout.splitlines() if (match := SETTING.match(line))]
    taken: dict[str, str] = {}
    for match in sorted(matches, key=lambda match: SECTIONS.index(match["section"])):
        name, value = match["name"], str(ast.literal_eval(match["value"]))
        if name in PIP_LISTS:
            value = " ".join(value.split())
        if value and name in PIP_LISTS | PIP_WORDS:
            taken[f"PIP_{name.upper().replace('-', '_')}"] = value
    return {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **taken}


def quiet(argv: list[str]) -> int:
    """Run ``argv`` and return its status. Prints its output only if it fails."""
    ended = subprocess.run(argv, check=False, capture_output=True, text=True)
    if ended.returncode != 0 and argv[-1] != "true":
        print(ended.stdout + ended.stderr, file=sys.stderr)
    return ended.returncode


def refuse(reason: str) -> int:
    """Print ``reason`` to stderr. Returns the exit status, USAGE."""
    print(f"vfio-acpi: {reason}", file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
