# SPDX-License-Identifier: GPL-2.0-only
"""The compiler and its cache: what builds a kernel, as far as the result depends on it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from kpatch.lib import cache
from kpatch.lib.process import capture, need
from kpatch.tables import packages

# make's, expanded where it calls the compiler: assembler sources go past ccache. In depend mode it
# does not see what they include by .incbin. The kernel's piggy.S names the compressed kernel that
# way, so that another kernel whose compressed size happens to be the same would boot in its place.
_CC = "$(if $(filter %.S,$<),gcc,ccache gcc)"

TEMPORARY = "/tmp/ccache"  # noqa: S108 - of the confined build, and its own

CCACHE_DIR = "CCACHE_DIR"
"""The only setting of ccache that a user has: the folder of the objects."""


@dataclass(frozen=True)
class Compiler:
    """``identity`` names compiler and linker exactly; ``settings`` are make's, for using them."""

    identity: str
    settings: tuple[str, ...]
    cached: bool


def detect() -> Compiler:
    """The gcc and the GNU ld in PATH, through ccache when that is installed.

    HarnessError (exit 2) for a tool that the kernel's build needs and that is missing.
    """
    found = {tool: need(tool, package=package) for tool, package in packages.BUILD.items()}
    identity = "; ".join(_version(found[tool]) for tool in ("gcc", "ld"))
    if shutil.which("ccache") is None:
        return Compiler(identity, (), cached=False)
    return Compiler(identity, (f"CC={_CC}", "HOSTCC=ccache gcc"), cached=True)


def ccache() -> Path:
    """Return the folder of the project's objects: CCACHE_DIR, else one of the cache."""
    own = os.environ.get(CCACHE_DIR)
    path = Path(own).absolute() if own else cache.folder("ccache")
    path.mkdir(parents=True, exist_ok=True)
    return path


def environment(base: Path, *, trusted: bool) -> dict[str, str]:
    """Environment for ccache, so that trees built under different folders share what is the same.

    A build that is not ``trusted`` takes objects and adds none.

    Paths under ``base`` are hashed relative to the folder that the compiler works in, and that
    folder is not hashed: it would only matter for debug information.
    """
    settings = {CCACHE_DIR: str(ccache()), "CCACHE_CONFIGPATH": os.devnull}
    if not trusted:
        # Its folder is read-only for the build, too.
        settings |= {"CCACHE_READONLY": "1", "CCACHE_NOSTATS": "1", "CCACHE_TEMPDIR": TEMPORARY}
    # Depend mode: a miss runs the compiler once instead of the preprocessor before it, which is a
    # fourth of a cold build. The kernel's -Wp,-MMD gives what it needs.
    return settings | {"CCACHE_BASEDIR": str(base), "CCACHE_NOHASHDIR": "1", "CCACHE_DEPEND": "1"}


def _version(tool: str) -> str:
    _, output = capture([tool, "--version"], env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
    return output.partition("\n")[0].strip()
