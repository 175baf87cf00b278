# SPDX-License-Identifier: GPL-2.0-only
"""The kernel tree's own ``conf``, run by the tree's own Makefile, out of tree: it decides."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kpatch import confine
from kpatch.errors import HarnessError
from kpatch.outcomes import ExitCode
from kpatch.process import need
from kpatch.stage import shell_line

# conf's "file:line: syntax error", the shell's "flex: not found", the Makefile's own "*** The
# source tree is not clean", and make's "*** No rule to make target".
_ERROR = re.compile(r"error:? |error$|: not found|\*\*\*.*\w", re.IGNORECASE)

ENVIRONMENT_FILE = "conf.environment"
ENVIRONMENT_PROBE = "environment.Kconfig"


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


def run(argv: list[str], *, source: Path, out: Path, asked: Path | None = None) -> None:
    """Run one of the commands; HarnessError (exit 4) with all that make said if it fails.

    ``asked`` is the fragment file, if the command reads one.

    OSError (ENOSPC) if it was for want of space.
    """
    readable = () if asked is None else (asked,)
    status, output = confine.make(argv, source=source, out=out, readable=readable)
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
        run(argv, source=source, out=out, asked=asked)
    return confine.product(out, ".config").read_text(encoding="utf-8")


def variables(*, source: Path, out: Path) -> dict[str, str]:
    """The environment in which the tree's Makefile runs conf: CC, RUSTC, PAHOLE_VERSION, ….

    What the top Makefile exports differs between releases, so conf is asked: it is given a
    Kconfig file (``KBUILD_KCONFIG``) whose one macro writes the environment down.
    """
    probe, answer = out / ENVIRONMENT_PROBE, out / ENVIRONMENT_FILE
    probe.write_text(f"written := $(shell,env -0 >{ENVIRONMENT_FILE})\n", encoding="utf-8")
    argv = command("listnewconfig", f"KBUILD_KCONFIG={probe}", source=source, out=out)
    run(argv, source=source, out=out)
    made = confine.product(out, answer.name)
    text = made.read_text(encoding="utf-8", errors="surrogateescape")
    pairs = text.replace(confine.PLACE, str(source)).split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
