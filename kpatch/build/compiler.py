# SPDX-License-Identifier: GPL-2.0-only
"""Find compiler, linker and ccache; set make's variables and environment so that it uses them."""

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
# depend mode ccache does not see files that a source includes by .incbin. The kernel's piggy.S
# includes the compressed kernel that way: ccache would return the object with an older kernel if
# both have the same compressed size.
_CC = "$(if $(filter %.S,$<),gcc,ccache gcc)"

TEMPORARY = "/tmp/ccache"  # noqa: S108 - in the private /tmp of the confined build

CCACHE_DIR = "CCACHE_DIR"
"""The only environment variable of ccache that is taken from the user: the folder of its cache."""


@dataclass(frozen=True)
class Compiler:
    """A compiler, with its linker and tools, for make.

    ``identity`` has the version lines of gcc and ld, or of clang, and of the tools that
    `kpatch.build.variant.tools` adds, joined by "; "; it is part of the cache keys of what they
    compile. ``settings`` are the variables for make's command line that select the compiler
    ("LLVM=1") and ccache. ``cached`` is true if make calls it by ccache.
    """

    identity: str
    settings: tuple[str, ...]
    cached: bool


def detect() -> Compiler:
    """Return gcc and GNU ld of PATH, with ccache if that is installed.

    HarnessError (exit 2) if a tool of `packages.BUILD` is missing.
    """
    paths = {tool: require_tool(tool, package=package) for tool, package in packages.BUILD.items()}
    identity = "; ".join(_version(paths[tool]) for tool in ("gcc", "ld"))
    if shutil.which("ccache") is None:
        return Compiler(identity, (), cached=False)
    return Compiler(identity, (f"CC={_CC}", "HOSTCC=ccache gcc"), cached=True)


LLVM = ("clang", "ld.lld", "llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-strip")
"""Programs that kbuild runs with LLVM=1. With LLVM=-19 it runs clang-19, ld.lld-19, and so on."""


def llvm() -> Compiler:
    """Return the newest clang for which PATH has all programs of LLVM with the same suffix.

    Suffixes are "" and "-10" to "-99". ccache is not used. HarnessError (exit 2) if there is none.
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
    """Return the first line that ``tool``, a program in PATH, prints for ``--version``."""
    return _version(tool)


def ccache() -> Path:
    """Return the folder of ccache's objects, and create it if it is missing.

    It is $CCACHE_DIR if that is set, else the folder ``ccache`` in the harness's own cache.
    """
    own = os.environ.get(CCACHE_DIR)
    path = Path(own).absolute() if own else cache.folder("ccache")
    path.mkdir(parents=True, exist_ok=True)
    return path


def environment(base: Path, *, trusted: bool, derived: bool = False) -> dict[str, str]:
    """Return the CCACHE_* variables for a build of the source folder ``base``.

    The folder of `ccache` is made. Builds in different worktrees share ccache's objects: ccache
    hashes paths below ``base`` as relative to the compiler's working folder. It does not hash the
    working folder itself, which would only matter for debug information.

    ``trusted`` is false if the series comes from a file: its build uses ccache's objects but adds
    none. ``derived`` is true if `kpatch.build.config.derive` made the .config: ccache then looks up
    the preprocessed source. A source that does not use the symbols in which two such configs differ
    has the same object in both. If ``derived`` is false, only builds with the same .config share
    objects.
    """
    settings = {CCACHE_DIR: str(ccache()), "CCACHE_CONFIGPATH": os.devnull}
    if not trusted:
        # The build also has no write access to ccache's folder.
        settings |= {"CCACHE_READONLY": "1", "CCACHE_NOSTATS": "1", "CCACHE_TEMPDIR": TEMPORARY}
    if not derived:
        # Depend mode: on a miss ccache does not run the preprocessor before the compiler, which
        # saves a fourth of a cold build. It needs dependency files, which kbuild's -Wp,-MMD writes.
        # They name autoconf.h, which defines every symbol, so that a build with another config
        # finds no object.
        settings["CCACHE_DEPEND"] = "1"
    return settings | {"CCACHE_BASEDIR": str(base), "CCACHE_NOHASHDIR": "1"}


def _version(tool: str) -> str:
    _, output = capture([tool, "--version"], env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
    return output.partition("\n")[0].strip()
