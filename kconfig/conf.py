# SPDX-License-Identifier: GPL-2.0-only
"""The kernel tree's own ``conf``, run by the tree's own Makefile, out of tree: it decides."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from kpatch.errors import HarnessError
from kpatch.outcomes import ExitCode
from kpatch.process import capture, need
from kpatch.stage import shell_line

# What conf and the Makefiles may take from the user's environment. All the rest (ARCH, CC,
# KCONFIG_*, KBUILD_*, MAKEFLAGS, …) would change the answer without anybody having asked.
PASSED_ON = ("HOME", "LOGNAME", "PATH", "TMPDIR", "USER")

# ENOSPC in the words of the C library, and so of every tool that meets it.
NO_SPACE = os.strerror(errno.ENOSPC)

# conf's "file:line: syntax error", the shell's "flex: not found", the Makefile's own "*** The
# source tree is not clean", and make's "*** No rule to make target".
_ERROR = re.compile(r"error:? |error$|: not found|\*\*\*.*\w", re.IGNORECASE)

ENVIRONMENT_FILE = "conf.environment"
ENVIRONMENT_PROBE = "environment.Kconfig"


def environment() -> dict[str, str]:
    """The environment that the kernel's make gets."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return kept | {"LC_ALL": "C"}


def command(target: str, *settings: str, source: Path, out: Path) -> list[str]:
    """``make O=out settings… target`` in ``source``, which is not written to."""
    make = need("make", package="make")
    jobs = f"-j{os.cpu_count() or 1}"  # conf itself is built first
    return [make, "-s", jobs, "-C", str(source), f"O={out}", *settings, target]


def commands(asked: Path, *, source: Path, out: Path) -> tuple[list[str], ...]:
    """What makes ``out``/.config of the fragment file ``asked``.

    Everything that it does not ask for is off; what only became visible by that has its default.
    """
    return (
        command("allnoconfig", f"KCONFIG_ALLCONFIG={asked}", source=source, out=out),
        command("olddefconfig", source=source, out=out),
    )


def run(argv: list[str]) -> None:
    """Run one of the commands; HarnessError (exit 4) with all that make said if it fails.

    OSError (ENOSPC) if it was for want of space.
    """
    status, output = capture(argv, env=environment())
    if status != 0 and NO_SPACE in output:
        raise OSError(errno.ENOSPC, NO_SPACE)
    if status != 0:
        raise HarnessError(
            f"make {argv[-1]}",
            f"exit status {status}: {_first_error(output)}",
            mend="see its output below; it needs flex, bison, a compiler and a clean tree",
            code=ExitCode.BUILD,
            details=f"{shell_line(argv)}\n{output}",
        )


def _first_error(output: str) -> str:
    """The first line that names an error; make's last one only says that there was one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    named = (line for line in lines if _ERROR.search(line))
    return next(named, lines[-1] if lines else "no message")


def resolve(asked: Path, *, source: Path, out: Path) -> str:
    """The .config that the tree makes of the fragment file ``asked``."""
    for argv in commands(asked, source=source, out=out):
        run(argv)
    return (out / ".config").read_text(encoding="utf-8")


def variables(*, source: Path, out: Path) -> dict[str, str]:
    """The environment in which the tree's Makefile runs conf: CC, RUSTC, PAHOLE_VERSION, ….

    What the top Makefile exports differs between releases, so conf is asked: it is given a
    Kconfig file (``KBUILD_KCONFIG``) whose one macro writes the environment down.
    """
    probe, answer = out / ENVIRONMENT_PROBE, out / ENVIRONMENT_FILE
    probe.write_text(f"written := $(shell,env -0 >{ENVIRONMENT_FILE})\n", encoding="utf-8")
    run(command("listnewconfig", f"KBUILD_KCONFIG={probe}", source=source, out=out))
    pairs = answer.read_text(encoding="utf-8", errors="surrogateescape").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
