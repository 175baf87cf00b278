# SPDX-License-Identifier: GPL-2.0-only
"""Install the missing Debian packages, and make the virtual environment from the lock file.

Packages are installed only by apt-get, as root or by sudo without a password. In other cases, and
on a system that is known not to be like Debian, an instruction to install them is printed.

``python3 kpatch/bootstrap.py`` runs under the system's Python before the virtual environment
exists, so it uses the standard library only. A step that is already done is skipped; to find that
out, no other process is started. ``bootstrap.py matrix`` also installs what the command ``matrix``
needs, ``bootstrap.py browser`` what the tests of pages in a browser need, ``bootstrap.py mutants``
what the generation of mutants needs, ``bootstrap.py coverage`` what that command needs (EXTRAS).
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
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
if not __package__:  # run as a script, with no PYTHONPATH that leads to the project
    sys.path.insert(0, str(PROJECT))

from kpatch.lib import system  # noqa: E402
from kpatch.lib.environment import VARIABLES  # noqa: E402

VENV = PROJECT / ".venv"
LOCK = PROJECT / "requirements.lock"
STAMP = VENV / "made-from"

# Lock files of further packages, by the word that asks for them.
EXTRAS = {
    "matrix": PROJECT / "requirements-matrix.lock",
    "browser": PROJECT / "requirements-browser.lock",
    "mutants": PROJECT / "requirements-mutants.lock",
    "coverage": PROJECT / "requirements-coverage.lock",
}

MAKE_VENV = (sys.executable, "-I", "-m", "venv", "--clear")

# Environment variables that are passed on to pip: those that every program gets, and those for the
# access to the network. PYTHON* are left out, and of PIP_* all except those of `settings`.
PIP_VARIABLES = (
    *VARIABLES,
    *("NETRC", "XDG_CACHE_HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME"),
    *("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("all_proxy", "http_proxy", "https_proxy", "no_proxy"),
    *("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
)

# pip's settings that are taken over from the user and the system: the package index, and the access
# to it. Others (target, user, constraint, no-deps, …) would change the installed packages or their
# place. Those in PIP_LISTS are lists: one value per line in a configuration file, separated by
# spaces in an environment variable.
PIP_LISTS = frozenset({"extra-index-url", "find-links", "trusted-host"})
PIP_WORDS = frozenset(
    {
        *("cache-dir", "cert", "client-cert", "default-timeout", "index-url"),
        *("keyring-provider", "no-index", "proxy", "retries", "timeout"),
    }
)

# A line of `pip config list`. In SECTIONS, a later section overrides an earlier one.
SETTING = re.compile(
    r"^(?P<section>global|install|:env:)\.(?P<name>[\w-]+)=(?P<value>'.*'|\".*\")$"
)
SECTIONS = ("global", "install", ":env:")

USAGE = 2

# Maps a Debian package to a command in PATH or a file, which exists if the package is installed.
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

# The same, of what a word of EXTRAS needs in addition.
EXTRA_PACKAGES = {
    "browser": {
        "chromium": "chromium",
        "fonts-dejavu-core": "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    }
}


def main(words: Sequence[str] = ()) -> int:
    """Install the packages and make the virtual environment, with those EXTRAS that ``words`` name.

    Returns the exit status, 0 or 2.
    """
    return packages(words) or virtual_environment() or next(filter(None, map(extra, words)), 0)


def packages(words: Sequence[str] = ()) -> int:
    """Install what is missing of PACKAGES and the words' EXTRA_PACKAGES, and python3-venv.

    It is done by apt-get.
    Returns 0 if none of them is missing then. If apt-get cannot be used or fails, print an
    instruction that names the missing packages, and return 2.
    """
    needed = dict(PACKAGES)
    for word in words:
        needed |= EXTRA_PACKAGES.get(word, {})
    here = system.distribution()
    signs = needed | {
        name: sign for name, sign in (here.signs if here else {}).items() if name in needed
    }
    missing = [name for name, sign in signs.items() if not present(sign)]
    if not venv_present():
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
    # apt's package lists may be missing, or name versions that the archive no longer has.
    status = quiet([*before, "apt-get", "update"])
    status = quiet([*before, *frontend, *install]) or status
    absent = any(not present(needed[name]) for name in missing if name in needed)
    if absent or not venv_present():
        return refuse(f"apt-get failed with status {status}; run: {command}")
    return 0


def venv_present() -> bool:
    """Return whether Python has ensurepip, which venv needs; Debian has it in python3-venv."""
    importlib.invalidate_caches()  # apt-get may have installed it a moment ago
    return importlib.util.find_spec("ensurepip") is not None


def present(sign: str) -> bool:
    """Return whether ``sign`` is a command in PATH, /usr/sbin or /sbin, or the path of a file."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return shutil.which(sign, path=path) is not None or Path(sign).is_file()


def virtual_environment() -> int:
    """Make the virtual environment, unless it was made from the current lock file.

    Waits if another process is making it. Returns 0, or prints the reason to stderr and returns 2.
    The latter also if .venv is a symbolic link to an environment that was made from another lock
    file.
    """
    if made():
        return 0
    if VENV.is_symlink():
        # Making it again would empty the environment of another checkout.
        return refuse(f"{VENV} is a link, to an environment of another lock file; remove the link")
    # If two first runs are concurrent, the second one waits: it would empty the folder that the
    # first one is filling. The lock is on the project's folder, so that no lock file is left.
    project = os.open(PROJECT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(project, fcntl.LOCK_EX)
        return 0 if made() else make()
    finally:
        os.close(project)


def wanted(lock: Path | None = None) -> str:
    """Return the content that STAMP must have: a digest of the lock file and Python's version."""
    return hashlib.sha256((lock or LOCK).read_bytes() + sys.version.encode()).hexdigest()


def made() -> bool:
    """Return whether the virtual environment is complete, and made from what `wanted` describes."""
    return STAMP.is_file() and STAMP.read_text() == wanted()


def make() -> int:
    """Make the virtual environment. Returns 0, or prints the failed step to stderr and returns 2.

    STAMP is written last: an environment without it counts as incomplete.
    """
    print("vfio-acpi: making the virtual environment .venv (about half a minute)", flush=True)
    STAMP.unlink(missing_ok=True)
    if not run_step([*MAKE_VENV, str(VENV)], variables()) or not install(LOCK):
        return USAGE
    STAMP.write_text(wanted())
    return 0


def variables() -> dict[str, str]:
    """Return the environment variables for pip, without its settings."""
    return {name: os.environ[name] for name in PIP_VARIABLES if name in os.environ}


def install(lock: Path) -> bool:
    """Install the packages of ``lock`` into the virtual environment; return whether it worked."""
    clean = variables()
    pip = [str(VENV / "bin" / "python"), "-I", "-m", "pip"]
    options = ["-qq", "--require-hashes", "--no-deps", "--requirement", str(lock)]
    return run_step([*pip, "install", *options], clean | settings(pip, clean))


def extra(word: str) -> int:
    """Install the packages of the lock file EXTRAS[word], unless they are there. Returns 0 or 2."""
    lock, stamp = EXTRAS[word], STAMP.with_name(f"{STAMP.name}-{word}")
    content = wanted() + wanted(lock)
    if stamp.is_file() and stamp.read_text() == content:
        return 0
    print(f"vfio-acpi: installing what {word} needs (some seconds)", flush=True)
    if not install(lock):
        return USAGE
    stamp.write_text(content)
    return 0


def run_step(argv: list[str], env: dict[str, str]) -> bool:
    """Run ``argv`` with the environment ``env``; return whether it succeeded.

    If it failed, a line with its exit status is printed to stderr.
    """
    status = subprocess.run(argv, env=env, check=False).returncode
    if status != 0:
        refuse(f"{' '.join(argv[:4])} … failed with status {status}; see above")
    return status == 0


def settings(pip: list[str], clean: dict[str, str]) -> dict[str, str]:
    """Return environment variables with which pip reads no configuration file.

    Those of the user's and the system's settings that are in PIP_LISTS or PIP_WORDS are among the
    variables. They are read by ``pip config list``, from all configuration files and the PIP_*
    variables. ``pip`` is the argv of pip, ``clean`` the environment to run it in.
    """
    known = {f"PIP_{name.upper().replace('-', '_')}" for name in PIP_LISTS | PIP_WORDS}
    pip_variables = {
        name: os.environ[name] for name in {*known, "PIP_CONFIG_FILE"} if name in os.environ
    }
    # `pip config` has the options --global, --site and --user, which select one configuration file.
    # A setting of the same name would set the option.
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
    """Run ``argv`` and return its exit status. If it fails, print its output to stderr.

    Nothing is printed if the last word is "true": whether sudo works is only tried.
    """
    ended = subprocess.run(argv, check=False, capture_output=True, text=True)
    if ended.returncode != 0 and argv[-1] != "true":
        print(ended.stdout + ended.stderr, file=sys.stderr)
    return ended.returncode


def refuse(reason: str) -> int:
    """Print ``reason`` to stderr, and return the exit status 2 (USAGE)."""
    print(f"vfio-acpi: {reason}", file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
