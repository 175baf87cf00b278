# SPDX-License-Identifier: GPL-2.0-only
"""Find compiler, linker and ccache, and make the settings and the environment for make."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.lib import cache, system
from kpatch.lib.process import capture, require_tool
from kpatch.tables import packages

# Expanded by make where it calls the compiler: assembler sources are compiled without ccache. In
# depend mode ccache does not see files that they include by .incbin. The kernel's piggy.S includes
# the compressed kernel that way: ccache would return the object with an older kernel if both have
# the same compressed size.
_CC = "$(if $(filter %.S,$<),gcc,ccache gcc)"

TEMPORARY = "/tmp/ccache"  # noqa: S108 - in the private /tmp of the confined build

CCACHE_DIR = "CCACHE_DIR"
"""The only setting of ccache that is taken from the user: the folder of the cached objects."""


@dataclass(frozen=True)
class Compiler:
    """Compiler and linker.

    ``identity`` has the version lines of both, and is part of a kernel's id. ``settings`` are
    arguments for make. ``cached`` is true if ccache is used.
    """

    identity: str
    settings: tuple[str, ...]
    cached: bool


def detect() -> Compiler:
    """Return gcc and GNU ld of PATH, with ccache if that is installed.

    HarnessError (exit 2) if a tool that the kernel's build needs is missing.
    """
    paths = {tool: require_tool(tool, package=package) for tool, package in packages.BUILD.items()}
    identity = "; ".join(_version(paths[tool]) for tool in ("gcc", "ld"))
    if shutil.which("ccache") is None:
        return Compiler(identity, (), cached=False)
    return Compiler(identity, (f"CC={_CC}", "HOSTCC=ccache gcc"), cached=True)


LLVM = ("clang", "ld.lld", "llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-strip")
"""The programs that kbuild runs with LLVM=1 (LLVM=-19: clang-19 and so on)."""


def llvm() -> Compiler:
    """Return the newest clang of PATH that has its linker and binary tools beside it.

    HarnessError (exit 2) if there is none.
    """
    found: dict[int, str] = {}
    for suffix in ("", *(f"-{number}" for number in range(10, 100))):
        if all(shutil.which(f"{tool}{suffix}") for tool in LLVM):
            match = re.search(r"version (\d+)", _version(f"clang{suffix}"))
            found.setdefault(int(match[1]) if match else 0, suffix)
    if not found:
        raise HarnessError(
            "clang",
            "not found in PATH, with ld.lld and the llvm tools",
            hint=system.install(["clang", "lld", "llvm"]),
        )
    suffix = found[max(found)]
    identity = _version(f"clang{suffix}")
    return Compiler(identity, (f"LLVM={suffix or 1}",), cached=False)


def identity(tool: str) -> str:
    """Return the version line of a program in PATH."""
    return _version(tool)


def ccache() -> Path:
    """Return ccache's folder, and make it: CCACHE_DIR if set, else a folder in the cache."""
    own = os.environ.get(CCACHE_DIR)
    path = Path(own).absolute() if own else cache.folder("ccache")
    path.mkdir(parents=True, exist_ok=True)
    return path


def environment(base: Path, *, trusted: bool, derived: bool = False) -> dict[str, str]:
    """Return ccache's environment variables, set so that different worktrees share objects.

    A build that is not ``trusted`` reads cached objects and adds none. A build with a ``derived``
    config also finds the objects of other derived configs whose sources do not use the symbols in
    which the configs differ.

    ccache hashes paths under ``base`` relative to the compiler's working folder, and does not hash
    that folder itself, which would only matter for debug information.
    """
    settings = {CCACHE_DIR: str(ccache()), "CCACHE_CONFIGPATH": os.devnull}
    if not trusted:
        # The build also has no write access to ccache's folder.
        settings |= {"CCACHE_READONLY": "1", "CCACHE_NOSTATS": "1", "CCACHE_TEMPDIR": TEMPORARY}
    if not derived:
        # Depend mode: on a miss ccache does not run the preprocessor before the compiler, which
        # saves a fourth of a cold build. It needs dependency files, which kbuild's -Wp,-MMD writes.
        # autoconf.h defines every symbol and is one of them, so that a build with another config
        # finds no object.
        settings["CCACHE_DEPEND"] = "1"
    return settings | {"CCACHE_BASEDIR": str(base), "CCACHE_NOHASHDIR": "1"}


def _version(tool: str) -> str:
    _, output = capture([tool, "--version"], env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
    return output.partition("\n")[0].strip()
