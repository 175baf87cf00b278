# SPDX-License-Identifier: GPL-2.0-only
"""Fetch Debian's acpid and acpi_listen for the guest: the tests use them as clients of acpi_event.

They are not part of this project, and show whether an existing program understands the events. The
package comes from the system's own Debian archive. It is unpacked into the cache, not installed:
Debian starts an installed acpid, which would react to this machine's buttons. The programs need no
library except the C library.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache, environment, process, system
from kpatch.lib.stage import Stage
from kpatch.source import debian
from kpatch.tables.outcomes import ExitCode

PACKAGE = "acpid"

# The programs, and their paths in the package.
PROGRAMS = {"acpid": "usr/sbin/acpid", "acpi_listen": "usr/bin/acpi_listen"}

# The oldest suite first: a program that was linked with an older C library runs with a newer one.
SUITES = ("bookworm", "trixie", "sid")

# Name of a file in the folder of the programs. Its line is "VERSION from SUITE" or "installed".
ORIGIN = "origin"

# Folders of system administration programs; a user's PATH may lack them.
ADMINISTRATORS = ("/usr/sbin", "/sbin")


def folder(*, stage: Stage) -> Path | None:
    """Return the folder in the cache with PROGRAMS and ORIGIN; fetch the package if needed.

    If the package cannot be fetched (no network, another distribution), the programs that are
    installed on this system are copied instead. If they are not installed either, the result
    depends on the failure: None if this system cannot fetch the package (no apt-get, no archive
    that has it), which is reported to ``stage``; the tests with acpid are then skipped.
    HarnessError (exit 7) if the failure may be temporary; CacheError, at once, if the cache cannot
    be used.
    """
    key = cache.digest((PACKAGE, *SUITES, *PROGRAMS.values()))

    def waiting() -> None:
        stage.say(f"waiting for another run that fetches {PACKAGE}")

    try:
        path, _ = cache.entry("clients", key, lambda at: _fill(at, stage), waiting=waiting)
    except cache.CacheError:
        raise
    except HarnessError as error:
        if error.code is not ExitCode.USAGE:
            raise
        stage.say(f"{error}; the tests that need it cannot run")
        return None
    return path


def _fill(at: Path, stage: Stage) -> None:
    try:
        origin = _fetch(at, stage)
    except cache.CacheError:
        raise  # copying the installed programs would fail, too: they go to the same folder
    except HarnessError as error:
        there = _installed()
        if len(there) < len(PROGRAMS):
            never = error.code is ExitCode.USAGE
            hint = "look at the network and at the system's apt sources, and try again"
            raise HarnessError(
                PACKAGE,
                error.cause,
                hint=system.install([PACKAGE]) if never else hint,
                code=error.code,
                details=error.details,
            ) from error
        stage.say(f"{PACKAGE}: {error.cause}; taking the one that is installed")
        for name, path in there.items():
            shutil.copy2(path, at / name)
        origin = "installed"
    (at / ORIGIN).write_text(f"{origin}\n")


def _fetch(at: Path, stage: Stage) -> str:
    """Download the package and put its programs into the folder ``at``.

    Returns "VERSION from SUITE". HarnessError: exit 2 if no suite has the package, or apt-get or
    dpkg-deb is not installed; exit 7 if the download fails, or the package is damaged or
    lacks a program.
    """
    package = debian.find(PACKAGE, SUITES, what=PACKAGE, stage=stage)
    deb = debian.download(package, at, what=PACKAGE, stage=stage)
    root = at / "root"
    argv = (process.require_tool("dpkg-deb", package="dpkg"), "--extract", str(deb), str(root))
    stage.command(argv)
    status, output = process.capture(argv, env=environment.clean())
    missing = [path for path in PROGRAMS.values() if not (root / path).is_file()]
    if status != 0 or missing:
        cache.raise_if_full(output)
        raise HarnessError(
            PACKAGE,
            f"{deb.name} holds no {missing[0]}" if status == 0 else f"{deb.name} is damaged",
            hint="get it again",
            code=ExitCode.LOST,
            details=output,
        )
    for name, path in PROGRAMS.items():
        (root / path).rename(at / name)
    shutil.rmtree(root)
    deb.unlink()
    return f"{package.version} from {package.suite}"


def _installed() -> dict[str, Path]:
    """Return the paths of those PROGRAMS that are in PATH or ADMINISTRATORS, by name."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *ADMINISTRATORS])
    paths = {name: shutil.which(name, path=path) for name in PROGRAMS}
    return {name: Path(at) for name, at in paths.items() if at is not None}
